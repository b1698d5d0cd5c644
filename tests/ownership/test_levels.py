"""The seven levels, on the spans that come out: who owns a span is the first that answers."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lighttrace
from lighttrace.testing import capture

MODULE = """
import lighttrace

@lighttrace.trace
def charge():
    with lighttrace.span("inside"):
        pass

@lighttrace.trace(team="by-hand")
def named():
    pass
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A repository of two teams: its root."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "CODEOWNERS").write_text("* @org/everybody\n/pay/ @org/payments\n/free/\n")
    for folder in ("pay", "free"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "code.py").write_text(MODULE)
    return tmp_path


def load(shop: Path, folder: str = "pay", module: str = "pay.code") -> dict[str, Any]:
    path = shop / folder / "code.py"
    names: dict[str, Any] = {"__name__": module, "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return names


def test_what_the_span_says_itself_goes_first(shop: Path) -> None:
    with capture(directory=str(shop), team="default", rules=[{"name": "named", "team": "ruled"}]) as spans:
        with lighttrace.team("scoped"):
            load(shop)["named"]()
        spans.expect(name="named", team="by-hand", team_source="span")


def test_then_the_scope(shop: Path) -> None:
    with capture(directory=str(shop), team="default", rules=[{"name": "charge", "team": "ruled"}]) as spans:
        with lighttrace.team("scoped"):
            load(shop)["charge"]()
        spans.expect(name="inside", team="scoped", team_source="scope")
        spans.expect(name="charge", team="scoped", team_source="scope")


@pytest.mark.parametrize(
    "rule",
    [
        {"name": "cha*"},
        {"module": "pay.*"},
        {"module": "pay.code", "name": "charge"},
    ],
)
def test_then_an_explicit_rule_by_name_or_module(shop: Path, rule: dict[str, str]) -> None:
    with capture(directory=str(shop), team="default", rules=[{**rule, "team": "ruled"}]) as spans:
        load(shop)["charge"]()
        spans.expect(name="inside", team="ruled", team_source="parent")
        spans.expect(name="charge", team="ruled", team_source="rule")


def test_then_the_code_and_for_what_is_below_it_the_parent(shop: Path) -> None:
    with capture(directory=str(shop), team="default") as spans:
        load(shop)["charge"]()
        spans.expect(name="inside", team="payments", team_source="parent")
        spans.expect(name="charge", team="payments", team_source="codeowners")


def test_then_the_default_which_says_no_source(shop: Path) -> None:
    with capture(directory=str(shop), team="default") as spans:
        load(shop, "free", "free.code")["charge"]()
        inside = spans.expect(name="inside", team="default")
        outer = spans.expect(name="charge", team="default")
    assert "lighttrace.team.source" not in {**inside.attributes, **outer.attributes}


def test_without_any_of_them_a_span_says_nothing(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    with capture(directory=str(tmp_path), team=None) as spans:
        with lighttrace.span("alone"):
            pass
        span = spans.expect(name="alone", team=None)
    assert "team" not in span.attributes


def test_rule_about_a_peer_owns_the_calls_to_it() -> None:
    from opentelemetry import trace

    rules = [{"peer": "*.stripe.com", "team": "money"}, {"peer": "ledger", "team": "books"}]
    with capture(team="default", rules=rules) as spans:
        tracer = trace.get_tracer("by hand")
        client, server = trace.SpanKind.CLIENT, trace.SpanKind.SERVER
        tracer.start_span("one", kind=client, attributes={"server.address": "api.stripe.com"}).end()
        tracer.start_span("two", kind=client, attributes={"server.address": "10.0.0.1", "service.peer.name": "ledger"}).end()
        tracer.start_span("three", kind=server, attributes={"server.address": "api.stripe.com"}).end()
        spans.expect(name="one", team="money", team_source="rule")
        spans.expect(name="two", team="books", team_source="rule")
        spans.expect(name="three", team="default")


def _in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def _in_pool(work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def _in_task(work: Callable[[], None]) -> None:
    async def step() -> None:
        work()

    async def main() -> None:
        await asyncio.create_task(step())

    asyncio.run(main())


def _in_generator(work: Callable[[], None]) -> None:
    def steps() -> Any:
        yield 1
        work()
        yield 2

    list(steps())


@pytest.mark.parametrize("where", [_in_thread, _in_pool, _in_task, _in_generator])
def test_scope_is_carried_along(where: Callable[[Callable[[], None]], None]) -> None:
    def work() -> None:
        with lighttrace.span("work"):
            pass

    with capture(team="default") as spans:
        with lighttrace.team("scoped"):
            where(work)
        where(work)  # and no further: a worker that is used again keeps nothing
        spans.expect(name="work", team="scoped")
        spans.expect(name="work", team="default")


def test_team_is_renamed_by_the_table_of_aliases(shop: Path) -> None:
    with capture(directory=str(shop), team="default", team_aliases={"@org/payments": "money"}) as spans:
        load(shop)["charge"]()
        spans.expect(name="charge", team="money")
