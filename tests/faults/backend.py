"""A backend that misbehaves on purpose: OTLP over HTTP or gRPC, on real sockets, in threads of its own.

    with Backend() as backend:
        backend.script(status(503, retry_after=1), RESET)   # for the next two requests
        backend.answer = HANG                               # for all that follow
        ...
        backend.arrived        # span id -> how many times it was taken
        backend.requests       # what came and what was answered, in order

A span has *arrived* when the backend took it, also where the answer was then lost.
"""

import contextlib
import gzip
import socket
import ssl
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER


@dataclass(frozen=True)
class Answer:
    """What is done with one request."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    act: str = "answer"  # or hang, drip, reset, hang_up, raw
    takes: bool = True  # whether the spans count as arrived
    rejected: int = 0  # how many of them do not
    delay: float = 0.0  # seconds before anything is said
    retry_after: float | None = None  # for gRPC; HTTP has it in its headers


OK = Answer()
HANG = Answer(act="hang", takes=False)
"""Reads the request and never says a word."""
RESET = Answer(act="reset", takes=False)
"""Reads the request and resets the connection."""
DRIP = Answer(act="drip", body=b"\x0a\x00", takes=False)
"""Answers 200, a byte every tenth of a second, and never comes to the end of its headers."""
LOST = Answer(act="reset")
"""Takes the spans, and resets the connection instead of saying so."""
LOST_IN_SILENCE = Answer(act="hang")
"""Takes the spans, and never says so."""
GARBAGE = Answer(act="raw", body=b"\x16\x03\x01 this is no HTTP\r\n\r\n", takes=False)
"""Answers what is no HTTP."""
GARBAGE_BODY = Answer(body=b"\xff\xff\xff no protobuf")
"""Takes the spans, answers 200, with a body that means nothing."""
WEB_PAGE = Answer(200, b"<html>log in</html>", (("Content-Type", "text/html"),), takes=False)


def status(code: int, *, retry_after: float | None = None, as_date: bool = False, body: bytes = b"") -> Answer:
    """A refusal, with a `Retry-After` of so many seconds, as a number or as a date."""
    value = formatdate(time.time() + (retry_after or 0), usegmt=True) if as_date else f"{retry_after:g}" if retry_after else ""
    return Answer(code, body, (("Retry-After", value),) if value else (), takes=False, retry_after=retry_after)


def redirect(to: str, code: int = 301) -> Answer:
    """Another address."""
    return Answer(code, headers=(("Location", to),), takes=False)


def partial(rejected: int, message: str = "too many attributes") -> Answer:
    """Takes all but so many spans, and says so."""
    success = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    return Answer(body=ExportTraceServiceResponse(partial_success=success).SerializeToString(), rejected=rejected)


def slow(seconds: float) -> Answer:
    """Takes the spans, and says so after so long."""
    return replace(OK, delay=seconds)


@dataclass(frozen=True)
class Request:
    """What came, and what was done with it."""

    at: float  # time.monotonic()
    target: str
    headers: dict[str, str]  # by lower-case name; metadata, over gRPC
    spans: tuple[tuple[str, str], ...]  # (span id, name)
    resource: dict[str, Any]
    answer: Answer
    connection: int  # the first is 1
    peer: tuple[str, ...] = ()  # the names in the client's certificate


@dataclass
class _Script:
    """What both kinds of backend know."""

    answer: Answer = OK
    requests: list[Request] = field(default_factory=list)
    arrived: "Counter[str]" = field(default_factory=Counter)
    connections: int = 0
    most_bytes: int = 0  # in one request, uncompressed; 0 for any number

    def __post_init__(self) -> None:
        self._next: deque[Answer] = deque()
        self._changed = threading.Condition()
        self._over = threading.Event()

    def script(self, *answers: Answer) -> None:
        """What is answered to the next requests, before `answer` holds again."""
        with self._changed:
            self._next.extend(answers)

    def wait_for(self, predicate: Callable[[], object], timeout: float = 20.0) -> bool:
        """Wait until `predicate()` holds, which is asked again after each request and connection."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not predicate():
                left = deadline - time.monotonic()
                if left <= 0:
                    return bool(predicate())
                self._changed.wait(min(left, 0.1))
        return True

    def names(self) -> "Counter[str]":
        """How often a span of each name has been taken."""
        with self._changed:
            taken = [request for request in self.requests if request.answer.takes]
        return Counter(name for request in taken for _, name in request.spans)

    def _connected(self) -> int:
        with self._changed:
            self.connections += 1
            self._changed.notify_all()
            return self.connections

    def _received(self, body: bytes, target: str, headers: dict[str, str], connection: int, peer: tuple[str, ...] = ()) -> Answer:
        spans, resource = _read(body, headers)
        with self._changed:
            answer = self._next.popleft() if self._next else self.answer
            if 0 < self.most_bytes < len(body):
                answer = status(413)
            self.requests.append(Request(time.monotonic(), target, headers, spans, resource, answer, connection, peer))
            if answer.takes:
                self.arrived.update(span_id for span_id, _ in spans[answer.rejected :])
            self._changed.notify_all()
        return answer


