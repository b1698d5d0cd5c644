"""The barest instrumentation of two libraries: what no tracer in Python can do without, on LightTrace's own spans and export.

It asks nothing (sampled? excluded? already traced? whose headers are there? what does the configuration want?), knows the one
request that the benchmark makes beforehand, and leaves the program broken where anything fails. What it costs is the floor
for a tracer that sends the headers that LightTrace sends, and exports spans with the attributes that LightTrace's have.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from lighttrace import runtime
from lighttrace.tracing.context import read_current, reset_current, set_current
from lighttrace.tracing.shared import Shared

DISABLED = ["httpx", "fastapi", "starlette"]
"""The integrations that these stand in for."""


def instrument(library: str) -> None:
    """Replace the functions of a library that LightTrace's integration wraps."""
    active = runtime.active()
    assert active is not None
    {"httpx": _httpx, "fastapi": _fastapi}[library](trace.get_tracer("bare"), active.queue.put)


def _httpx(tracer: Any, put: Callable[[Any], None]) -> None:
    import h11
    import httpx

    client: Any = httpx.Client
    connection: Any = h11.Connection
    send, write = client._send_single_request, connection.send
    baggage = "lighttrace.caller.service=bench,lighttrace.caller.team=bench-team"
    shared = Shared({"http.request.method": "GET", "server.address": "127.0.0.1", "server.port": 8000, "url.full": "http://127.0.0.1:8000/users/7?a=1"})  # fmt: skip

    def traced(self: Any, request: Any) -> Any:
        span = tracer.start_root("GET", SpanKind.CLIENT, {}, shared)
        token = set_current(span)
        response = send(self, request)
        reset_current(token)
        span._own["http.response.status_code"] = response.status_code
        span._end = time_ns()
        put(span)
        return response

    def write_head(self: Any, event: Any) -> Any:
        written = write(self, event)
        if type(event) is h11.Request:
            span: Any = read_current()
            parent = "00-%032x-%016x-03" % (span._root, span._span_id)  # noqa: UP031  # the quickest
            return written[:-2] + f"traceparent: {parent}\r\nbaggage: {baggage}\r\n\r\n".encode()
        return written

    client._send_single_request, connection.send = traced, write_head


def _fastapi(tracer: Any, put: Callable[[Any], None]) -> None:
    import fastapi
    import fastapi.routing

    application: Any = fastapi.FastAPI
    route: Any = fastapi.routing.APIRoute
    answer, handle = application.__call__, route.handle
    shared = Shared({"http.request.method": "GET", "url.scheme": "http", "server.address": "127.0.0.1", "server.port": 8000, "network.protocol.version": "1.1"})  # fmt: skip

    def hear(span: Any, send: Callable[[Any], Awaitable[Any]], message: Any) -> Awaitable[Any]:
        if message["type"] == "http.response.start":
            span._own["http.response.status_code"] = message["status"]
        elif not message.get("more_body"):
            span._end = time_ns()
            put(span)
        return send(message)

    async def traced(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await answer(self, scope, receive, send)  # type: ignore[no-any-return]  # None
        b"traceparent" in dict(scope["headers"])
        attributes = {
            "url.path": scope["path"],
            "url.query": scope["query_string"].decode(),
            "client.address": scope["client"][0],
        }
        span = scope["bare"] = tracer.start_root("GET", SpanKind.SERVER, attributes, shared)
        scope["fastapi.telemetry"] = None  # FastAPI makes no span of its own then, as with LightTrace
        token = set_current(span)
        await answer(self, scope, receive, partial(hear, span, send))
        reset_current(token)

    def routed(self: Any, scope: Any, receive: Any, send: Any) -> Any:
        span = scope["bare"]
        span._name = "GET " + self.path_format
        span._own["http.route"] = self.path_format
        return handle(self, scope, receive, send)

    application.__call__, route.handle = traced, routed
