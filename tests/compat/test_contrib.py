"""OpenTelemetry's own instrumentations beside ours: one span per call, whoever came first, and back again."""

import http.server
import sqlite3
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import httpx
import pytest
import requests
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.util._once import Once

import lighttrace
from lighttrace import runtime
from lighttrace.instrument.registry import registry

TIMEOUT_S = 5


class Peer(http.server.BaseHTTPRequestHandler):
    """Answers, and keeps the headers that came."""

    received: list[dict[str, str]] = []
    url = ""

    def do_GET(self) -> None:
        self.received.append({key.lower(): value for key, value in self.headers.items()})
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def peer() -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Peer.url = f"http://127.0.0.1:{server.server_port}/pay"
    yield
    server.shutdown()
    server.server_close()
    thread.join(TIMEOUT_S)


def call_requests() -> None:
    assert requests.get(Peer.url, timeout=TIMEOUT_S).status_code == 200


def call_httpx() -> None:
    assert httpx.get(Peer.url, timeout=TIMEOUT_S).status_code == 200


def call_sqlite3() -> None:
    connection = sqlite3.connect(":memory:")
    connection.cursor().execute("SELECT 1")
    connection.close()


def contrib(name: str, kind: str) -> Any:
    """A contrib instrumentor, or None where that one is not installed."""
    module = f"opentelemetry.instrumentation.{name}"
    return getattr(import_module(module), kind) if find_spec(module) is not None else None


RequestsInstrumentor: Any = contrib("requests", "RequestsInstrumentor")
CASES = [
    case
    for case in (
        ("requests", RequestsInstrumentor, call_requests),
        ("httpx", contrib("httpx", "HTTPXClientInstrumentor"), call_httpx),
        ("sqlite3", contrib("sqlite3", "SQLite3Instrumentor"), call_sqlite3),
    )
    if case[1] is not None
]
EACH = pytest.mark.parametrize(("name", "instrumentor", "call"), CASES, ids=[name for name, _, _ in CASES])
SERVERS = {"flask": contrib("flask", "FlaskInstrumentor"), "fastapi": contrib("fastapi", "FastAPIInstrumentor")}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    def clear() -> None:
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE = Once()
        Peer.received.clear()

    clear()
    yield
    for _, instrumentor, _ in CASES:
        if instrumentor().is_instrumented_by_opentelemetry:
            instrumentor().uninstrument()
    lighttrace.shutdown()
    clear()


def init() -> InMemorySpanExporter:
    lighttrace.init(service="tests", exporter="none")
    active = runtime.active()
    assert active is not None
    exporter = InMemorySpanExporter()
    active.provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def one_client(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    exporter.clear()
    assert span.kind is SpanKind.CLIENT
    return span


def check_header(span: ReadableSpan) -> None:
    if Peer.received:
        assert Peer.received.pop().get("traceparent", "").split("-")[2] == f"{span.context.span_id:016x}"
        Peer.received.clear()


def made_by_contrib(span: ReadableSpan) -> bool:
    assert span.instrumentation_scope is not None
    return span.instrumentation_scope.name.startswith("opentelemetry.instrumentation.")


def reported(name: str) -> dict[str, Any]:
    (line,) = [line for line in registry.report() if line["name"] == name]
    return line


@EACH
def test_contrib_switched_on_after_us_works_alone(name: str, instrumentor: Any, call: Callable[[], None]) -> None:
    exporter = init()
    call()
    ours = one_client(exporter)
    assert not made_by_contrib(ours)
    check_header(ours)
    instrumentor().instrument()
    call()
    theirs = one_client(exporter)
    assert made_by_contrib(theirs)
    check_header(theirs)
    assert reported(name)["state"] == "skipped"
    assert f"opentelemetry-instrumentation-{name}" in reported(name)["reason"]


@EACH
def test_contrib_switched_on_before_us_works_alone(name: str, instrumentor: Any, call: Callable[[], None]) -> None:
    instrumentor().instrument()
    exporter = init()
    call()
    theirs = one_client(exporter)
    assert made_by_contrib(theirs)
    check_header(theirs)
    assert reported(name)["state"] == "skipped"


@EACH
def test_contrib_switched_off_brings_ours_back(name: str, instrumentor: Any, call: Callable[[], None]) -> None:
    exporter = init()
    instrumentor().instrument()
    instrumentor().uninstrument()
    call()
    ours = one_client(exporter)
    assert not made_by_contrib(ours)
    check_header(ours)
    assert reported(name)["state"] == "patched"


@EACH
def test_contrib_outlives_our_shutdown(name: str, instrumentor: Any, call: Callable[[], None]) -> None:
    init()
    instrumentor().instrument()
    lighttrace.shutdown()
    call()
    instrumentor().uninstrument()
    exporter = init()
    call()
    assert not made_by_contrib(one_client(exporter))


def test_contrib_with_a_conflict_leaves_ours_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = init()
    monkeypatch.setattr(RequestsInstrumentor, "instrumentation_dependencies", lambda self: ["requests >= 999"])
    RequestsInstrumentor().instrument()
    call_requests()
    assert not made_by_contrib(one_client(exporter))


def ask_flask(instrument: bool) -> None:
    import flask

    app = flask.Flask("shop")
    app.route("/items/<int:number>")(lambda number: str(number))
    if instrument:
        SERVERS["flask"]().instrument_app(app)
    assert app.test_client().get("/items/2").status_code == 200


def ask_fastapi(instrument: bool) -> None:
    import asyncio

    import fastapi

    app = fastapi.FastAPI()
    app.get("/items/{number}")(lambda number: number)
    if instrument:
        SERVERS["fastapi"].instrument_app(app, exclude_spans=["send", "receive"])

    # By hand: a client in the same task would make a span of its own around the server's.
    sent: list[Any] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/items/2",
        "raw_path": b"/items/2",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("shop", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    if instrument:
        SERVERS["fastapi"].uninstrument_app(app)  # it has patched background tasks for the whole process
    assert sent[0]["status"] == 200


@pytest.mark.parametrize(
    ("name", "ask"), [(name, globals()[f"ask_{name}"]) for name, instrumentor in SERVERS.items() if instrumentor is not None]
)
def test_contrib_on_one_application_makes_the_only_server_span(name: str, ask: Callable[[bool], None]) -> None:
    exporter = init()
    for instrument in (False, True):
        ask(instrument)
        (server,) = [span for span in exporter.get_finished_spans() if span.kind is not SpanKind.CLIENT]
        assert server.kind is SpanKind.SERVER
        assert made_by_contrib(server) is instrument
        exporter.clear()
