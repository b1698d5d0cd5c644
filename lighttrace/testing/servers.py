"""Applications on real servers, and a client that sees every byte of the answer and is never traced."""

import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What came back over the wire."""

    status: int
    headers: list[tuple[str, str]]  # without the date
    body: bytes


class Site(NamedTuple):
    """Where an application listens."""

    host: str
    port: int

    def request(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Answer:
        """Ask over a connection of its own. A server that hangs up raises what http.client raises."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request(method, target, body=body, headers={"User-Agent": "kit", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, _lasting(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> Answer:
        """`request` with GET."""
        return self.request("GET", target, headers)

    def connect(self, text: str) -> socket.socket:
        """A bare connection on which `text` has been sent."""
        connection = socket.create_connection((self.host, self.port), timeout=10)
        connection.sendall(text.encode("latin-1"))
        return connection


def _lasting(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in headers if name.lower() != "date"]


@contextmanager
def serve_wsgi(application: Any, server: str = "werkzeug") -> Iterator[Site]:
    """Run a WSGI application on werkzeug's threaded server, or on wsgiref's."""
    made: Any
    if server == "werkzeug":
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  # the name it has there
                return

        made = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
        made.daemon_threads = True
    else:
        from wsgiref import simple_server

        class Silent(simple_server.WSGIRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name it has there
                return

            def get_stderr(self) -> Any:
                import io

                return io.StringIO()

        made = simple_server.make_server("127.0.0.1", 0, application, handler_class=Silent)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Site("127.0.0.1", made.server_port)
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


LONGEST_HEAD = 1 << 18
"""Bytes that a request's head may have on uvicorn. By default it depends on how one of 16 KB arrives whether it is refused."""


@contextmanager
def serve_asgi(application: Any) -> Iterator[Site]:
    """Run an ASGI application on uvicorn, with its lifespan."""
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0), backlog=256)  # connections wait here until it has started
    options: dict[str, Any] = {"log_config": None, "log_level": "critical", "lifespan": "auto", "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(uvicorn.Config(application, h11_max_incomplete_event_size=LONGEST_HEAD, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield Site("127.0.0.1", listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
