"""What is traced. Each workload gives `call`: `call(count)` does that many operations in this process."""

import asyncio
import io
import os
import sys
from collections.abc import Callable
from typing import Any

Prepare = Callable[[Any], None]
Workload = Callable[[int], object]


def _environ(path: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "a=1", "SERVER_NAME": "localhost",
        "SERVER_PORT": "8000", "HTTP_HOST": "localhost:8000", "HTTP_USER_AGENT": "curl/8", "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
    }  # fmt: skip


def _headers(number: int) -> dict[str, str]:
    """What one of our services sends another: each request belongs to another trace, and all of them have one caller."""
    return {
        "traceparent": f"00-{number + 1:032x}-00f067aa0ba902b7-03",
        "baggage": "lighttrace.caller.service=checkout,lighttrace.caller.team=payments",
    }


def _flask(prepare: Prepare, path: str, called: bool = False) -> Workload:
    from flask import Flask

    app = Flask("bench")

    @app.get("/users/<int:id>")
    def user(id: int) -> dict[str, int]:
        return {"id": id}

    @app.get("/healthz")
    def healthz() -> dict[str, int]:
        return {"id": 7}

    prepare(app)

    def call(count: int) -> None:
        for i in range(count):
            environ = _environ(path)
            if called:
                environ.update({f"HTTP_{name.upper()}": value for name, value in _headers(i).items()})
            body = app(environ, lambda status, headers, exc_info=None: None)
            b"".join(body)
            getattr(body, "close", lambda: None)()

    return call


def flask(prepare: Prepare) -> Workload:
    """One request through Flask, without a server."""
    return _flask(prepare, "/users/7")


def flask_called(prepare: Prepare) -> Workload:
    """The same request, with the headers of another traced service."""
    return _flask(prepare, "/users/7", called=True)


def flask_excluded(prepare: Prepare) -> Workload:
    """One request through Flask to a route that the configuration excludes."""
    return _flask(prepare, "/healthz")


def _fastapi(prepare: Prepare, path: str, called: bool = False) -> Workload:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/users/{id}")
    async def user(id: int) -> dict[str, int]:
        return {"id": id}

    @app.get("/healthz")
    async def healthz() -> dict[str, int]:
        return {"id": 7}

    prepare(app)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: object) -> None:
        pass

    async def many(count: int) -> None:
        for i in range(count):
            headers = [(b"host", b"localhost:8000"), (b"user-agent", b"curl/8")]
            if called:
                headers.extend((name.encode(), value.encode()) for name, value in _headers(i).items())
            scope = {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
                "path": path, "raw_path": path.encode(), "query_string": b"a=1", "root_path": "",
                "headers": headers, "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8000),
            }  # fmt: skip
            await app(scope, receive, send)

    return lambda count: asyncio.run(many(count))


def fastapi(prepare: Prepare) -> Workload:
    """One request through FastAPI, without a server."""
    return _fastapi(prepare, "/users/7")


def fastapi_called(prepare: Prepare) -> Workload:
    """The same request, with the headers of another traced service."""
    return _fastapi(prepare, "/users/7", called=True)


def fastapi_excluded(prepare: Prepare) -> Workload:
    """One request through FastAPI to a route that the configuration excludes."""
    return _fastapi(prepare, "/healthz")


def sqlite3(prepare: Prepare) -> Workload:
    """One query through sqlite3."""
    import sqlite3

    connection = sqlite3.connect(":memory:")
    connection.execute("create table users(id integer, name text)")
    connection.execute("insert into users values (1, 'a'), (2, 'b')")

    def call(count: int) -> None:
        for i in range(count):
            cursor = connection.cursor()
            cursor.execute("select name from users where id = ?", (i & 3,))
            cursor.fetchall()
            cursor.close()

    return call


def psycopg(prepare: Prepare) -> Workload:
    """One query through psycopg against the PostgreSQL of `BENCH_POSTGRESQL`."""
    import psycopg

    connection = psycopg.connect(os.environ["BENCH_POSTGRESQL"], autocommit=True)
    connection.execute("create temporary table users(id integer, name text)")
    connection.execute("insert into users values (1, 'a'), (2, 'b')")

    def call(count: int) -> None:
        for i in range(count):
            with connection.cursor() as cursor:
                cursor.execute("select name from users where id = %s", (i & 3,))
                cursor.fetchall()

    return call


def requests(prepare: Prepare) -> Workload:
    """One call through requests, the wire left out."""
    import requests
    import requests.adapters

    class Local(requests.adapters.HTTPAdapter):
        def send(self, request: Any, **_: Any) -> Any:
            response = requests.Response()
            response.status_code, response.url, response.request = 200, request.url, request
            response._content, response.raw = b"{}", io.BytesIO()
            return response

    session = requests.Session()
    session.mount("http://", Local())

    def call(count: int) -> None:
        for _ in range(count):
            session.get("http://users.internal:8000/users/7?a=1")

    return call


