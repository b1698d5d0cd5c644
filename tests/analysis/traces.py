"""Traces written by hand: spans by name, times in milliseconds."""

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lighttrace.analysis.decode import from_json_line, from_protobuf
from lighttrace.analysis.encode import to_json_line
from lighttrace.analysis.model import SpanRecord

MS = 1_000_000
BEGIN = 1_790_000_000_000_000_000

TEAMS = {
    "storefront": "web",
    "checkout": "payments",
    "inventory": "logistics",
    "recommendations": "discovery",
    "ledger": "finance",
}


class Trace:
    """Spans are added from the root down; `at` and `took` are milliseconds from the trace's begin."""

    def __init__(self, number: int = 1) -> None:
        self.trace_id = f"{number:032x}"
        self.spans: list[SpanRecord] = []

    def add(
        self,
        service: str,
        name: str,
        at: float,
        took: float,
        parent: "SpanRecord | str | None" = None,
        kind: str = "internal",
        error: Any = None,
        skew: float = 0,
        **attributes: Any,
    ) -> SpanRecord:
        """`error`: an exception class and its message, or True. Attributes are given with `__` for a dot."""
        start = BEGIN + int((at + skew) * MS)
        end = start + int(took * MS)
        values = {key.replace("__", "."): value for key, value in attributes.items()}
        events = []
        if isinstance(error, tuple):
            values.setdefault("error.type", error[0])
            exception = {"exception.type": error[0], "exception.message": error[1]}
            events.append({"name": "exception", "time_ns": end - 1000, "attributes": exception})
        resource = {"service.name": service}
        if service in TEAMS:
            team = TEAMS[service]
            values.setdefault("team", team)
            resource |= {
                "team": team,
                "service.owner.contact": f"#{team}-oncall",
                "service.owner.url": f"https://runbooks/{team}",
            }
        span = SpanRecord(
            self.trace_id,
            f"{len(self.spans) + 1:016x}",
            parent.span_id if isinstance(parent, SpanRecord) else parent,
            name,
            kind,
            start,
            end,
            "error" if error else "unset",
            attributes={key: value for key, value in values.items() if value is not None},
            events=events,
            resource=resource,
        )
        self.spans.append(span)
        return span

    def server(
        self, service: str, name: str, at: float, took: float, parent: Any = None, status: int = 200, **more: Any
    ) -> SpanRecord:
        """A server's entry span. 5xx is an error, 4xx is not."""
        more = {"http__response__status_code": status, "error": status >= 500 or None, **more}
        return self.add(service, name, at, took, parent, "server", **more)

    def client(self, service: str, at: float, took: float, parent: Any, status: int | None = 200, **more: Any) -> SpanRecord:
        """An HTTP client span. From 400 on it is an error."""
        more = {
            "http__response__status_code": status,
            "error": (status or 0) >= 400 or None,
            "server__address": "somewhere",
            **more,
        }
        return self.add(service, more.pop("name", "GET"), at, took, parent, "client", **more)

    def query(self, service: str, summary: str, at: float, took: float, parent: Any, **more: Any) -> SpanRecord:
        """A database query."""
        more = {"db__system__name": "postgresql", "db__query__summary": summary, "server__address": "orders-db", **more}
        return self.add(service, summary, at, took, parent, "client", **more)

    def call(
        self, caller: str, callee: str, at: float, took: float, parent: Any, status: int = 200, name: str = "GET /", **more: Any
    ) -> SpanRecord:
        """A client span and, a millisecond inside it, the server's; gives the server's."""
        client = self.client(caller, at, took, parent, status)
        return self.server(callee, name, at + 1, took - 2, client, status, **more)

    def without(self, *spans: SpanRecord) -> list[SpanRecord]:
        """All spans but these, which were lost on the way."""
        lost = {span.span_id for span in spans}
        return [span for span in self.spans if span.span_id not in lost]


def to_protobuf(spans: Sequence[SpanRecord]) -> bytes:
    """An `ExportTraceServiceRequest` of these spans, made by protobuf's own library."""
    line = json.loads(to_json_line(spans))
    made = [span for group in line["resourceSpans"] for scope in group["scopeSpans"] for span in scope["spans"]]
    ids = [{key: bytes.fromhex(span.pop(key, "")) for key in ("traceId", "spanId", "parentSpanId")} for span in made]
    request = Parse(json.dumps(line), ExportTraceServiceRequest())  # its own JSON has ids in base64: they are put in afterwards
    messages = [span for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]
    for message, known in zip(messages, ids, strict=True):
        message.trace_id, message.span_id, message.parent_span_id = known["traceId"], known["spanId"], known["parentSpanId"]
    return request.SerializeToString()


def as_received(spans: Sequence[SpanRecord]) -> dict[str, list[SpanRecord]]:
    """The spans as an exporter's own objects, and as they are after a way over OTLP."""
    return {"json": from_json_line(to_json_line(spans)), "protobuf": from_protobuf(to_protobuf(spans))}