def _read(body: bytes, headers: dict[str, str]) -> tuple[tuple[tuple[str, str], ...], dict[str, Any]]:
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    spans: list[tuple[str, str]] = []
    resource: dict[str, Any] = {}
    if "json" in headers.get("content-type", ""):
        from tests.export.test_encoding import from_otlp_json

        request = from_otlp_json(body.decode())
    else:
        request = ExportTraceServiceRequest.FromString(body)
    for group in request.resource_spans:
        for pair in group.resource.attributes:
            kind = pair.value.WhichOneof("value")
            resource[pair.key] = getattr(pair.value, kind) if kind else None
        for scope in group.scope_spans:
            spans += [(span.span_id.hex(), span.name) for span in scope.spans]
    return tuple(spans), resource


class Backend(_Script):
    """OTLP over HTTP. With `tls`, over TLS."""

    def __init__(self, answer: Answer = OK, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(answer)
        self.tls = tls
        self.tls_failures: list[str] = []
        self._open: dict[int, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._up = False
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self._listen()

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> "Backend":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def down(self) -> None:
        """As if it had been killed: connections are reset, and new ones refused. The port stays its own."""
        with self._changed:
            self._up = False
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listening.close()
        # Bound and not listening: nobody else gets the port, and who connects is refused.
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("127.0.0.1", self.port))
        with self._changed:
            left = list(self._open.values())
        for connection in left:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                socket.socket.shutdown(connection, socket.SHUT_RD)  # wakes its thread, which closes it

    def up(self) -> None:
        """Back again."""
        if not self._up:
            self._listening.listen(128)
            self._listen()

    def close(self) -> None:
        """Down for good. Whoever hangs in here is let go."""
        self._over.set()
        if self._up:
            self.down()
        for thread in self._threads:
            thread.join(10)
        self._listening.close()

    def _listen(self) -> None:
        self._up = True
        self._accepting = threading.Thread(target=self._accept, daemon=True, name="backend")
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # down
                return
            number = self._connected()
            thread = threading.Thread(target=self._serve, args=(connection, number), daemon=True, name=f"backend {number}")
            with self._changed:
                if not self._up:
                    connection.close()
                    return
                self._open[number] = connection
            self._threads = [other for other in self._threads if other.is_alive()] + [thread]
            thread.start()

    def _serve(self, raw: socket.socket, number: int) -> None:
        connection = raw
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                raw.settimeout(10)
                connection = self.tls.wrap_socket(raw, server_side=True)
                connection.settimeout(None)
                with self._changed:
                    self._open[number] = connection
            with connection.makefile("rb") as reading:
                while self._one(connection, reading, number):
                    pass
        except ssl.SSLError as error:
            self.tls_failures.append(error.reason or str(error))
        except (OSError, ValueError):
            pass  # the client has gone, or this backend is down
        finally:
            connection.close()  # before it is called closed
            with self._changed:
                self._open.pop(number, None)
                self._changed.notify_all()

    def _one(self, connection: socket.socket, reading: Any, number: int) -> bool:
        first = reading.readline(65_536)
        if not first:
            return False
        headers = {}
        while (line := reading.readline(65_536)) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        size = int(headers.get("content-length", 0))
        body = reading.read(size)
        if len(body) < size:
            return False
        peer: tuple[str, ...] = ()
        if isinstance(connection, ssl.SSLSocket):
            certificate = connection.getpeercert() or {}
            peer = tuple(str(value) for _, value in certificate.get("subjectAltName", ()))
        answer = self._received(body, first.decode("latin-1").split(" ")[1], headers, number, peer)
        return self._say(connection, answer)

    def _say(self, connection: socket.socket, answer: Answer) -> bool:
        if answer.delay:
            self._until_gone(connection, answer.delay)
        if answer.act == "hang":
            self._until_gone(connection, None)
            return False
        if answer.act == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            return False
        if answer.act == "hang_up":
            return False
        if answer.act == "raw":
            connection.sendall(answer.body)
            return False
        if answer.act == "drip":
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            while not self._until_gone(connection, 0.1):
                connection.sendall(b"x")
            return False
        headers = {"Content-Type": "application/x-protobuf", "Content-Length": str(len(answer.body))} | dict(answer.headers)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(f"HTTP/1.1 {answer.status} Scripted\r\n{head}\r\n".encode() + answer.body)
        return True

    def _until_gone(self, connection: socket.socket, timeout: float | None) -> bool:
        """Wait until the client has gone (or this backend is taken down), or for so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        connection.settimeout(0.05)
        try:
            while not self._over.is_set() and self._up:
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                try:
                    if not connection.recv(1):
                        return True
                except TimeoutError:
                    pass
            return True
        except OSError:
            return True
        finally:
            with contextlib.suppress(OSError):
                connection.settimeout(None)


class GrpcBackend(_Script):
    """OTLP over gRPC. Statuses are those of HTTP, as the specification maps them."""

    def __init__(self, answer: Answer = OK, *, credentials: Any = None, most_bytes: int = 4 << 20) -> None:
        super().__init__(answer)
        from concurrent import futures

        import grpc

        self._codes = {
            400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED, 404: grpc.StatusCode.UNIMPLEMENTED,
            429: grpc.StatusCode.RESOURCE_EXHAUSTED, 503: grpc.StatusCode.UNAVAILABLE,
        }  # fmt: skip
        service = grpc.method_handlers_generic_handler(
            "opentelemetry.proto.collector.trace.v1.TraceService",
            {"Export": grpc.unary_unary_rpc_method_handler(self._export)},
        )
        self._server = grpc.server(
            futures.ThreadPoolExecutor(4), (service,), options=(("grpc.max_receive_message_length", most_bytes),)
        )
        address = "127.0.0.1:0"
        self.secure = credentials is not None
        self.port: int = (
            self._server.add_secure_port(address, credentials) if credentials else self._server.add_insecure_port(address)
        )
        self._server.start()

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"{'https' if self.secure else 'http'}://localhost:{self.port}"

    def __enter__(self) -> "GrpcBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop."""
        self._over.set()
        self._server.stop(0).wait()

    def _export(self, body: bytes, context: Any) -> bytes:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        peer = tuple(name.decode() for name in context.peer_identities() or ())
        answer = self._received(body, "Export", metadata, 0, peer)
        if answer.delay:
            self._over.wait(answer.delay)
        if answer.act in ("hang", "drip"):
            while context.is_active() and not self._over.wait(0.02):
                pass
        if answer.status in self._codes:
            if answer.retry_after is not None:
                context.set_trailing_metadata((("grpc-status-details-bin", _retry_info(answer.retry_after)),))
            context.abort(self._codes[answer.status], "scripted")
        return answer.body


def _retry_info(seconds: float) -> bytes:
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    info = RetryInfo()
    info.retry_delay.FromNanoseconds(int(seconds * 1e9))
    packed = AnyMessage()
    packed.Pack(info)
    return Status(details=[packed]).SerializeToString()