def requests_wire(prepare: Prepare) -> Workload:
    """The same over a real socket, and so through urllib3 and http.client: the server is the sink."""
    import requests

    session = requests.Session()
    url = f"http://127.0.0.1:{os.environ['SINK_PORT']}/users/7?a=1"

    def call(count: int) -> None:
        for _ in range(count):
            session.get(url)

    return call


def requests_in_memory(prepare: Prepare) -> Workload:
    """One call through requests and all that is below it but the socket."""
    import socket

    import requests
    import urllib3

    class Wire:
        """One answer for each request, which goes nowhere."""

        def __init__(self) -> None:
            self.silent, self.other = socket.socketpair()  # for who asks whether the connection was dropped
            self.fileno = self.silent.fileno

        def makefile(self, mode: str) -> io.BytesIO:
            return io.BytesIO(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

        def sendall(self, data: bytes) -> None:
            """Nobody reads it."""

        def settimeout(self, timeout: float | None) -> None:
            """It is always there."""

    urllib3.util.connection.create_connection = lambda *where, **options: Wire()  # type: ignore[assignment]  # as much of a socket as is used
    session = requests.Session()

    def call(count: int) -> None:
        for _ in range(count):
            session.get("http://users.internal:8000/users/7?a=1")

    return call


def httpx(prepare: Prepare) -> Workload:
    """One call through httpx over a real socket: the server is the sink."""
    import httpx

    client = httpx.Client()
    url = f"http://127.0.0.1:{os.environ['SINK_PORT']}/users/7?a=1"

    def call(count: int) -> None:
        for _ in range(count):
            client.get(url)

    return call


def httpx_in_memory(prepare: Prepare) -> Workload:
    """One call through httpx and all that is below it but the socket."""
    import httpcore
    import httpx

    class Wire(httpcore.NetworkStream):
        """One answer for each request, which goes nowhere."""

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            """Nobody reads it."""

        def close(self) -> None:
            """There is nothing to close."""

        def get_extra_info(self, info: str) -> object:
            return None

    class Network(httpcore.NetworkBackend):
        def connect_tcp(self, *where: object, **options: object) -> httpcore.NetworkStream:
            return Wire()

    client = httpx.Client()
    client._transport._pool = httpcore.ConnectionPool(network_backend=Network())  # type: ignore[attr-defined]  # as it makes it itself

    def call(count: int) -> None:
        for _ in range(count):
            client.get("http://users.internal:8000/users/7?a=1")

    return call


ATTRIBUTES = {
    "http.request.method": "GET", "url.full": "http://example.com/a/b?c=d", "server.address": "example.com",
    "server.port": 443, "http.response.status_code": 200, "network.protocol.version": "1.1",
    "app.customer": "acme", "user_agent.original": "python-requests/2.3",
}  # fmt: skip


def manual(prepare: Prepare) -> Workload:
    """A span by hand with eight attributes, as each tracer's documentation says to make one."""
    if "ddtrace" in sys.modules:
        from ddtrace.trace import tracer

        def call(count: int) -> None:
            for _ in range(count):
                with tracer.trace("GET") as span:
                    span.set_tags({key: str(value) for key, value in ATTRIBUTES.items()})

    elif "logfire" in sys.modules:
        import logfire

        def call(count: int) -> None:
            for _ in range(count):
                with logfire.span("GET", **ATTRIBUTES):
                    pass

    elif "sentry_sdk" in sys.modules:
        import sentry_sdk

        def call(count: int) -> None:
            for _ in range(count):
                with sentry_sdk.start_transaction(op="http", name="GET") as span:
                    for key, value in ATTRIBUTES.items():
                        span.set_data(key, value)

    else:
        from opentelemetry import trace

        tracer = trace.get_tracer("bench")

        def call(count: int) -> None:
            for _ in range(count):
                with tracer.start_as_current_span("GET", kind=trace.SpanKind.CLIENT, attributes=ATTRIBUTES):
                    pass

    return call


def unsampled(prepare: Prepare) -> Workload:
    """The same span with a sampler that drops it."""
    return manual(prepare)


WORKLOADS: dict[str, Callable[[Prepare], Workload]] = {
    function.__name__: function
    for function in (
        manual, unsampled, flask, flask_called, flask_excluded, fastapi, fastapi_called, fastapi_excluded, requests, requests_wire,
        requests_in_memory, httpx, httpx_in_memory, sqlite3, psycopg,
    )
}  # fmt: skip
