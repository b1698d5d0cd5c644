"""Spans to OTLP JSON (OpenTelemetry protocol specification, "JSON Protobuf Encoding"): hex ids, 64-bit numbers as strings."""

import json
import math
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lighttrace.export.encoder import attributes_of, leave_out, nanoseconds, scope_of
from lighttrace.tracing.values import exportable, text_of

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span

_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


def encode_json(batch: Iterable["Span"], extra: Mapping[str, Any] | None = None, broken: "list[Span] | None" = None) -> str:
    """An `ExportTraceServiceRequest` on one line. A span that cannot be encoded is left out, as in `encode_spans`."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for span in batch:
        try:
            groups.setdefault(span._tracer, []).append(_span(span))
        except Exception as error:
            leave_out(span, error, broken)
    resources: dict[int, dict[str, Any]] = {}
    for tracer, spans in groups.items():
        resource = tracer.pipeline.resource
        entry = resources.get(id(resource))
        if entry is None:
            merged = {key: exportable(value) for key, value in {**resource, **(extra or {})}.items()}
            entry = resources[id(resource)] = {"resource": {"attributes": _pairs(merged)}, "scopeSpans": []}
        name, version, attributes, schema = scope_of(tracer)
        scope: dict[str, Any] = {"name": name}
        if version:
            scope["version"] = version
        if attributes:
            scope["attributes"] = _pairs(attributes)
        group = {"scope": scope, "spans": spans}
        if schema:
            group["schemaUrl"] = schema
        entry["scopeSpans"].append(group)
    text = json.dumps({"resourceSpans": list(resources.values())}, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # a lone surrogate is no UTF-8


def _span(span: "Span") -> dict[str, Any]:
    trace = span._trace
    is_remote = trace.far is not None and trace.far.is_remote and trace.entered_by(span._parent_id)
    made: dict[str, Any] = {
        "traceId": trace.id_bytes.hex(),
        "spanId": f"{span._span_id:016x}",
        "flags": 0x300 if is_remote else 0x100,
        "name": text_of(span._name),
        "kind": span._kind.value + 1,
        "startTimeUnixNano": str(nanoseconds(span._start)),
        "endTimeUnixNano": str(nanoseconds(span._end)),
        "attributes": _pairs(attributes_of(span)),
        "status": {"code": span._status} if span._status else {},
    }
    if span._parent_id:
        made["parentSpanId"] = f"{span._parent_id:016x}"
    if trace.state:
        made["traceState"] = ",".join([f"{key}={value}" for key, value in trace.state.items()])
    rare = span._rare
    if rare is not None:
        if rare.message and span._status == 2:
            made["status"]["message"] = rare.message
        made["events"] = [
            {"name": name, "timeUnixNano": str(nanoseconds(time)), "attributes": _pairs(kept), "droppedAttributesCount": dropped}
            for name, time, kept, dropped in rare.events
        ]
        made["links"] = [
            {
                "traceId": f"{context.trace_id:032x}",
                "spanId": f"{context.span_id:016x}",
                "attributes": _pairs(kept),
                "droppedAttributesCount": dropped,
                "flags": 0x300 if context.is_remote else 0x100,
            }
            for context, kept, dropped in rare.links
        ]
        made["droppedAttributesCount"] = rare.dropped_attributes
        made["droppedEventsCount"] = rare.dropped_events
        made["droppedLinksCount"] = rare.dropped_links
    return made


def _pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": str(key), "value": _value(value)} for key, value in attributes.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    kind = type(value)
    if kind is str:
        return {"stringValue": value}
    if kind is bool:
        return {"boolValue": value}
    if kind is int:
        return {"intValue": str(value)} if -(1 << 63) <= value < 1 << 63 else {"stringValue": str(value)}
    if kind is float:
        # JSON has no numbers for these; protobuf's JSON form writes their names.
        return {"doubleValue": value if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")}
    if kind is bytes:
        return {"bytesValue": b64encode(value).decode()}
    if kind is tuple or kind is list:
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    if kind is dict:
        return {"kvlistValue": {"values": [{"key": str(key), "value": _value(item)} for key, item in value.items()]}}
    return {} if value is None else {"stringValue": str(value)}
