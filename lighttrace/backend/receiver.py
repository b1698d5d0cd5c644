"""OTLP over HTTP, received: protobuf and JSON, gzip or not, as the specification says a server should answer."""

import gzip
import io
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from lighttrace.analysis.decode import from_json_line, from_protobuf
from lighttrace.analysis.model import SpanRecord
from lighttrace.backend.store import TraceStore

_MOST = 64 << 20  # bytes of one request, decompressed


class Receiver:
    """Listens on loopback while the block runs.

    >>> with Receiver() as receiver:
    ...     receiver.endpoint.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1", store: TraceStore | None = None) -> None:
        self.store = store if store is not None else TraceStore()
        self._server = ThreadingHTTPServer((host, port), _handler(self.store))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.host = host
        self.port = int(self._server.server_port)

    @property
    def endpoint(self) -> str:
        """What goes into OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://{self.host}:{self.port}"

    def traces(self) -> dict[str, list[SpanRecord]]:
        """Spans by trace id, the oldest trace first."""
        return self.store.traces()

    def wait_for(self, predicate: Any, timeout: float = 10.0) -> bool:
        """See `TraceStore.wait_for`."""
        return self.store.wait_for(predicate, timeout)

    def start(self) -> "Receiver":
        """Begin to listen."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "Receiver":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _handler(store: TraceStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_POST(self) -> None:
            body = self._body()
            if body is None:
                return
            if self.path.partition("?")[0].rstrip("/") != "/v1/traces":
                # Metrics and logs are welcome and not kept.
                known = self.path.startswith(("/v1/metrics", "/v1/logs"))
                self._answer(200 if known else 404, b"" if known else b"this receiver takes POST /v1/traces")
                return
            is_json = "json" in self.headers.get("Content-Type", "")
            try:
                store.add(from_json_line(body.decode("utf-8")) if is_json else from_protobuf(body))
            except ValueError as error:
                self._answer(400, str(error).encode())
                return
            self._answer(200, b"{}" if is_json else b"", "application/json" if is_json else "application/x-protobuf")

        def _body(self) -> bytes | None:
            try:
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    raw = self._chunks()
                else:
                    size = int(self.headers.get("Content-Length") or 0)
                    if not 0 <= size <= _MOST:
                        raise ValueError("the request is too large")
                    raw = self.rfile.read(size)
                encoding = self.headers.get("Content-Encoding", "")
                if encoding == "gzip":
                    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
                        raw = file.read(_MOST + 1)
                elif encoding == "deflate":
                    raw = zlib.decompressobj().decompress(raw, _MOST + 1)
                if len(raw) > _MOST:
                    raise ValueError("the request is too large")
                return raw
            except (ValueError, OSError, EOFError, zlib.error) as error:
                self.close_connection = True
                self._answer(400, str(error).encode())
                return None

        def _chunks(self) -> bytes:
            parts, total = [], 0
            while size := int(self.rfile.readline(32).split(b";")[0], 16):
                total += size
                if total > _MOST:
                    raise ValueError("the request is too large")
                parts.append(self.rfile.read(size))
                self.rfile.readline(8)
            self.rfile.readline(8)
            return b"".join(parts)

        def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer(405, b"this receiver takes POST /v1/traces")

        def log_message(self, *_: object) -> None:
            """Silent: whoever runs this prints what matters."""

    return Handler
