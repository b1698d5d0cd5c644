"""Whether the backend really takes what we send: an empty export request, sent by the exporter that the program would use."""

import time
from typing import Any, NamedTuple

from lighttrace.config import ExporterSettings

_TIMEOUT_S = 5.0  # somebody waits for the answer at a terminal

# What to do about what the exporter's account of a failure contains, the first that fits.
_HINTS = (
    ("status_401", "OTEL_EXPORTER_OTLP_HEADERS lacks the backend's key, or it is wrong"),
    ("status_403", "OTEL_EXPORTER_OTLP_HEADERS lacks the backend's key, or the key may not write"),
    (
        "status_404",
        "the path is wrong: OTEL_EXPORTER_OTLP_ENDPOINT is without /v1/traces, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is taken as it is",
    ),
    ("status_405", "this is a web page and no OTLP receiver; their usual port is 4318"),
    ("status_415", "it does not understand this protocol; try another OTEL_EXPORTER_OTLP_PROTOCOL"),
    ("refused", "nothing listens there; is the collector running, and is the port right? (4318 for HTTP, 4317 for gRPC)"),
    ("UNAVAILABLE", "nothing that speaks gRPC listens there; is the port right? (4317 for gRPC, 4318 for HTTP)"),
    ("timeout", "a firewall on the way, or a backend that hangs"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted; OTEL_EXPORTER_OTLP_CERTIFICATE names the authority's file"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS; the endpoint is http:// perhaps"),
    ("Name or service", "the host cannot be found"),
    ("getaddrinfo", "the host cannot be found"),
    ("not known", "the host cannot be found"),
    ("hung up", "it does not speak HTTP perhaps; port 4317 is gRPC's (OTEL_EXPORTER_OTLP_PROTOCOL=grpc)"),
)


class Attempt(NamedTuple):
    """What came of it: `detail` is a sentence, with what to do about it where it failed. `duration_ms` is in milliseconds."""

    endpoint: str
    protocol: str
    ok: bool
    detail: str
    duration_ms: float


def try_endpoint(settings: ExporterSettings) -> Attempt:
    """Send an empty export request. Never raises."""
    begun = time.perf_counter()
    try:
        exporter = _exporter(settings)
        try:
            reason = exporter.send(exporter.prepare([], None), _TIMEOUT_S).reason
        finally:
            exporter.close()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    duration = round((time.perf_counter() - begun) * 1e3, 1)
    return Attempt(without_password(settings.endpoint), settings.protocol, not reason, explain(reason), duration)


def _exporter(settings: ExporterSettings) -> Any:
    if settings.protocol == "grpc":
        from lighttrace.export.grpc import GrpcExporter

        return GrpcExporter(settings)
    from lighttrace.export.http import HttpExporter

    return HttpExporter(settings)


def explain(reason: str) -> str:
    """The exporter's account of a failure, and what to do about it.

    >>> explain("")
    'it answered'
    """
    if not reason:
        return "it answered"
    hint = next((hint for sign, hint in _HINTS if sign in reason), None)
    return f"{reason} ({hint})" if hint else reason


def without_password(endpoint: str) -> str:
    """A URL without its user info, which may be a key.

    >>> without_password("https://user:key@host:4318/v1/traces")
    'https://REDACTED@host:4318/v1/traces'
    """
    scheme, separator, rest = endpoint.partition("://")
    authority, slash, path = rest.partition("/")
    if not separator or "@" not in authority:
        return endpoint
    return f"{scheme}://REDACTED@{authority.rpartition('@')[2]}{slash}{path}"
