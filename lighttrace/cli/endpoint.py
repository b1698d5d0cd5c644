"""Whether the backend really takes what we send: an empty export request, posted to it."""

import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lighttrace.config import ExporterSettings

_CONTENT = {"http/protobuf": ("application/x-protobuf", b""), "http/json": ("application/json", b"{}")}
"""An ExportTraceServiceRequest with nothing in it, as each protocol writes it. In protobuf that is no bytes at all."""

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_TIMEOUT_S = 5.0  # somebody waits for the answer at a terminal


class Attempt(NamedTuple):
    """What came of it: `detail` is a sentence, with what to do about it where it failed."""

    endpoint: str
    protocol: str
    ok: bool
    detail: str
    duration_ms: float


def try_endpoint(settings: ExporterSettings) -> Attempt:
    """Post an empty export request. Never raises."""
    begun = time.perf_counter()
    try:
        detail = _post_grpc(settings) if settings.protocol == "grpc" else _post_http(settings)
        ok = not detail
    except Exception as error:  # whatever a network and a wrong address can come up with is the answer
        ok, detail = False, _explain(error, settings)
    duration = (time.perf_counter() - begun) * 1e3
    return Attempt(without_password(settings.endpoint), settings.protocol, ok, detail or "it answered", round(duration, 1))


def _post_http(settings: ExporterSettings) -> str:
    from http.client import HTTPConnection, HTTPSConnection

    url = urlsplit(settings.endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("the endpoint must be a URL such as http://localhost:4318")
    timeout = min(settings.timeout_s, _TIMEOUT_S)
    connection: HTTPConnection
    if url.scheme == "https":
        connection = HTTPSConnection(url.hostname, url.port, timeout=timeout, context=_tls(settings))
    else:
        connection = HTTPConnection(url.hostname, url.port, timeout=timeout)
    content_type, body = _CONTENT[settings.protocol]
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        connection.request("POST", path, body, {**settings.headers, "content-type": content_type})
        answer = connection.getresponse()
        text = answer.read(300).decode("utf-8", "replace").strip()
    finally:
        connection.close()
    if answer.status < 300:
        return ""
    hint = {
        301: "follow it by hand: the endpoint is another one",
        302: "follow it by hand: the endpoint is another one",
        401: "OTEL_EXPORTER_OTLP_HEADERS lacks the backend's key, or it is wrong",
        403: "OTEL_EXPORTER_OTLP_HEADERS lacks the backend's key, or it may not write",
        404: "the path is wrong; OTEL_EXPORTER_OTLP_ENDPOINT is without /v1/traces, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is",
        405: "this is a web page and no OTLP receiver; their usual port is 4318",
        415: "it does not understand this protocol; try OTEL_EXPORTER_OTLP_PROTOCOL",
    }.get(answer.status, "")
    return f"it answered {answer.status} {answer.reason}" + (f": {hint}" if hint else f": {text[:200]}" if text else "")


def _tls(settings: ExporterSettings) -> Any:
    import ssl

    context = ssl.create_default_context(cafile=settings.certificate)
    if settings.client_certificate:
        context.load_cert_chain(settings.client_certificate, settings.client_key)
    return context


def _post_grpc(settings: ExporterSettings) -> str:
    try:
        import grpc
    except ImportError:
        return "grpcio is not installed: pip install grpcio, or use OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
    url = urlsplit(settings.endpoint if "://" in settings.endpoint else f"//{settings.endpoint}")
    target = url.netloc.rpartition("@")[2]
    if settings.insecure or url.scheme == "http":
        channel = grpc.insecure_channel(target)
    else:
        read = [_read(path) for path in (settings.certificate, settings.client_key, settings.client_certificate)]
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(*read))
    try:
        export = channel.unary_unary(_METHOD)
        export(b"", timeout=min(settings.timeout_s, _TIMEOUT_S), metadata=tuple(settings.headers.items()))
    except grpc.RpcError as error:
        return f"it answered {error.code().name}: {error.details()}"
    finally:
        channel.close()
    return ""


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def _explain(error: BaseException, settings: ExporterSettings) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there; is the collector running, and is the port right? (4318 for HTTP, 4317 for gRPC)"
    if isinstance(error, TimeoutError):
        return f"no answer within {min(settings.timeout_s, _TIMEOUT_S):g} s; a firewall, or a backend that hangs"
    name = type(error).__name__
    if name == "gaierror":
        return f"the host cannot be found: {error}"
    if name == "SSLCertVerificationError":
        return f"its certificate is not trusted: {error}; OTEL_EXPORTER_OTLP_CERTIFICATE names the authority's file"
    if name in ("BadStatusLine", "RemoteDisconnected"):
        return f"it does not speak HTTP: {name}; a gRPC port perhaps (OTEL_EXPORTER_OTLP_PROTOCOL=grpc)"
    return f"{name}: {error}"


def without_password(endpoint: str) -> str:
    scheme, separator, rest = endpoint.partition("://")
    if not separator:
        return endpoint
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = "REDACTED@" + authority.rpartition("@")[2]
    return f"{scheme}://{authority}{slash}{path}"
