"""The shop itself: five real services that fail as its scenarios say they do."""

import os
import socket
from pathlib import Path

import pytest

from lighttrace.cli import demo, shop


@pytest.fixture(scope="module")
def running() -> "object":
    if shop.missing():
        pytest.fail(f"the extra `demo` is not installed: {shop.missing()}")
    with socket.socket() as nobody:  # bound and not listening: a backend that is down, which must not matter
        nobody.bind(("127.0.0.1", 0))
        with shop.Shop(f"http://127.0.0.1:{nobody.getsockname()[1]}", "sqlite") as started:
            yield started


@pytest.mark.slow
@pytest.mark.parametrize("scenario", demo.load_scenarios(), ids=lambda scenario: scenario.name)
def test_storefront_answers_as_the_scenario_says(running: shop.Shop, scenario: demo.Scenario) -> None:
    for name in scenario.stopped:
        running.stop(name)
    try:
        assert demo.send(scenario, running.ports["storefront"]) == scenario.status
    finally:
        running.start(*scenario.stopped)


@pytest.mark.slow
def test_service_that_is_stopped_refuses_connections_and_comes_back(running: shop.Shop) -> None:
    address = ("127.0.0.1", running.ports["bank"])
    running.stop("bank")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
    running.start("bank")
    socket.create_connection(address, timeout=5).close()


def test_service_that_does_not_start_is_told_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shop.COMMANDS, "checkout", ("-c", "print('planted'); raise SystemExit(3)"))
    started = shop.Shop("http://127.0.0.1:1", "sqlite")
    with pytest.raises(shop.ShopError, match=r"(?s)checkout ended with code 3.*planted"):
        started.__enter__()
    assert not started.directory.exists()
    with pytest.raises(ConnectionRefusedError):  # and the others are not left behind
        socket.create_connection(("127.0.0.1", started.ports["bank"]), timeout=5)


def test_what_configures_tracing_does_not_reach_the_services() -> None:
    mine = {"OTEL_SDK_DISABLED": "true", "LIGHTTRACE_TEAM": "x", "HTTP_PROXY": "http://proxy", "https_proxy": "p", "PATH": "/bin"}
    clean = shop.clean_environment(mine)
    assert set(clean) - {"PYTHONPATH"} == {"PATH"}


def test_scenarios_have_the_known_culprits() -> None:
    known = {scenario.name: scenario.verdict["team"] for scenario in demo.load_scenarios()}
    assert known == {
        "all-well": None,
        "fraud-exception": "risk",
        "inventory-n-plus-one": "logistics",
        "bank-refuses-connections": "payments",
        "bad-request-by-storefront": "web",
        "error-handled-by-retry": None,
        "slow-recommendation-on-the-path": "discovery",
        "slow-recommendation-off-the-path": "payments",
        "timeout-above-a-slow-service": "logistics",
        "bank-hangs": "payments",
        "one-slow-branch": "logistics",
        "exception-in-a-library": "risk",
        "caller-that-lies": "risk",
    }


def test_fraud_checks_belong_to_risk_by_codeowners_alone(tmp_path: Path) -> None:
    from lighttrace.config import load
    from lighttrace.ownership import Resolver

    target = tmp_path / "shop"
    shop._copy(shop.locate(), target)
    resolver = Resolver(load(environ={}, directory=str(target)))
    assert resolver.team_for_code(str(target / "checkout" / "fraud.py"), "checkout.fraud") == ("risk", "codeowners")
    assert resolver.team_for_code(str(target / "checkout" / "app.py"), "checkout.app") == ("payments", "codeowners")
    assert resolver.peer("localhost", 7005) == ("bank", "payments")
    assert resolver.peer("127.0.0.1", 7002) is None
    assert "risk" not in (target / "checkout" / "fraud.py").read_text().split('"""', 2)[2]
    assert os.path.exists(target / "README.md")
