"""OTLP over HTTP (OpenTelemetry protocol specification, "OTLP/HTTP"): one kept connection, over the standard library.

Imported with the first batch: a program that ends before has not paid for ssl and http.client.
"""

import encodings.idna  # noqa: F401  # what looking up a host imports, on the worker's thread in the middle of a fork
import gzip
import http.client
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks the second

from lighttrace import guard
from lighttrace._version import __version__
from lighttrace.export.encoder import encode_spans
from lighttrace.export.exporter import Outcome
from lighttrace.export.wire import Answer, BadAnswer, HungUp, gone, receive, send, talk

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from lighttrace.config import ExporterSettings
    from lighttrace.tracing.span import Span

_RETRYABLE = frozenset({429, 502, 503, 504})
_UNANSWERED = frozenset({502, 504})
"""What a gateway says of a backend behind it that did not answer, and may have taken the spans."""
_LONGEST_PAUSE = 3600.0  # seconds: whoever asks to be left alone for longer has a wrong clock
_IDLE = 1.0  # seconds after which a kept connection is looked at before it is used: backends close what says nothing
_GZIP_LEVEL = 1  # attributes compress well at any level, and the worker shares the program's processor


class HttpExporter:
    """Sends batches to one endpoint, as `http/protobuf` or `http/json`."""

    def __init__(self, settings: "ExporterSettings") -> None:
        self.settings = settings
        parts = urlsplit(settings.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the OTLP endpoint {settings.endpoint!r} is not an http:// or https:// address")
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._json = settings.protocol == "http/json"
        given = {name.lower() for name in settings.headers}
        usual = {
            "Content-Type": "application/json" if self._json else "application/x-protobuf",
            "User-Agent": f"OTel-OTLP-Exporter-Python/lighttrace-{__version__}",
        }
        self._headers = {name: value for name, value in usual.items() if name.lower() not in given} | settings.headers
        if parts.username and not any(name.lower() == "authorization" for name in self._headers):
            self._headers["Authorization"] = _basic(parts)
        if settings.compression == "gzip":
            self._headers["Content-Encoding"] = "gzip"
        self._connection: http.client.HTTPConnection | None = None
        self._proxied = False
        self._proxy_headers: dict[str, str] = {}
        self._head = b""  # of every request on that connection, up to the length of its body
        self._used = 0.0  # when the connection last brought an answer
        self._pid = os.getpid()

    def prepare(self, batch: "list[Span]", extra: dict[str, Any] | None, broken: "list[Span] | None" = None) -> bytes:
        """Encode a batch as the protocol in use wants it."""
        if self._json:
            from lighttrace.export.json_encoder import encode_json

            body = encode_json(batch, extra, broken).encode()
        else:
            body = encode_spans(batch, extra, broken)
        return gzip.compress(body, _GZIP_LEVEL, mtime=0) if self.settings.compression == "gzip" else body

    def send(self, payload: bytes, timeout: float) -> Outcome:
        """Post one batch. Never raises for what a backend or a network can do."""
        deadline = time.monotonic() + min(timeout, self.settings.timeout_s or timeout)
        kept = self._connection
        if kept is not None and time.monotonic() - self._used > _IDLE and gone(kept.sock):
            self.close()
        fresh = self._connection is None
        outcome = self._post(payload, deadline)
        if outcome.hung_up and not fresh:
            # The backend closed a kept connection in this very moment. Whether it had read what was sent, it alone knows.
            repeats = int(outcome.unanswered)
            outcome = self._post(payload, deadline)
            if repeats:
                outcome.repeats = repeats
        return outcome

    def _post(self, payload: bytes, deadline: float) -> "_Posted":
        begun = time.monotonic()
        kept = self._connection
        sent = False
        try:
            connection = self._connect(max(0.01, deadline - begun))
            head = self._head + b"Content-Length: %d\r\n\r\n" % len(payload)
            source = talk(connection.sock, max(deadline, time.monotonic() + 0.01))
            send(source, head, payload)
            sent = True
            answer = receive(source)
            self._used = time.monotonic()
            if not answer.keep:
                self.close()
        except HungUp:
            self.close()
            # Over TLS 1.3 a backend that does not like our certificate says so after the handshake, or hangs up.
            hint = "; does it demand another OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE?" if self._secure and kept is None else ""
            return _Posted(f"connection: {self._where()} hung up{hint}", retry=True, unanswered=sent, hung_up=True)
        except TimeoutError:
            self.close()
            took = time.monotonic() - begun
            return _Posted(f"timeout: {self._where()} did not answer within {took:.1f} s", retry=True, unanswered=sent)
        except ssl.SSLError as error:
            self.close()
            if kept is not None:  # it had worked: the other side broke off
                where = self._where()
                return _Posted(f"connection: {where}: {error.reason or error}", retry=True, unanswered=sent, hung_up=True)
            return _Posted(f"tls: {self._where()}: {error.reason or error}; see OTEL_EXPORTER_OTLP_CERTIFICATE", unanswered=sent)
        except _BadFile as error:
            self.close()
            return _Posted(f"tls: {error}")
        except (OSError, http.client.HTTPException, BadAnswer) as error:
            self.close()
            return _Posted(f"connection: {self._where()}: {error or type(error).__name__}", retry=True, unanswered=sent)
        return self._read(answer)

    def _read(self, answer: Answer) -> "_Posted":
        status, body = answer.status, answer.body
        if 200 <= status < 300:
            if answer.headers.get("content-type", "").startswith("text/html"):
                return _Posted(f"not_otlp: {self._where()}{self._path} answers with a web page; see OTEL_EXPORTER_OTLP_ENDPOINT")
            return self._read_partial(body) if body and body != b"{}" else _Posted()
        if 300 <= status < 400:
            where = answer.headers.get("location") or "elsewhere"
            return _Posted(f"redirected: {self._where()} answers {status} to {where}; put that into OTEL_EXPORTER_OTLP_ENDPOINT")
        said = body[:200].decode("utf-8", "replace").strip()
        reason = f"status_{status}: {self._where()} answers {status} {answer.reason}{': ' + said if said.isprintable() and said else ''}"
        after = _retry_after(answer.headers.get("retry-after"))
        # OpenTelemetry's collector says it with 400.
        too_large = status == 413 or (status == 400 and b"too large" in body)
        return _Posted(
            reason, retry=status in _RETRYABLE, retry_after=after, unanswered=status in _UNANSWERED, too_large=too_large
        )

    def _read_partial(self, body: bytes) -> "_Posted":
        """The backend took the batch; it may have refused some of it."""
        try:
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

            if body[:1] == b"{":
                import json

                partial = json.loads(body).get("partialSuccess", {})
                rejected, message = int(partial.get("rejectedSpans", 0)), str(partial.get("errorMessage", ""))
            else:
                success = ExportTraceServiceResponse.FromString(body).partial_success
                rejected, message = success.rejected_spans, success.error_message
        except Exception:
            guard.count("export.unreadable_answer")
            return _Posted()
        if rejected or message:
            guard.log("export.partial", f"the backend refused {rejected} spans: {message[:200]}")
        return _Posted(rejected=max(0, rejected))

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._pid != os.getpid():  # a connection made before a fork is the parent's
            self._connection, self._pid = None, os.getpid()
        connection = self._connection
        if connection is None:
            connection = self._open(timeout)
            connection.connect()
            sock = connection.sock
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection = connection
            host = f"[{self._host}]" if ":" in self._host else self._host
            usual = self._port == (443 if self._secure else 80)
            authority = host if usual else f"{host}:{self._port}"
            # A plain proxy is told the whole address; through a tunnel or without one, the path is enough.
            target = f"http://{authority}{self._path}" if self._proxied else self._path
            headers = {**self._headers, **self._proxy_headers} if self._proxied else self._headers
            fields = "".join(f"{name}: {_one_line(value)}\r\n" for name, value in headers.items())
            self._head = f"POST {target} HTTP/1.1\r\nHost: {authority}\r\n{fields}".encode("latin-1", "replace")
        return connection

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        context = self._tls() if self._secure else None
        proxy = None
        self._proxied = False
        if not proxy_bypass_environment(self._host):
            proxy = getproxies_environment().get("https" if self._secure else "http")
        if proxy:
            there = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            host, port = there.hostname or "", there.port or 80
            if context is not None:
                tunnel = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
                tunnel.set_tunnel(self._host, self._port, _proxy_headers(there))
                return tunnel
            self._proxied = True
            self._proxy_headers = _proxy_headers(there)
            return http.client.HTTPConnection(host, port, timeout=timeout)
        if context is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def _tls(self) -> ssl.SSLContext:
        settings = self.settings
        # Opened here first: what ssl says about a file that is not there does not name it.
        for path in (settings.certificate, settings.client_certificate, settings.client_key):
            if path:
                try:
                    open(path, "rb").close()
                except OSError as error:
                    raise _BadFile(f"{path}: {error.strerror}") from None
        context = ssl.create_default_context(cafile=settings.certificate)
        if settings.client_certificate:
            context.load_cert_chain(settings.client_certificate, settings.client_key)
        return context

    def _where(self) -> str:
        return f"{'https' if self._secure else 'http'}://{self._host}:{self._port}"

    def close(self) -> None:
        """Let the connection go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Posted(Outcome):
    """What became of one request."""

    __slots__ = ("hung_up",)

    def __init__(self, reason: str = "", *, hung_up: bool = False, **more: Any) -> None:
        super().__init__(reason, **more)
        self.hung_up = hung_up  # before a word of an answer


class _BadFile(Exception):
    """A file of certificates that cannot be read."""


def _basic(parts: "SplitResult") -> str:
    import base64
    from urllib.parse import unquote

    secret = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    return "Basic " + base64.b64encode(secret).decode()


def _proxy_headers(proxy: "SplitResult") -> dict[str, str]:
    return {"Proxy-Authorization": _basic(proxy)} if proxy.username else {}


def _one_line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")


def _retry_after(value: str | None) -> float | None:
    """Seconds that `Retry-After` asks for: a number, or a date (RFC 9110)."""
    if not value:
        return None
    if value.strip().isdigit():
        return min(float(value), _LONGEST_PAUSE)
    try:
        from email.utils import parsedate_to_datetime

        return min(max(0.0, parsedate_to_datetime(value).timestamp() - time.time()), _LONGEST_PAUSE)
    except (TypeError, ValueError):
        return None
