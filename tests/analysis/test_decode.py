"""OTLP as it is found in the world, and anything but OTLP."""

import base64
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from lighttrace.analysis import SpanRecord
from lighttrace.analysis.decode import from_json_line, from_protobuf
from lighttrace.analysis.encode import to_json_line

TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
# As the Collector's file exporter wrote it, on one line.
COLLECTOR = json.dumps({"resourceSpans": [{
    "resource": {"attributes": [
        {"key": "service.name", "value": {"stringValue": "checkout"}}, {"key": "team", "value": {"stringValue": "payments"}}]},
    "scopeSpans": [{"scope": {"name": "lib", "version": "1"}, "spans": [{
        "traceId": TRACE, "spanId": SPAN, "parentSpanId": PARENT, "flags": 257, "name": "POST /payments", "kind": 2,
        "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000000250000000",
        "attributes": [
            {"key": "http.response.status_code", "value": {"intValue": "500"}},
            {"key": "ok", "value": {"boolValue": False}},
            {"key": "rate", "value": {"doubleValue": 0.5}},
            {"key": "raw", "value": {"bytesValue": "AAE="}},
            {"key": "tags", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "2"}, {}]}}},
            {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}}},
            {"key": "empty", "value": {}},
        ],
        "events": [{"timeUnixNano": "1790000000200000000", "name": "exception", "attributes": [
            {"key": "exception.type", "value": {"stringValue": "KeyError"}}]}],
        "links": [{"traceId": TRACE, "spanId": PARENT}],
        "status": {"message": "it broke", "code": 2}}]}]}]})  # fmt: skip


def test_line_of_the_collector_is_read() -> None:
    (span,) = from_json_line(COLLECTOR)
    assert (span.trace_id, span.span_id, span.parent_id) == (TRACE, SPAN, PARENT)
    assert (span.name, span.kind, span.status, span.status_message) == ("POST /payments", "server", "error", "it broke")
    assert (span.service, span.team, span.scope) == ("checkout", "payments", "lib")
    assert span.duration_ns == 250_000_000
    assert span.attributes == {
        "http.response.status_code": 500, "ok": False, "rate": 0.5, "raw": b"\0\1", "tags": ["a", 2, None], "map": {"k": "v"}, "empty": None,
    }  # fmt: skip
    assert span.http_status == 500
    assert span.exception == {
        "name": "exception",
        "time_ns": 1_790_000_000_200_000_000,
        "attributes": {"exception.type": "KeyError"},
    }
    assert span.links == [{"trace_id": TRACE, "span_id": PARENT, "attributes": {}}]


def message() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "checkout"
    scope = group.scope_spans.add()
    scope.scope.name = "lib"
    span = scope.spans.add(
        trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(SPAN), parent_span_id=bytes.fromhex(PARENT), name="POST /payments",
        kind=Span.SPAN_KIND_CLIENT, start_time_unix_nano=10, end_time_unix_nano=30, status=Status(code=Status.STATUS_CODE_ERROR, message="it broke"),
    )  # fmt: skip
    span.attributes.add(key="count").value.int_value = 7
    span.attributes.add(key="tags").value.array_value.values.add().string_value = "a"
    span.attributes.add(key="map").value.kvlist_value.values.add(key="k").value.bool_value = True
    event = span.events.add(name="exception", time_unix_nano=20)
    event.attributes.add(key="exception.type").value.string_value = "KeyError"
    span.links.add(trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(PARENT))
    return request


def values(span: SpanRecord) -> dict[str, Any]:
    return {name: getattr(span, name) for name in SpanRecord.__slots__}


def test_protobuf_and_every_json_of_it_say_the_same() -> None:
    (span,) = from_protobuf(message().SerializeToString())
    assert span.attributes == {"count": 7, "tags": ["a"], "map": {"k": True}}
    assert (span.kind, span.status, span.parent_id, span.start_ns, span.end_ns) == ("client", "error", PARENT, 10, 30)
    assert span.exception is not None
    for snake in (False, True):  # protobuf's own JSON: ids in base64, enumerations as names
        (same,) = from_json_line(json.dumps(MessageToDict(message(), preserving_proto_field_name=snake)))
        assert values(same) == values(span)
    (same,) = from_json_line(to_json_line([span]))
    assert values(same) == values(span)


def test_root_without_a_parent_has_none() -> None:
    for nothing in ("", "0" * 16, None, base64.b64encode(bytes(8)).decode()):
        (span,) = from_json_line(line(parentSpanId=nothing))
        assert span.parent_id is None


