"""OTLP over HTTP, received: protobuf and JSON, gzip or not, as the specification says a server should answer."""

import gzip
import io
import json
import socket
import threading
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from lighttrace.analysis.decode import from_json_line, from_protobuf
from lighttrace.analysis.model import SpanRecord
from lighttrace.backend.store import TraceStore

_MOST = 64 << 20  # bytes of one request, decompressed
_JSON, _PROTOBUF = "application/json", "application/x-protobuf"
_IDLE_S = 60  # how long a connection may say nothing


class Receiver:
    """Listens on loopback while the block runs, and keeps the last traces in `store`.

    Raises OSError if the port is taken; 0 takes a free one.

    >>> with Receiver() as receiver:
    ...     receiver.endpoint.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1", store: TraceStore | None = None) -> None:
        self.store = store if store is not None else TraceStore()
        self._server = _Server((host, port), _handler(self.store))
        self._thread: threading.Thread | None = None
        self.host = host
        self.port = int(self._server.server_port)

    @property
    def endpoint(self) -> str:
        """What goes into OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://{self.host}:{self.port}"

    def traces(self) -> dict[str, list[SpanRecord]]:
        """Spans by trace id, the oldest trace first."""
        return self.store.traces()

    def wait_for(self, predicate: Callable[[dict[str, list[SpanRecord]]], object], timeout: float = 10.0) -> bool:
        """Wait until `predicate(traces)` holds; False if it does not within `timeout` seconds."""
        return self.store.wait_for(predicate, timeout)

    def start(self) -> "Receiver":
        """Begin to listen."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True, name="lighttrace-receiver"
        )
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening, and hang up on whoever is still connected."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()
        self._server.hang_up()

    def __enter__(self) -> "Receiver":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # many services may start at once

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def hang_up(self) -> None:
        """End kept connections: their threads would go on answering after `close`."""
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent: a client that hangs up is no event."""


def _handler(store: TraceStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _IDLE_S
        server: _Server

        def setup(self) -> None:
            self.server.connections.add(self.request)
            super().setup()

        def finish(self) -> None:
            self.server.connections.discard(self.request)
            super().finish()

        def do_POST(self) -> None:
            try:
                body = self._body()
            except (ValueError, OSError, EOFError, zlib.error) as error:
                self.close_connection = True
                self._refuse(400, f"the body cannot be read: {error}")
                return
            kind = self.headers.get("Content-Type", _PROTOBUF).partition(";")[0].strip().lower()
            path = self.path.partition("?")[0].rstrip("/")
            if path not in ("/v1/traces", "/v1/metrics", "/v1/logs"):
                self._refuse(404, "this receiver takes POST /v1/traces")
            elif kind not in (_JSON, _PROTOBUF):
                self._refuse(415, f"{_PROTOBUF} or {_JSON} is understood, and not {kind}")
            else:
                try:
                    if path == "/v1/traces":  # metrics and logs are welcome, and not kept
                        store.add(from_json_line(body.decode("utf-8")) if kind == _JSON else from_protobuf(body))
                except ValueError as error:
                    self._refuse(400, str(error))
                    return
                self._answer(200, b"{}" if kind == _JSON else b"", kind)

        def _body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                raw = self._chunks()
            else:
                size = int(self.headers.get("Content-Length") or 0)
                if not 0 <= size <= _MOST:
                    raise ValueError("it is too large")
                raw = self.rfile.read(size)
            encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
            if encoding == "gzip":
                with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
                    raw = file.read(_MOST + 1)
            elif encoding == "deflate":
                raw = zlib.decompressobj().decompress(raw, _MOST + 1)
            elif encoding not in ("identity", "none", ""):
                raise ValueError(f"{encoding} is not understood; gzip is")
            if len(raw) > _MOST:
                raise ValueError("it is too large")
            return raw

        def _chunks(self) -> bytes:
            parts, total = [], 0
            while size := int(self.rfile.readline(32).split(b";")[0], 16):
                total += size
                if size < 0 or total > _MOST:
                    raise ValueError("it is too large")
                parts.append(self.rfile.read(size))
                self.rfile.readline(8)
            self.rfile.readline(8)
            return b"".join(parts)

        def _refuse(self, status: int, message: str) -> None:
            """Answer with a google.rpc.Status, in the request's own encoding, as OTLP says."""
            if _JSON in self.headers.get("Content-Type", ""):
                self._answer(status, json.dumps({"message": message}).encode(), _JSON)
                return
            text = message.encode("ascii", "replace")[:120]  # so that its length fits one byte
            self._answer(status, b"\x12" + bytes((len(text),)) + text, _PROTOBUF)

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer(405, b"this receiver takes POST /v1/traces", "text/plain")

        def log_message(self, *_: object) -> None:
            """Silent: whoever runs this prints what matters."""

    return Handler
