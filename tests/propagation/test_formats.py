"""B3, Jaeger, ot-trace and all of them together: published cases, and OpenTelemetry's propagators where they are right."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.propagators.b3 import B3MultiFormat as TheirB3Multi
from opentelemetry.propagators.b3 import B3SingleFormat as TheirB3Single
from opentelemetry.propagators.jaeger import JaegerPropagator as TheirJaeger
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span, set_span_in_context

from lighttrace import guard
from lighttrace.propagation import B3MultiFormat, B3SingleFormat, JaegerPropagator, OTTracePropagator, composite

TRACE = "80f198ee56343ba864fe8b2a57d3eff7"
SHORT = "64fe8b2a57d3eff7"
SPAN = "e457b5a2e4d86bd1"
PARENT = "05e3ac9a4f6e3b90"
IDS = (int(TRACE, 16), int(SPAN, 16))
SHORT_IDS = (int(SHORT, 16), int(SPAN, 16))


def parent(propagator: TextMapPropagator, headers: dict[str, Any], context: Context | None = None) -> SpanContext:
    return get_current_span(propagator.extract(headers, context)).get_span_context()


def read(propagator: TextMapPropagator, headers: dict[str, Any]) -> tuple[int, int, int] | None:
    found = parent(propagator, headers)
    assert found.is_remote or not found.is_valid
    return (found.trace_id, found.span_id, int(found.trace_flags)) if found.is_valid else None


def written(propagator: TextMapPropagator, context: Context) -> dict[str, str]:
    carrier: dict[str, str] = {}
    propagator.inject(carrier, context)
    assert set(carrier) <= propagator.fields or "ctx-" in str(carrier) or "baggage-" in str(carrier)
    return carrier


def current(trace: int = IDS[0], span: int = IDS[1], flags: int = 1) -> Context:
    return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, False, TraceFlags(flags))), Context())


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"{TRACE}-{SPAN}-1-{PARENT}", (*IDS, 1)),
        (f"{TRACE}-{SPAN}-1", (*IDS, 1)),
        (f"{TRACE}-{SPAN}-0", (*IDS, 0)),
        (f"{TRACE}-{SPAN}-d", (*IDS, 1)),
        (f"{TRACE}-{SPAN}", (*IDS, 1)),  # deferred: ours to decide
        (f"{SHORT}-{SPAN}-1", (*SHORT_IDS, 1)),
        (f"{TRACE.upper()}-{SPAN}-1", (*IDS, 1)),
        ("0", None),
        ("1", None),
        ("d", None),
        ("", None),
        (f"{TRACE}-{SPAN}-2", None),
        (f"{TRACE}-{SPAN}-1-{PARENT}-x", None),
        (f"{TRACE}-{SPAN}-1-nothex", None),
        (f"{TRACE[1:]}-{SPAN}-1", None),
        (f"{TRACE}-{SPAN[1:]}-1", None),
        (f"{'0' * 32}-{SPAN}-1", None),
        (f"{TRACE}-{'0' * 16}-1", None),
        (f"+{SHORT[1:]}-{SPAN}-1", None),
        (f"1_{SHORT[2:]}-{SPAN}-1", None),
        ("-" * 1_000_000, None),
    ],
)
def test_b3_single_header(header: str, found: object) -> None:
    assert read(B3SingleFormat(), {"b3": header}) == found
    assert read(B3MultiFormat(), {"b3": header}) == found


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"x-b3-sampled": "1"}, (*IDS, 1)),
        ({"x-b3-sampled": "true"}, (*IDS, 1)),
        ({"x-b3-sampled": "0"}, (*IDS, 0)),
        ({"x-b3-sampled": "false"}, (*IDS, 0)),
        ({}, (*IDS, 1)),
        ({"x-b3-flags": "1"}, (*IDS, 1)),
        ({"x-b3-flags": "1", "x-b3-sampled": "0"}, (*IDS, 1)),
        ({"x-b3-flags": "0", "x-b3-sampled": "0"}, (*IDS, 0)),
        ({"x-b3-traceid": SHORT, "x-b3-sampled": "1"}, (*SHORT_IDS, 1)),
        ({"x-b3-parentspanid": PARENT, "x-b3-sampled": "1"}, (*IDS, 1)),
        ({"x-b3-sampled": "perhaps"}, None),
        ({"x-b3-traceid": ""}, None),
        ({"x-b3-spanid": ""}, None),
        ({"x-b3-traceid": "0" * 16}, None),
        ({"x-b3-spanid": "xyz"}, None),
    ],
)
def test_b3_multiple_headers(headers: dict[str, str], found: object) -> None:
    sent = {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN} | headers
    assert read(B3MultiFormat(), sent) == found
    assert read(B3SingleFormat(), sent) == found


def test_b3_single_header_goes_before_the_several_and_a_broken_one_leaves_them() -> None:
    several = {"x-b3-traceid": SHORT, "x-b3-spanid": SPAN, "x-b3-sampled": "0"}
    assert read(B3MultiFormat(), {"b3": f"{TRACE}-{SPAN}-1", **several}) == (*IDS, 1)
    assert read(B3MultiFormat(), {"b3": "broken", **several}) == (*SHORT_IDS, 0)


def test_b3_is_written() -> None:
    assert written(B3SingleFormat(), current()) == {"b3": f"{TRACE}-{SPAN}-1"}
    assert written(B3SingleFormat(), current(flags=2)) == {"b3": f"{TRACE}-{SPAN}-0"}
    assert written(B3MultiFormat(), current(trace=0xA, span=0xB)) == {
        "x-b3-traceid": "0" * 31 + "a", "x-b3-spanid": "0" * 15 + "b", "x-b3-sampled": "1",
    }  # fmt: skip


def test_debug_is_handed_on_between_b3_and_jaeger() -> None:
    for propagator, headers in (
        (B3SingleFormat(), {"b3": f"{TRACE}-{SPAN}-d"}),
        (B3MultiFormat(), {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-flags": "1"}),
        (JaegerPropagator(), {"uber-trace-id": f"{TRACE}:{SPAN}:0:3"}),
    ):
        context = propagator.extract(headers)
        assert written(B3SingleFormat(), context) == {"b3": f"{TRACE}-{SPAN}-d"}
        assert written(B3MultiFormat(), context) == {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-flags": "1"}
        assert written(JaegerPropagator(), context) == {"uber-trace-id": f"{TRACE}:{SPAN}:0:03"}


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"{TRACE}:{SPAN}:0:1", (*IDS, 1)),
        (f"{TRACE}:{SPAN}:{PARENT}:01", (*IDS, 1)),
        (f"{TRACE}:{SPAN}:0:0", (*IDS, 0)),
        (f"{TRACE}:{SPAN}:0:00", (*IDS, 0)),
        (f"{TRACE}:{SPAN}:0:3", (*IDS, 1)),
        (f"{TRACE}:{SPAN}:0:2", (*IDS, 1)),
        (f"{TRACE}:{SPAN}:0:9", (*IDS, 1)),
        (f"{TRACE}%3A{SPAN}%3A0%3A1", (*IDS, 1)),
        (f"{SHORT}:{SPAN}:0:1", (*SHORT_IDS, 1)),
        ("a:b:0:1", (10, 11, 1)),
        ("", None),
        (f"{TRACE}:{SPAN}:1", None),
        (f"{TRACE}:{SPAN}:0:1:x", None),
        (f"0:{SPAN}:0:1", None),
        (f"{TRACE}:0:0:1", None),
        (f"{TRACE}0:{SPAN}:0:1", None),
        (f"{TRACE}:{SPAN}0:0:1", None),
        (f"{TRACE}:{SPAN}:0:", None),
        (f"{TRACE}:{SPAN}:0:xyz", None),
        (f"{TRACE}:{SPAN}:0:-1", None),
        (f"{TRACE}:{SPAN}:0:100", None),
        (f"-{SHORT}:{SPAN}:0:1", None),
        (":" * 1_000_000, None),
    ],
)
def test_jaeger_header(header: str, found: object) -> None:
    assert read(JaegerPropagator(), {"uber-trace-id": header}) == found


def test_jaeger_is_written_without_asking_for_debug() -> None:
    assert written(JaegerPropagator(), current()) == {"uber-trace-id": f"{TRACE}:{SPAN}:0:01"}
    assert written(JaegerPropagator(), current(flags=0)) == {"uber-trace-id": f"{TRACE}:{SPAN}:0:00"}


def test_jaeger_baggage() -> None:
    context = JaegerPropagator().extract(
        {"uber-trace-id": "a:b:0:1", "uberctx-user": "J%C3%BCrgen%20K", "Uberctx-Node": "1", "uberctx-": "x"}
    )
    assert baggage.get_all(context) == {"user": "Jürgen K", "Node": "1"}
    sent = written(JaegerPropagator(), baggage.set_baggage("bad name\n", "x", context))
    assert sent == {"uber-trace-id": f"{10:032x}:{11:016x}:0:01", "uberctx-user": "J%C3%BCrgen%20K", "uberctx-Node": "1"}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"ot-tracer-sampled": "true"}, (*SHORT_IDS, 1)),
        ({"ot-tracer-sampled": "1"}, (*SHORT_IDS, 1)),
        ({"ot-tracer-sampled": "false"}, (*SHORT_IDS, 0)),
        ({"ot-tracer-sampled": "0"}, (*SHORT_IDS, 0)),
        ({}, (*SHORT_IDS, 1)),
        ({"ot-tracer-traceid": TRACE, "ot-tracer-sampled": "true"}, (*IDS, 1)),
        ({"ot-tracer-traceid": "a", "ot-tracer-spanid": "b"}, (10, 11, 1)),
        ({"ot-tracer-sampled": "maybe"}, None),
        ({"ot-tracer-traceid": ""}, None),
        ({"ot-tracer-traceid": "0" * 16}, None),
        ({"ot-tracer-traceid": "0" + TRACE}, None),
        ({"ot-tracer-spanid": "0"}, None),
        ({"ot-tracer-spanid": "0" + SPAN}, None),
        ({"ot-tracer-traceid": "-a"}, None),
        ({"ot-tracer-traceid": "f" * 1_000_000}, None),
    ],
)
def test_ot_trace_headers(headers: dict[str, str], found: object) -> None:
    assert read(OTTracePropagator(), {"ot-tracer-traceid": SHORT, "ot-tracer-spanid": SPAN} | headers) == found


def test_ot_trace_writes_the_lower_64_bits_padded() -> None:
    assert written(OTTracePropagator(), current()) == {
        "ot-tracer-traceid": SHORT,
        "ot-tracer-spanid": SPAN,
        "ot-tracer-sampled": "true",
    }
    sent = written(OTTracePropagator(), current(trace=(1 << 100) + 10, span=11, flags=2))
    assert sent == {"ot-tracer-traceid": f"{10:016x}", "ot-tracer-spanid": f"{11:016x}", "ot-tracer-sampled": "false"}


def test_ot_trace_baggage() -> None:
    headers = {"ot-tracer-traceid": "a", "ot-tracer-spanid": "b", "ot-baggage-user": "alice b"}
    context = OTTracePropagator().extract(headers)
    assert baggage.get_all(context) == {"user": "alice b"}
    sent = written(OTTracePropagator(), baggage.set_baggage("evil", "a\r\nX: 1", context))
    assert sent["ot-baggage-user"] == "alice b"
    assert "ot-baggage-evil" not in sent


@pytest.mark.parametrize(("propagator", "prefix"), [(JaegerPropagator(), "uberctx-"), (OTTracePropagator(), "ot-baggage-")])
def test_baggage_in_ten_thousand_headers_is_bounded(propagator: TextMapPropagator, prefix: str) -> None:
    ids = {"uber-trace-id": "a:b:0:1", "ot-tracer-traceid": "a", "ot-tracer-spanid": "b"}
    context = propagator.extract({**ids, **{f"{prefix}{n}": "x" for n in range(10_000)}})
    assert len(baggage.get_all(context)) == 64
    context = propagator.extract({**ids, f"{prefix}big": "x" * 1_000_000, f"{prefix}small": "1"})
    assert baggage.get_all(context) == {"small": "1"}
    for n in range(100):
        context = baggage.set_baggage(f"k{n}", "v" * 500, context)
    assert sum(len(value) for key, value in written(propagator, context).items() if key.startswith(prefix)) <= 8192


@pytest.mark.parametrize(
    "propagator", [B3SingleFormat(), B3MultiFormat(), JaegerPropagator(), OTTracePropagator(), composite(["baggage"])]
)
def test_nothing_is_injected_without_a_valid_span(propagator: TextMapPropagator) -> None:
    assert written(propagator, Context()) == {}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(B3SingleFormat(), TheirB3Single()), (B3MultiFormat(), TheirB3Multi()), (JaegerPropagator(), TheirJaeger())],
)
@given(trace=st.integers(1, 2**128 - 1), span=st.integers(1, 2**64 - 1), flags=st.integers(0, 1))
def test_opentelemetrys_propagators_read_what_we_write_and_we_what_they_write(
    ours: TextMapPropagator, theirs: TextMapPropagator, trace: int, span: int, flags: int
) -> None:
    sent = written(ours, current(trace, span, flags))
    assert read(theirs, sent) == (trace, span, flags)
    carrier: dict[str, str] = {}
    theirs.inject(carrier, current(trace, span, flags))
    assert read(ours, carrier) == (trace, span, flags)


_hex = st.text("0123456789abcdefF_-+ x", min_size=0, max_size=33) | st.sampled_from([TRACE, SHORT, SPAN, "0" * 16])


@given(_hex, _hex, st.sampled_from(["0", "1", "d"]))
def test_agrees_with_opentelemetry_on_b3(trace: str, span: str, sampled: str) -> None:
    headers = {"x-b3-traceid": trace, "x-b3-spanid": span, "x-b3-sampled": sampled}
    theirs = read(TheirB3Multi(), headers)
    if theirs is not None and 0 not in theirs[:2] and trace == trace.strip() and span == span.strip():
        assert read(B3MultiFormat(), headers) == theirs
    single = {"b3": f"{trace}-{span}-{sampled}"}
    theirs = read(TheirB3Single(), single)
    if theirs is not None:
        assert read(B3SingleFormat(), single) == theirs


TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
FORMATS = {
    "tracecontext": {"traceparent": TRACEPARENT},
    "b3": {"b3": f"{TRACE}-{SPAN}-1"},
    "b3multi": {"x-b3-traceid": "c" * 32, "x-b3-spanid": SPAN, "x-b3-sampled": "1"},
    "jaeger": {"uber-trace-id": f"{'d' * 32}:{SPAN}:0:1"},
    "ottrace": {"ot-tracer-traceid": SHORT, "ot-tracer-spanid": SPAN, "ot-tracer-sampled": "true"},
}
EVERYTHING = {key: value for headers in FORMATS.values() for key, value in headers.items()}


@given(st.permutations(sorted(set(FORMATS) - {"b3multi"})))
def test_first_valid_parent_wins_in_any_order(order: list[str]) -> None:
    found = parent(composite(["baggage", *order]), EVERYTHING)
    assert found.trace_id == parent(composite([order[0]]), FORMATS[order[0]]).trace_id


def test_malformed_first_format_leaves_the_parent_to_the_next() -> None:
    found = parent(composite(["tracecontext", "b3"]), {**EVERYTHING, "traceparent": "broken"})
    assert found.trace_id == IDS[0]


def test_parent_from_outside_beats_the_span_that_was_current() -> None:
    found = parent(composite(["tracecontext", "b3"]), EVERYTHING, current(trace=7))
    assert found.trace_id == int("a" * 32, 16)
    assert parent(composite(["tracecontext"]), {}, current(trace=7)).trace_id == 7


def test_every_format_is_injected() -> None:
    sent = written(composite(FORMATS), current())
    assert set(sent) == set(EVERYTHING)
    assert composite(["tracecontext", "baggage"]).fields == {"traceparent", "tracestate", "baggage"}


def test_baggage_of_all_formats_is_joined() -> None:
    headers = {"uber-trace-id": "a:b:0:1", "uberctx-jaeger": "1", "baggage": "w3c=2"}
    context = composite(["jaeger", "baggage"]).extract(headers)
    assert baggage.get_all(context) == {"jaeger": "1", "w3c": "2"}


def test_unknown_name_is_told_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    made = composite(["tracecontxt", "b3", "none", "b3", ""])
    assert [type(propagator).__name__ for propagator in made.propagators] == ["B3SingleFormat"]
    assert "did you mean tracecontext?" in caplog.text


def test_names_that_we_lack_are_looked_for_among_the_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    entry = importlib.metadata.EntryPoint("xray", "opentelemetry.propagators.jaeger:JaegerPropagator", "opentelemetry_propagator")
    broken = importlib.metadata.EntryPoint("broken", "opentelemetry.no_such_module:X", "opentelemetry_propagator")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry, broken])
    assert [type(propagator) for propagator in composite(["xray", "broken"]).propagators] == [TheirJaeger]


class Broken(TextMapPropagator):
    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Context:
        raise RuntimeError("broken propagator")

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        raise RuntimeError("broken propagator")

    @property
    def fields(self) -> set[str]:
        return set()


def test_broken_propagator_never_costs_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from lighttrace.propagation.combined import CompositePropagator

    monkeypatch.setattr(guard, "sink", None)  # elsewhere a contained failure fails the test
    made = CompositePropagator([Broken(), B3SingleFormat()])
    assert parent(made, EVERYTHING).trace_id == IDS[0]
    assert written(made, current()) == {"b3": f"{TRACE}-{SPAN}-1"}


_anything = st.text(st.characters(codec=None), max_size=40) | _hex
_names = st.sampled_from([*EVERYTHING, "tracestate", "baggage", "x-b3-flags", "uberctx-a", "ot-baggage-b"])


@given(st.dictionaries(_names, _anything | st.lists(_anything, max_size=3) | st.none() | st.integers(), max_size=8))
def test_no_headers_make_any_format_raise(headers: dict[str, Any]) -> None:
    class Getter:
        def get(self, carrier: Any, key: str) -> Any:
            return carrier.get(key)

        def keys(self, carrier: Any) -> Any:
            return list(carrier)

    for name in [*FORMATS, "baggage"]:
        (propagator,) = composite([name]).propagators
        context = propagator.extract(headers, None, Getter())  # type: ignore[arg-type]  # what a sloppy program passes
        found = get_current_span(context).get_span_context()
        assert found.is_valid or found.trace_id == 0
        carrier: dict[str, str] = {}
        propagator.inject(carrier, context)
        assert all(value.isprintable() or "\t" in value for value in carrier.values())
