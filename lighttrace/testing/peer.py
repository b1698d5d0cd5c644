"""The other side of an HTTP call: a real server on a real socket that records what arrives and answers what the path asks for.

| path | answer |
|---|---|
| `/status/404` | that status, empty but for a few bytes |
| `/redirect/2` | 302 to `/redirect/1`, and so on to `/status/200` |
| `/away/<host>` | 302 to `/` of that host, on the same port |
| `/flaky/2/<key>` | 503 twice for that key, then 200 |
| `/hangup` | closes the connection without a byte |
| `/slow` | nothing until `release()` |
| `/stream` | three chunks |
| anything else | 200 and `ok` |
"""

import socketserver
import threading
from types import TracebackType
from typing import Any, NamedTuple

_OK = b"ok"


class Recorded(NamedTuple):
    """One request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]  # names in lower case, in order
    body: bytes
    raw: bytes  # the request line and the headers, untouched

    def header(self, name: str) -> str | None:
        """The one header of that name; AssertionError if it came twice."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


class Peer:
    """A server for client kits, listening from its creation. A context manager."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self._released = threading.Event()
        self._flaky: dict[str, int] = {}
        self._lock = threading.Lock()
        peer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    while peer._answer(self.rfile, self.wfile):
                        pass
                except (ConnectionError, TimeoutError):
                    return  # the client has gone

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.request_queue_size = 128
        self._server.server_bind()
        self._server.server_activate()
        self.host = "127.0.0.1"
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    def take(self) -> list[Recorded]:
        """The requests so far, which are then forgotten."""
        with self._lock:
            taken, self.requests = self.requests, []
        return taken

    def release(self) -> None:
        """Let every request to `/slow` be answered."""
        self._released.set()

    def close(self) -> None:
        """Stop listening."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _answer(self, reading: Any, writing: Any) -> bool:
        """Answer one request; False when the connection is to be closed."""
        raw = b""
        while not raw.endswith(b"\r\n\r\n"):
            line = reading.readline()
            if not line:
                return False
            raw += line
        first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ", 2)
        headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        found = dict(headers)
        body = reading.read(int(found.get("content-length", 0)))
        with self._lock:
            self.requests.append(Recorded(method, target, headers, body, raw))
        _, kind, *rest = target.partition("?")[0].split("/")
        status, extra, content = 200, "", _OK
        if kind == "hangup":
            return False
        if kind == "slow":
            self._released.wait(30)
        elif kind == "status":
            status = int(rest[0])
        elif kind == "redirect":
            left = int(rest[0])
            status, extra = 302, f"Location: {f'/redirect/{left - 1}' if left > 1 else '/status/200'}\r\n"
        elif kind == "away":
            status, extra = 302, f"Location: http://{rest[0]}:{self.port}/\r\n"
        elif kind == "flaky":
            with self._lock:
                seen = self._flaky[rest[1]] = self._flaky.get(rest[1], 0) + 1
            status = 503 if seen <= int(rest[0]) else 200
        elif kind == "stream":
            writing.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in (b"one", b"two", b"three"):
                writing.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            writing.write(b"0\r\n\r\n")
            return True
        if method == "HEAD" or status in (204, 304):
            content = b""
        writing.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n{extra}\r\n".encode() + content)
        return found.get("connection", "").lower() != "close"


def refused() -> str:
    """A URL on this machine where nobody listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
