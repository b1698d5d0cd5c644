"""OTLP over gRPC, with our own bytes: the channel is grpcio's, the messages need none of its generated code."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import grpc

from lighttrace._version import __version__
from lighttrace.export.encoder import encode_spans
from lighttrace.export.exporter import ARRIVED, Outcome

if TYPE_CHECKING:
    from lighttrace.config import ExporterSettings
    from lighttrace.tracing.span import Span

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)

_UNANSWERED = frozenset({grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE})
"""What may also mean that the backend took the spans and its answer was lost."""


class GrpcExporter:
    """Sends batches to one endpoint. The channel is made with the first batch, so after a fork it is the child's own."""

    def __init__(self, settings: "ExporterSettings") -> None:
        self.settings = settings
        endpoint = settings.endpoint
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        self.target = parts.netloc.rpartition("@")[2] or endpoint
        self._secure = parts.scheme == "https" or (parts.scheme != "http" and not settings.insecure)
        self._metadata = tuple((name.lower(), value) for name, value in settings.headers.items())
        self._compression = grpc.Compression.Gzip if settings.compression == "gzip" else grpc.Compression.NoCompression
        self._channel: Any = None
        self._export: Any = None

    def prepare(self, batch: "list[Span]", extra: dict[str, Any] | None, broken: "list[Span] | None" = None) -> bytes:
        """Encode a batch."""
        return encode_spans(batch, extra, broken)

    def send(self, payload: bytes, timeout: float) -> Outcome:
        """Call the backend's Export once."""
        try:
            export = self._export or self._connect()
            answer = export(payload, timeout=min(timeout, self.settings.timeout_s or timeout), metadata=self._metadata)
        except OSError as error:
            return Outcome(f"tls: {error}; see OTEL_EXPORTER_OTLP_CERTIFICATE")
        except grpc.RpcError as error:
            code = error.code()
            reason = f"grpc_{code.name.lower()}: {self.target}: {str(error.details())[:200]}"
            after = _retry_after(error)
            # The specification: exhausted resources are worth another try only where the backend says when.
            retry = code in _RETRYABLE and (code is not grpc.StatusCode.RESOURCE_EXHAUSTED or after is not None)
            too_large = code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in reason
            unanswered = code in _UNANSWERED and not _not_sent(error)
            return Outcome(reason, retry=retry, retry_after=after, unanswered=unanswered, too_large=too_large)
        return self._read(answer)

    def _connect(self) -> Any:
        options = (("grpc.primary_user_agent", f"OTel-OTLP-Exporter-Python/lighttrace-{__version__}"),)
        if self._secure:
            settings = self.settings
            credentials = grpc.ssl_channel_credentials(
                _content(settings.certificate), _content(settings.client_key), _content(settings.client_certificate)
            )
            self._channel = grpc.secure_channel(self.target, credentials, options, self._compression)
        else:
            self._channel = grpc.insecure_channel(self.target, options, self._compression)
        self._export = self._channel.unary_unary(_METHOD, request_serializer=None, response_deserializer=None)
        return self._export

    def _read(self, answer: bytes) -> Outcome:
        if not answer:
            return ARRIVED
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        from lighttrace import guard

        try:
            partial = ExportTraceServiceResponse.FromString(answer).partial_success
        except Exception:
            guard.count("export.unreadable_answer")
            return ARRIVED
        if partial.rejected_spans or partial.error_message:
            guard.log("export.partial", f"the backend refused {partial.rejected_spans} spans: {partial.error_message[:200]}")
        return Outcome(rejected=max(0, partial.rejected_spans))

    def close(self) -> None:
        """Close the channel."""
        channel, self._channel, self._export = self._channel, None, None
        if channel is not None:
            channel.close()


def _not_sent(error: Any) -> bool:
    """Whether gRPC says that there was nobody to send to, or that the backend itself refused."""
    details = str(error.details() or "")
    return "failed to connect" in details or "DNS" in details or bool(error.trailing_metadata())


def _content(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def _retry_after(error: Any) -> float | None:
    """Seconds that the backend's RetryInfo asks for (google.rpc)."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            try:
                from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # it has no types
                from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # as above

                for detail in Status.FromString(value).details:
                    info = RetryInfo()
                    if detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(info):
                        return min(float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9), 3600.0)
            except Exception:
                return None
    return None
