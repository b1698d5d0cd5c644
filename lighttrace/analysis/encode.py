"""`SpanRecord`s back to OTLP JSON, for keeping a trace that was received."""

import base64
import json
from collections.abc import Iterable
from typing import Any

from lighttrace.analysis.model import KINDS, STATUSES, SpanRecord

_KINDS = {name: number for number, name in enumerate(KINDS) if number}


def to_json_line(spans: Iterable[SpanRecord]) -> str:
    """One `ExportTraceServiceRequest` on one line, as `from_json_line` reads it."""
    groups: dict[int, tuple[dict[str, Any], dict[str, list[Any]]]] = {}
    for span in spans:
        group = groups.setdefault(id(span.resource), (span.resource, {}))
        group[1].setdefault(span.scope, []).append(_span(span))
    request = {
        "resourceSpans": [
            {
                "resource": {"attributes": _pairs(resource)},
                "scopeSpans": [{"scope": {"name": name}, "spans": made} for name, made in scopes.items()],
            }
            for resource, scopes in groups.values()
        ]
    }
    return json.dumps(request, separators=(",", ":"))


def _span(span: SpanRecord) -> dict[str, Any]:
    made: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _KINDS.get(span.kind, 1),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _pairs(span.attributes),
        "status": {"code": STATUSES.index(span.status), **({"message": span.status_message} if span.status_message else {})},
    }
    if span.parent_id:
        made["parentSpanId"] = span.parent_id
    if span.events:
        made["events"] = [
            {"name": event["name"], "timeUnixNano": str(event["time_ns"]), "attributes": _pairs(event["attributes"])}
            for event in span.events
        ]
    if span.links:
        made["links"] = [
            {"traceId": link["trace_id"], "spanId": link["span_id"], "attributes": _pairs(link["attributes"])}
            for link in span.links
        ]
    return made


def _pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _pairs(value)}}
    return {} if value is None else {"stringValue": str(value)}
