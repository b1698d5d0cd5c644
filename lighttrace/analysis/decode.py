"""OTLP to `SpanRecord`s: JSON lines as our file exporter and the Collector's write them, and protobuf."""

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any

from lighttrace.analysis.model import KINDS, STATUSES, SpanRecord

_DEPTH = 32
_HEX = frozenset("0123456789abcdefABCDEF")


def from_json_line(line: str) -> list[SpanRecord]:
    """The spans of one `ExportTraceServiceRequest` in JSON. Raises ValueError saying what is wrong with it.

    Ids may be hex (as OTLP says) or base64 (as some write it), numbers may be strings, enumerations numbers or names,
    and keys camel or snake case.
    """
    try:
        data = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"a JSON {type(data).__name__} and not an object with resourceSpans")  # noqa: TRY004 - callers catch one kind
    groups = _get(data, "resourceSpans", "resource_spans")
    if groups is None:
        raise ValueError("no resourceSpans in it: this is no OTLP trace")
    try:
        return [span for group in _list(groups) for span in _group(group)]
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"not in the form of an OTLP trace: {type(error).__name__}: {error}") from None


def _get(data: dict[str, Any], *names: str) -> Any:
    for name in names:
        if name in data:
            return data[name]
    return None


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"a {type(value).__name__} where a list belongs")  # noqa: TRY004 - callers catch one kind
    return value


def _group(group: dict[str, Any]) -> Iterable[SpanRecord]:
    resource = _attributes(_get(group.get("resource") or {}, "attributes"))
    scopes = _get(group, "scopeSpans", "scope_spans", "instrumentationLibrarySpans", "instrumentation_library_spans")
    for scope in _list(scopes):
        name = str((_get(scope, "scope", "instrumentationLibrary") or {}).get("name") or "")
        for span in _list(scope.get("spans")):
            yield _span(span, resource, name)


def _span(span: dict[str, Any], resource: dict[str, Any], scope: str) -> SpanRecord:
    status = span.get("status") or {}
    return SpanRecord(
        trace_id=_needed("trace", _id(_get(span, "traceId", "trace_id"), 16)),
        span_id=_needed("span", _id(_get(span, "spanId", "span_id"), 8)),
        parent_id=_id(_get(span, "parentSpanId", "parent_span_id") or "", 8),
        name=str(span.get("name") or ""),
        kind=_enum(span.get("kind"), KINDS, "SPAN_KIND_"),
        start_ns=_int(_get(span, "startTimeUnixNano", "start_time_unix_nano")),
        end_ns=_int(_get(span, "endTimeUnixNano", "end_time_unix_nano")),
        status=_enum(status.get("code"), STATUSES, "STATUS_CODE_"),
        status_message=str(status.get("message") or ""),
        attributes=_attributes(span.get("attributes")),
        events=[
            {
                "name": str(event.get("name") or ""),
                "time_ns": _int(_get(event, "timeUnixNano", "time_unix_nano")),
                "attributes": _attributes(event.get("attributes")),
            }
            for event in _list(span.get("events"))
        ],
        links=[
            {
                "trace_id": _id(_get(link, "traceId", "trace_id") or "", 16),
                "span_id": _id(_get(link, "spanId", "span_id") or "", 8),
                "attributes": _attributes(link.get("attributes")),
            }
            for link in _list(span.get("links"))
        ],
        resource=resource,
        scope=scope,
    )


def _needed(which: str, found: str) -> str:
    if not found:
        raise ValueError(f"a span without a {which} id")
    return found


def _id(value: Any, size: int) -> str:
    text = str(value or "")
    if len(text) == size * 2 and _HEX.issuperset(text):
        return text.lower() if text.strip("0") else ""
    if not text:
        return ""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{text[:40]!r} is no id of {size} bytes") from None
    if len(raw) != size:
        raise ValueError(f"{text[:40]!r} is no id of {size} bytes")
    return raw.hex() if any(raw) else ""


def _int(value: Any) -> int:
    if value is None or value == "":
        return 0
    return int(value)


def _enum(value: Any, names: tuple[str, ...], prefix: str) -> str:
    if isinstance(value, str) and not value.isdigit():
        return value.removeprefix(prefix).lower() if value.removeprefix(prefix).lower() in names else names[0]
    number = _int(value)
    return names[number] if 0 <= number < len(names) else names[0]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {str(pair.get("key")): _value(pair.get("value") or {}, 0) for pair in _list(pairs)}


def _value(value: dict[str, Any], depth: int) -> Any:
    if depth > _DEPTH:
        return None
    for key, item in value.items():
        name = key.replace("_", "").lower()
        if name == "intvalue":
            return _int(item)
        if name == "doublevalue":
            return float(item)
        if name in ("stringvalue", "boolvalue"):
            return item
        if name == "bytesvalue":
            return base64.b64decode(item)
        if name == "arrayvalue":
            return [_value(entry or {}, depth + 1) for entry in _list((item or {}).get("values"))]
        if name == "kvlistvalue":
            return {
                str(pair.get("key")): _value(pair.get("value") or {}, depth + 1) for pair in _list((item or {}).get("values"))
            }
    return None


def from_protobuf(data: bytes) -> list[SpanRecord]:
    """The spans of one `ExportTraceServiceRequest` in protobuf. Raises ValueError saying what is wrong with it."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(data)
    except Exception as error:  # DecodeError, of one of protobuf's three implementations
        raise ValueError(f"not an OTLP trace in protobuf: {error}") from None
    records = []
    for group in request.resource_spans:
        resource = _pairs(group.resource.attributes)
        for scope in group.scope_spans:
            records += [_from_message(span, resource, scope.scope.name) for span in scope.spans]
    return records


def _from_message(span: Any, resource: dict[str, Any], scope: str) -> SpanRecord:
    return SpanRecord(
        trace_id=_needed("trace", _raw_id(span.trace_id, 16)),
        span_id=_needed("span", _raw_id(span.span_id, 8)),
        parent_id=_raw_id(span.parent_span_id, 8),
        name=span.name,
        kind=_enum(span.kind, KINDS, ""),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=_enum(span.status.code, STATUSES, ""),
        status_message=span.status.message,
        attributes=_pairs(span.attributes),
        events=[
            {"name": event.name, "time_ns": event.time_unix_nano, "attributes": _pairs(event.attributes)} for event in span.events
        ],
        links=[
            {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": _pairs(link.attributes)}
            for link in span.links
        ],
        resource=resource,
        scope=scope,
    )


def _raw_id(value: bytes, size: int) -> str:
    if value and len(value) != size:
        raise ValueError(f"{value[:20].hex()} is no id of {size} bytes")
    return value.hex() if any(value) else ""


def _pairs(pairs: Any) -> dict[str, Any]:
    return {pair.key: _any(pair.value) for pair in pairs}


def _any(value: Any) -> Any:
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [_any(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return _pairs(value.kvlist_value.values)
    return getattr(value, which)
