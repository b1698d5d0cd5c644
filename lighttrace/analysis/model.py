"""A span as the analysis sees it: decoded, from any language, with old attribute names understood."""

from typing import Any

from lighttrace import semconv

KINDS = ("internal", "internal", "server", "client", "producer", "consumer")
"""OTLP's numbers for span kinds; 0 is unspecified and read as internal."""
STATUSES = ("unset", "ok", "error")

_NO: dict[str, Any] = {}
_CANCELLED = ("CancelledError", "CancellationException", "Cancelled")  # of asyncio, concurrent.futures, Java, trio


class SpanRecord:
    """One span. Ids are lower-case hex, times are nanoseconds since the epoch."""

    __slots__ = (
        "attributes", "end_ns", "events", "kind", "links", "name", "parent_id", "resource", "scope", "span_id", "start_ns", "status",
        "status_message", "trace_id",
    )  # fmt: skip

    def __init__(
        self,
        trace_id: str,
        span_id: str,
        parent_id: str | None = None,
        name: str = "",
        kind: str = "internal",
        start_ns: int = 0,
        end_ns: int = 0,
        status: str = "unset",
        status_message: str = "",
        attributes: dict[str, Any] | None = None,
        events: list[dict[str, Any]] | None = None,
        links: list[dict[str, Any]] | None = None,
        resource: dict[str, Any] | None = None,
        scope: str = "",
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id or None
        self.name = name
        self.kind = kind
        self.start_ns = start_ns
        self.end_ns = max(end_ns, start_ns)
        self.status = status
        self.status_message = status_message
        self.attributes = attributes if attributes is not None else {}
        self.events = events if events is not None else []  # {"name", "time_ns", "attributes"}
        self.links = links if links is not None else []
        self.resource = resource if resource is not None else _NO
        self.scope = scope

    def get(self, key: str) -> Any:
        """An attribute by today's name, whatever the span calls it; None if it is not there."""
        value = self.attributes.get(key)
        if value is None:
            for old in semconv.OLD_NAMES.get(key, ()):
                value = self.attributes.get(old)
                if value is not None:
                    return value
        return value

    @property
    def service(self) -> str:
        """The service that made the span."""
        return str(self.resource.get(semconv.SERVICE_NAME) or "")

    @property
    def team(self) -> str | None:
        """The team that owns the span; the service's where the span itself says nothing."""
        found = (
            self.attributes.get(semconv.TEAM) or self.resource.get(semconv.TEAM) or self.resource.get(semconv.SERVICE_OWNER_NAME)
        )
        return str(found) if found else None

    @property
    def failed(self) -> bool:
        """Whether it went wrong: its status is Error, or it is an HTTP call with 5xx that was given no status.

        What was cancelled did not go wrong, whatever its tracer says: something else did, or nothing.
        """
        if self.status == "error":
            return not self._cancelled or (self.http_status or 0) >= 500
        return self.status == "unset" and self.kind in ("server", "client") and (self.http_status or 0) >= 500

    @property
    def _cancelled(self) -> bool:
        kind = self.attributes.get(semconv.ERROR_TYPE)
        if kind is None:
            event = self.exception
            kind = event["attributes"].get(semconv.EXCEPTION_TYPE) if event is not None else None
        return str(kind).rpartition(".")[2] in _CANCELLED

    @property
    def duration_ns(self) -> int:
        """How long it took."""
        return self.end_ns - self.start_ns

    @property
    def http_status(self) -> int | None:
        """The response's status code, where the span is an HTTP call."""
        value = self.get(semconv.HTTP_RESPONSE_STATUS_CODE)
        try:
            return int(value) if value is not None else None
        except (TypeError, ValueError):
            return None

    @property
    def exception(self) -> dict[str, Any] | None:
        """The last exception that was recorded on the span: its event."""
        for event in reversed(self.events):
            if event["name"] == semconv.EXCEPTION_EVENT:
                found: dict[str, Any] = event
                return found
        return None

    @property
    def code(self) -> str | None:
        """`file:line in function` of the failing line, where the span knows it."""
        file = self.get(semconv.CODE_FILE_PATH)
        if not file:
            return None
        line, function = self.get(semconv.CODE_LINE_NUMBER), self.get(semconv.CODE_FUNCTION_NAME)
        return f"{file}{f':{line}' if line else ''}{f' in {function}' if function else ''}"

    def __repr__(self) -> str:
        return f"<SpanRecord {self.name!r} {self.kind} {self.status} of {self.service}, {self.duration_ns / 1e6:.1f} ms>"
