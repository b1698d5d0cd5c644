"""A request says by whom it was sent: the same spans come of it whether that is read at one go or made a context of."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import flask
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import lighttrace
from lighttrace import semconv
from lighttrace.instrument import engine, propagate
from lighttrace.testing import capture

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENTS = {
    "none": [],
    "sampled": [f"00-{TRACE}-{CALLER}-01"],
    "not sampled": [f"00-{TRACE}-{CALLER}-00"],
    "random": [f"00-{TRACE}-{CALLER}-03"],
    "of a version to come": [f"cc-{TRACE}-{CALLER}-01-more"],
    "malformed": [f"00-{TRACE}-{CALLER}-1"],
    "null": [f"00-{'0' * 32}-{CALLER}-01"],
}
STATES = {"none": [], "one": ["dd=s:1,a=b"], "broken": ["a=b,a=c"]}
WHO = f"{semconv.CALLER_SERVICE}=shop,{semconv.CALLER_TEAM}=web"
BAGGAGE = {
    "none": [],
    "who calls": [WHO],
    "who calls, with properties": [f"{semconv.CALLER_SERVICE}=s%20hop;p=1 , {semconv.CALLER_TEAM} = web"],
    "who calls, at length": [f"{semconv.CALLER_SERVICE}={'x' * 600}"],
    "something else": ["user=alice"],
    "who calls and something else": [f"{WHO},user=alice"],
    "what it is about": [f"{WHO},{semconv.TRANSACTION}=buy,{semconv.CUSTOMER}=4711"],
    "nothing that can be read": [",=;"],
}


def work(after: list[Callable[[], object]]) -> str:
    """What a handler does: spans below, scopes, a call to another service, and something that goes on when it has answered."""
    with lighttrace.span("child"):
        pass
    with lighttrace.team("risk"), lighttrace.span("in a team's scope"):
        pass
    with lighttrace.transaction("of its own", customer="9"), lighttrace.span("in a transaction"):
        with lighttrace.span("deeper"):
            pass
    context = contextvars.copy_context()
    after.append(lambda: context.run(later))
    return "done"


def later() -> None:
    with lighttrace.span("later"):
        pass


def by_flask(headers: list[tuple[str, str]], after: list[Callable[[], object]]) -> None:
    app = flask.Flask(__name__)
    app.add_url_rule("/", "work", lambda: work(after))
    app.test_client().get("/", headers=headers)


def by_starlette(headers: list[tuple[str, str]], after: list[Callable[[], object]]) -> None:
    async def handler(request: object) -> PlainTextResponse:
        return PlainTextResponse(work(after))

    async def nothing(*message: object) -> Any:
        return {"type": "http.request"}

    fields = [[name.encode(), value.encode()] for name, value in headers]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": fields, "query_string": b"", "server": ("kit", 80)}
    asyncio.run(Starlette(routes=[Route("/", handler)])(scope, nothing, nothing))


def spans_of(ask: Callable[..., None], headers: list[tuple[str, str]], **options: Any) -> list[Any]:
    """All that can be seen of the spans of one request, ids that are made up apart."""
    after: list[Callable[[], object]] = []
    with capture(**options) as spans:
        ask(headers, after)
        for work_left in after:
            work_left()
        found = sorted(spans.everything, key=lambda span: span.start_ns)
    names = {span.span_id: span.name for span in found} | {CALLER: "the caller"}
    traces = {TRACE: "the caller's"}
    return [
        (
            span.name, span.kind, names.get(span.parent_id, span.parent_id), span.trace_flags, span.trace_state, span.team,
            traces.setdefault(span.trace_id, f"trace {len(traces)}"), span.attributes, len(span.links),
        )
        for span in found
    ]  # fmt: skip


@pytest.fixture(params=[by_flask, by_starlette])
def ask(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def read_at_one_go(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request's headers were read at one go; nothing is, once the list has been told so."""
    seen: list[bool] = []
    whole = propagate.read_caller

    def read(*headers: Any) -> Any:
        found = whole(*headers) if "never" not in seen else None
        seen.append(found is not None)
        return found

    monkeypatch.setattr(propagate, "read_caller", read)
    return seen


@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("parent", PARENTS)
def test_both_ways_give_the_same_spans(ask: Any, parent: str, edge: bool, read_at_one_go: list[Any]) -> None:
    ways: list[list[Any]] = []
    for way in ("at one go", "never"):
        read_at_one_go[:] = [way]
        ways.append(
            [
                spans_of(ask, headers_of(parent, state, carried), edge=edge, sampler=sampler)
                for state in STATES
                for carried in BAGGAGE
                for sampler in ("parentbased_always_on", "traceidratio")
            ]
        )
        if way == "at one go":
            assert any(read_at_one_go[1:]) is (parent in ("sampled", "not sampled", "random", "of a version to come"))
    assert ways[0] == ways[1]
    assert any(ways[0]), "nothing was compared"


def headers_of(parent: str, state: str, carried: str) -> list[tuple[str, str]]:
    return [
        *(("traceparent", value) for value in PARENTS[parent]),
        *(("tracestate", value) for value in STATES[state]),
        *(("baggage", value) for value in BAGGAGE[carried]),
    ]


def test_who_calls_is_read_once_and_stands_on_every_span(ask: Any, read_at_one_go: list[Any]) -> None:
    for _ in range(2):
        found = spans_of(ask, headers_of("sampled", "none", "who calls"))
        assert len(found) == 6
        for _, _, _, _, _, _, _, attributes, _ in found:
            assert (attributes[semconv.CALLER_SERVICE], attributes[semconv.CALLER_TEAM]) == ("shop", "web")
    assert read_at_one_go == [True, True]


def test_long_baggage_is_not_kept(ask: Any) -> None:
    with capture():
        for carried in ("who calls", "who calls, at length"):
            ask(headers_of("sampled", "none", carried), [])
        assert list(engine.state.told) == [WHO]