def line(**fields: Any) -> str:
    span = {"traceId": TRACE, "spanId": SPAN, **fields}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})


def test_ids_in_capitals_are_the_same_ids() -> None:
    assert from_json_line(line(traceId=TRACE.upper()))[0].trace_id == TRACE


def test_kinds_and_statuses_may_be_numbers_names_or_missing() -> None:
    kinds = [
        (0, "internal"),
        (1, "internal"),
        ("SPAN_KIND_PRODUCER", "producer"),
        ("5", "consumer"),
        (99, "internal"),
        (None, "internal"),
    ]
    for given_, known in kinds:
        assert from_json_line(line(kind=given_))[0].kind == known
    for code, known in [(0, "unset"), ("STATUS_CODE_OK", "ok"), ("2", "error"), (None, "unset"), ("nonsense", "unset")]:
        assert from_json_line(line(status={"code": code}))[0].status == known


def test_span_that_ends_before_it_begins_takes_no_time() -> None:
    assert from_json_line(line(startTimeUnixNano="20", endTimeUnixNano="10"))[0].duration_ns == 0


def test_groups_may_be_empty_and_of_the_old_form() -> None:
    assert from_json_line('{"resourceSpans": []}') == []
    assert from_json_line('{"resourceSpans": [{}, {"scopeSpans": [{}]}, {"resource": null, "scopeSpans": null}]}') == []
    old = {"resourceSpans": [{"instrumentationLibrarySpans": [{"spans": [{"traceId": TRACE, "spanId": SPAN}]}]}]}
    assert len(from_json_line(json.dumps(old))) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "a JSON list"),
        ("12", "a JSON int"),
        ('{"resourceLogs": []}', "no resourceSpans"),
        ('{"resourceSpans": {}}', "a dict where a list belongs"),
        ('{"resourceSpans": [1]}', "not in the form"),
        (line(traceId="xyz"), "'xyz' is no id of 16 bytes"),
        (line(traceId=None), "a span without a trace id"),
        (line(spanId="0" * 16), "a span without a span id"),
        (line(spanId="b7 d6b7169203331"), "is no id of 8 bytes"),
        (line(startTimeUnixNano="soon"), "soon"),
        (line(startTimeUnixNano=1e400), "not in the form"),
        (line(attributes={"a": 1}), "a dict where a list belongs"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).+") as raised:
        from_json_line(text)
    assert said in str(raised.value)


def test_what_is_wrong_with_protobuf_is_said() -> None:
    with pytest.raises(ValueError, match="not an OTLP trace in protobuf"):
        from_protobuf(b"\x0a\xff\xff")
    broken = message()
    broken.resource_spans[0].scope_spans[0].spans[0].trace_id = b"123"
    with pytest.raises(ValueError, match="no id of 16 bytes"):
        from_protobuf(broken.SerializeToString())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([TRACE, SPAN]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "resourceSpans", "scopeSpans", "spans", "resource", "attributes", "traceId", "spanId", "parentSpanId", "kind", "status", "code", "name",
            "events", "links", "key", "value", "intValue", "arrayValue", "values", "bytesValue", "doubleValue", "startTimeUnixNano",
        ]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON, st.sampled_from(["request", "group", "scope", "span", "attribute"]))
@settings(deadline=None, max_examples=300)
def test_nothing_but_a_value_error_comes_of_any_json(value: Any, where: str) -> None:
    if where == "attribute":
        value = {"traceId": TRACE, "spanId": SPAN, "attributes": [{"key": "a", "value": value}], "events": value}
    if where in ("span", "attribute"):
        value = {"spans": [value]}
    if where in ("scope", "span", "attribute"):
        value = {"scopeSpans": [value]}
    if where != "request":
        value = {"resourceSpans": [value]}
    try:
        spans = from_json_line(json.dumps(value))
    except ValueError:
        return
    assert all(isinstance(span, SpanRecord) for span in spans)
    from_json_line(to_json_line(spans))


@given(st.binary(max_size=200), st.integers(0, 200))
@settings(deadline=None, max_examples=300)
def test_nothing_but_a_value_error_comes_of_any_bytes(noise: bytes, cut: int) -> None:
    whole = message().SerializeToString()
    for data in (noise, whole[:cut] + noise, whole[:cut] + noise + whole[cut:]):
        try:
            from_protobuf(data)
        except ValueError:
            pass
        try:
            from_json_line(data.decode("latin-1"))
        except ValueError:
            pass
