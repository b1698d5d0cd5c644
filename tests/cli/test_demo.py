"""`lighttrace demo`: what makes a trace whole, what makes a verdict right, and the whole of it, for real."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lighttrace.analysis.decode import from_json_line
from lighttrace.cli import demo, shop

SERVICES = {"storefront", "checkout", "inventory", "recommendations"}


def scenario(**verdict: object) -> demo.Scenario:
    return demo.Scenario("name", "title", {}, 200, ["storefront"], verdict)


def test_verdict_that_is_not_the_known_one_is_told() -> None:
    known = scenario(kind="error", team="risk", code="checkout/fraud.py")
    assert known.mistakes({"kind": "error", "team": "risk", "code": "checkout/fraud.py:25 in score", "service": "x"}) == []
    assert known.mistakes({"kind": "error", "team": "web", "code": None}) == [
        "team is 'web' and should be 'risk'",
        "code is None and should be 'checkout/fraud.py'",
    ]


def test_scenario_that_nobody_has_is_told() -> None:
    with pytest.raises(shop.ShopError, match="there is no scenario nonsense; there are all-well"):
        demo.load_scenarios(["nonsense"])


def test_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shop, "NEEDED", ("json", "no_such_module_anywhere"))
    from lighttrace.cli.main import main

    assert main(["demo"]) == 2
    told = capsys.readouterr().err
    assert "no_such_module_anywhere" in told
    assert "pip install 'lighttrace[demo]'" in told


@pytest.mark.slow
def test_every_verdict_is_the_known_one(tmp_path: Path) -> None:
    kept = tmp_path / "traces.jsonl"
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "lighttrace", "demo", "--json", "--keep", str(kept)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begun < 30
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = [scenario.name for scenario in demo.load_scenarios()]
    assert [line["scenario"] for line in lines] == names
    found = {line["scenario"]: line for line in lines}
    assert found["fraud-exception"]["verdict"]["team"] == "risk"
    assert found["fraud-exception"]["verdict"]["code"].startswith("checkout/fraud.py:")
    assert set(found["all-well"]["services"]) == SERVICES
    for line in lines:
        assert set(line) == {"scenario", "trace_id", "spans", "services", "verdict"}
        assert set(line["verdict"]) == {"kind", "team", "service", "span", "code", "confidence", "why"}
    traces = [from_json_line(line) for line in kept.read_text().splitlines()]
    assert [trace[0].trace_id for trace in traces] == [line["trace_id"] for line in lines]
    assert [len(trace) for trace in traces] == [line["spans"] for line in lines]
    assert all(span.team for trace in traces for span in trace)
    assert {span.team for span in traces[names.index("one-slow-branch")]} == {"web", "logistics"}
    lied_to = traces[names.index("caller-that-lies")]
    callers = {span.service: span.attributes.get("lighttrace.caller.team") for span in lied_to if span.kind == "server"}
    assert callers == {"storefront": "nobody", "inventory": "web", "checkout": "web"}  # it arrived, and went no farther
    assert "nobody" not in {span.team for span in lied_to} | {span.attributes.get("lighttrace.error.team") for span in lied_to}
    assert not left_behind(str(tmp_path))


@pytest.mark.slow
def test_demo_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "lighttrace", "demo", "--database", "sqlite"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("They are up"):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(30) == 130
    assert not left_behind(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def left_behind(directory: str) -> list[str]:
    """Command lines of processes that still run in a directory below this one."""
    if not Path("/proc/self").exists():
        return []
    found = []
    for process in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if str(process.readlink()).startswith(directory):
                found.append((process.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found
