"""The barest instrumentation of some libraries: what no tracer in Python can do without, on LightTrace's own spans and export.

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
from lighttrace.tracing.shared import NOTHING_OWN, Shared

DISABLED = ["fastapi", "flask", "httpx", "psycopg", "requests", "starlette", "urllib3"]
"""The integrations that these stand in for."""

BAGGAGE = "lighttrace.caller.service=bench,lighttrace.caller.team=bench-team"


def instrument(library: str) -> None:
    """Replace the functions of a library that LightTrace's integration wraps."""
    active = runtime.active()
    assert active is not None
    stands_in = {"fastapi": _fastapi, "flask": _flask, "httpx": _httpx, "psycopg": _psycopg, "requests": _requests}
    stands_in[library](trace.get_tracer("bare"), active.queue.put)


def parent_of(span: Any) -> str:
    """The traceparent of a root."""
    return f"00-{span._root.to_bytes(16, 'big').hex()}-{span._span_id.to_bytes(8, 'big').hex()}-03"


def _httpx(tracer: Any, put: Callable[[Any], None]) -> None:
    import httpx
    from h11 import _writers

    client: Any = httpx.Client
    writers: Any = _writers
    send, write = client._send_single_request, writers.write_headers
    shared = Shared({"http.request.method": "GET", "server.address": "127.0.0.1", "server.port": 8000, "url.full": "http://127.0.0.1:8000/users/7?a=1", "http.response.status_code": 200})  # fmt: skip

    def traced(self: Any, request: Any) -> Any:
        span = tracer.start_root("GET", SpanKind.CLIENT, NOTHING_OWN, shared)
        token = set_current(span)
        response = send(self, request)
        reset_current(token)
        span._end = time_ns()
        put(span)
        return response

    def write_head(headers: Any, add: Callable[[bytes], None]) -> None:
        span: Any = read_current()
        add(f"traceparent: {parent_of(span)}\r\nbaggage: {BAGGAGE}\r\n".encode())
        write(headers, add)

    client._send_single_request, writers.write_headers = traced, write_head


def _requests(tracer: Any, put: Callable[[Any], None]) -> None:
    import requests

    session: Any = requests.Session
    send = session.send
    shared = Shared({"http.request.method": "GET", "server.address": "users.internal", "server.port": 8000, "url.full": "http://users.internal:8000/users/7?a=1", "http.response.status_code": 200})  # fmt: skip

    def traced(self: Any, request: Any, /, **options: Any) -> Any:
        span = tracer.start_root("GET", SpanKind.CLIENT, NOTHING_OWN, shared)
        token = set_current(span)
        store = request.headers._store
        store["traceparent"] = "traceparent", parent_of(span)
        store["baggage"] = "baggage", BAGGAGE
        response = send(self, request, **options)
        reset_current(token)
        del store["traceparent"], store["baggage"]
        span._end = time_ns()
        put(span)
        return response

    session.send = traced


def _psycopg(tracer: Any, put: Callable[[Any], None]) -> None:
    import psycopg

    cursor: Any = psycopg.Cursor
    execute = cursor.execute
    shared = Shared({"db.system.name": "postgresql", "db.namespace": "postgres", "server.address": "127.0.0.1", "db.query.text": "select name from users where id = %s", "db.query.summary": "select users"})  # fmt: skip

    def traced(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        span = tracer.start_root("select users", SpanKind.CLIENT, NOTHING_OWN, shared)
        token = set_current(span)
        result = execute(self, query, params, **options)
        reset_current(token)
        span._end = time_ns()
        put(span)
        return result

    cursor.execute = traced


class _Body:
    __slots__ = ("body", "put", "span")

    body: Any
    put: Callable[[Any], None]
    span: Any

    def __iter__(self) -> Any:
        return iter(self.body)

    def close(self) -> None:
        self.body.close()
        self.span._end = time_ns()
        self.put(self.span)


def _flask(tracer: Any, put: Callable[[Any], None]) -> None:
    import flask
    from flask import ctx

    application: Any = flask.Flask
    context: Any = getattr(ctx, "RequestContext", None) or ctx.AppContext
    answer, match = application.__call__, context.match_request
    caller = Shared({"http.request.method": "GET", "url.scheme": "http", "server.address": "localhost", "server.port": 8000, "network.protocol.version": "1.1", "user_agent.original": "curl/8", "client.address": "127.0.0.1"})  # fmt: skip
    found, answered = _found(caller, "/users/<int:id>", "200 OK")

    def hear(span: Any, start_response: Any, status: str, headers: Any, exc_info: Any = None) -> Any:
        span._shared = answered[status]
        return start_response(status, headers, exc_info)

    def traced(self: Any, environ: Any, start_response: Any) -> Any:
        environ.get("HTTP_TRACEPARENT")
        span = environ["bare"] = tracer.start_root("GET", SpanKind.SERVER, NOTHING_OWN, caller)
        span._path, span._query = environ["PATH_INFO"], environ["QUERY_STRING"]
        token = set_current(span)
        body = _Body()
        body.span, body.put = span, put
        body.body = answer(self, environ, partial(hear, span, start_response))
        reset_current(token)
        return body

    def matched(self: Any) -> None:
        match(self)
        span = self.request.environ["bare"]
        span._name, span._shared = found[self.request.url_rule.rule]

    application.__call__, context.match_request = traced, matched


def _found(caller: Shared, route: str, answer: Any) -> tuple[dict[Any, Any], dict[Any, Shared]]:
    """What a request shares with others once its route is known, and once it has been answered."""
    found = Shared({**caller.attributes, "http.route": route})
    return {route: ("GET " + route, found)}, {answer: Shared({**found.attributes, "http.response.status_code": 200})}


def _fastapi(tracer: Any, put: Callable[[Any], None]) -> None:
    import fastapi
    import fastapi.routing

    application: Any = fastapi.FastAPI
    route: Any = fastapi.routing.APIRoute
    answer, handle = application.__call__, route.handle
    caller = Shared({"http.request.method": "GET", "url.scheme": "http", "server.address": "127.0.0.1", "server.port": 8000, "network.protocol.version": "1.1", "client.address": "127.0.0.1"})  # fmt: skip
    found, answered = _found(caller, "/users/{id}", 200)

    def hear(span: Any, send: Callable[[Any], Awaitable[Any]], message: Any) -> Awaitable[Any]:
        if message["type"] == "http.response.start":
            span._shared = answered[message["status"]]
        elif not message.get("more_body"):
            span._end = time_ns()
            put(span)
        return send(message)

    async def traced(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await answer(self, scope, receive, send)  # type: ignore[no-any-return]  # None
        b"traceparent" in dict(scope["headers"])
        span = scope["bare"] = tracer.start_root("GET", SpanKind.SERVER, NOTHING_OWN, caller)
        span._path, span._query = scope["path"], scope["query_string"].decode()
        scope["fastapi.telemetry"] = None  # FastAPI makes no span of its own then, as with LightTrace
        token = set_current(span)
        await answer(self, scope, receive, partial(hear, span, send))
        reset_current(token)

    def routed(self: Any, scope: Any, receive: Any, send: Any) -> Any:
        span = scope["bare"]
        span._name, span._shared = found[self.path_format]
        return handle(self, scope, receive, send)

    application.__call__, route.handle = traced, routed
