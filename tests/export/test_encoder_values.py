"""What goes onto the wire for values and spans that are not the usual ones; opentelemetry-proto decodes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lighttrace import guard, semconv
from lighttrace.export import encoder
from lighttrace.export.encoder import encode_spans
from lighttrace.export.json_encoder import encode_json
from lighttrace.tracing.owner import NOBODY, Owner, owner
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider
from tests.export.test_encoding import from_otlp_json


class Traced:
    """A tracer, and the spans that have ended."""

    def __init__(self, team: str | None = None) -> None:
        self.spans: list[Any] = []
        who = owner(team, "service") if team else NOBODY
        self.tracer = TracerProvider(Pipeline({"service.name": "s"}, put=self.spans.append, default_owner=who)).get_tracer("t")

    def decoded(self) -> list[Any]:
        """The spans as protobuf carries them, after a look whether JSON carries the same."""
        sent = ExportTraceServiceRequest.FromString(encode_spans(self.spans))
        assert from_otlp_json(encode_json(self.spans)) == sent
        return [span for group in sent.resource_spans for scope in group.scope_spans for span in scope.spans]


def values(span: Any) -> list[tuple[str, Any]]:
    found = []
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        found.append((pair.key, getattr(pair.value, kind) if kind else None))
    return found


def test_a_span_that_names_a_team_itself_says_it_once() -> None:
    traced = Traced("payments")
    traced.tracer.start_span("own", attributes={"team": "mine", "a": 1}).end()
    traced.tracer.start_span("own, and a float", attributes={"team": "mine", "a": 1.5}).end()
    traced.tracer.start_span("own, and no text", attributes={"team": 1.5}).end()
    own, mixed, number = traced.decoded()
    assert values(own) == [("team", "payments"), ("a", 1)]
    assert values(mixed) == [("team", "payments"), ("a", 1.5)]
    assert values(number) == [("team", "payments")]


def test_a_team_that_only_the_span_names_is_kept() -> None:
    traced = Traced()
    traced.tracer.start_span("own", attributes={"team": "mine"}).end()
    assert values(traced.decoded()[0]) == [("team", "mine")]


def test_what_a_trace_hands_down_is_said_once() -> None:
    traced = Traced("payments")
    span = traced.tracer.start_span("below", attributes={semconv.CALLER_TEAM: "forged", "a": "b"})
    handed = Owner(None, "service")
    handed.attributes = {semconv.CALLER_TEAM: "web"}
    span._trace.inherited = handed
    span.end()
    assert values(traced.decoded()[0]) == [("team", "payments"), (semconv.CALLER_TEAM, "web"), ("a", "b")]


def test_keys_become_text_and_an_empty_one_is_left_out() -> None:
    traced = Traced()
    traced.tracer.start_span("keys", attributes={"": 1, 5: "five", "a": 2}).end()  # type: ignore[dict-item]
    assert values(traced.decoded()[0]) == [("5", "five"), ("a", 2)]


def test_times_given_as_floats_or_before_1970_lose_no_span() -> None:
    traced = Traced()
    traced.tracer.start_span("float", start_time=1.5e18).end(2e18)  # type: ignore[arg-type]
    traced.tracer.start_span("negative", start_time=-5).end(7)
    span = traced.tracer.start_span("event", start_time=1)
    span.add_event("e", timestamp=1.5e18)  # type: ignore[arg-type]
    span.end(2)
    first, second, third = traced.decoded()
    assert (first.start_time_unix_nano, first.end_time_unix_nano) == (1_500_000_000_000_000_000, 2_000_000_000_000_000_000)
    assert (second.start_time_unix_nano, second.end_time_unix_nano) == (0, 7)
    assert third.events[0].time_unix_nano == 1_500_000_000_000_000_000


@pytest.mark.contained
@pytest.mark.parametrize("encode", [encode_spans, encode_json])
def test_spans_that_cannot_be_encoded_are_named_to_the_bookkeeper(encode: Any) -> None:
    traced = Traced()
    for name in ("first", "broken", "last"):
        traced.tracer.start_span(name).end()
    traced.spans[1]._start = "yesterday"
    before = guard.counters.get("spans.dropped.unencodable", 0)
    broken: list[Any] = []
    encode(traced.spans, None, broken)
    assert broken == [traced.spans[1]]
    assert len(traced.spans) == 3
    assert guard.counters["spans.dropped.unencodable"] == before + 1


def test_values_that_never_repeat_arrive_like_those_that_do() -> None:
    traced = Traced()
    texts = [f"{'é' * (n % 70)}{n}" for n in range(600)] + ["", "x" * 127, "x" * 128, "x" * 3000, "é" * 20_000, "half \ud800"]
    numbers = [n * n * 31 for n in range(600)] + [0, 1, 127, 128, 16_383, 16_384, 2**62, 2**63 - 1, -1, -(2**63)]
    for text in texts:
        traced.tracer.start_span("text", attributes={"test.new.text": text}).end()
    for number in numbers:
        traced.tracer.start_span("number", attributes={"test.new.number": number}).end()
    found = [value for span in traced.decoded() for _, value in values(span)]
    assert found == [text.replace("\ud800", "?") for text in texts] + numbers


def test_caches_are_bounded_whatever_a_program_sends() -> None:
    attributes = encoder._Attributes()
    for n in range(100_000):
        attributes[f"key {n % 5000}", f"value {n}"]
        attributes["same", n]
    attributes["k" * 10_000, "v"]
    attributes["k", "v" * 10_000]
    assert len(attributes) <= encoder._CACHED
    assert len(attributes.room) <= encoder._CACHED
    assert len(attributes.heads) <= encoder._CACHED // encoder._CACHED_PER_KEY + 1
    assert not any(key[0] == "k" for key in attributes)
    names = encoder._Names()
    for n in range(10_000):
        names[f"GET /{n}"]
    names["n" * 100_000]
    assert len(names) <= encoder.CACHED_KEYS
    assert max(map(len, names)) < 100


scalars = st.one_of(
    st.text(max_size=300), st.integers(), st.booleans(), st.floats(allow_nan=False), st.binary(max_size=50), st.none()
)
anything = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4))
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.dictionaries(st.text(max_size=20), anything, max_size=8)), max_size=5))
def test_any_names_keys_and_values_decode_to_the_same_from_protobuf_and_json(program: list[tuple[str, dict[str, Any]]]) -> None:
    traced = Traced("payments")
    for name, attributes in program:
        span = traced.tracer.start_span(name, attributes=attributes)
        span.add_event(name, attributes)
        span.end()
    for (name, attributes), span in zip(program, traced.decoded(), strict=True):
        assert span.name == name.encode("utf-8", "replace").decode()
        found = dict(values(span))
        for key, value in attributes.items():
            if key and isinstance(value, str | float) and key != semconv.TEAM:
                assert found[key] == value


def test_json_is_one_line_of_valid_utf_8() -> None:
    traced = Traced()
    traced.tracer.start_span("two\nlines \ud800", attributes={"inf": float("inf"), "nan": float("nan")}).end()
    text = encode_json(traced.spans)
    assert "\n" not in text
    span = json.loads(text.encode())["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert [pair["value"] for pair in span["attributes"]] == [{"doubleValue": "Infinity"}, {"doubleValue": "NaN"}]


@pytest.mark.parametrize("encode", [encode_spans, encode_json])
def test_a_scope_that_is_no_text_costs_nobody_their_spans(encode: Any) -> None:
    class Unspeakable:
        def __str__(self) -> str:
            raise ValueError("no words for it")

        __repr__ = __str__

    traced = Traced()
    provider = TracerProvider(traced.tracer.pipeline)
    for name in (b"bytes", 7, None, Unspeakable()):
        provider.get_tracer(name, name, name, {"a": name, 5: Unspeakable()}).start_span("s").end()  # type: ignore[arg-type, dict-item]
    traced.tracer.start_span("beside").end()
    assert encode(traced.spans)
    assert [span.name for span in traced.decoded()] == ["s"] * 4 + ["beside"]
