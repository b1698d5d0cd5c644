"""Whatever is said to a span of ours and to one of opentelemetry-sdk, both tell the same afterwards."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider as OurProvider

# The kinds of values that both promise to keep as they are: ours keeps more, which is tested elsewhere.
scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
lists = st.one_of(
    *(st.lists(kind, max_size=4) for kind in (st.booleans(), st.integers(0, 9), st.floats(allow_nan=False), st.text("abc")))
)
attributes = st.dictionaries(st.text("abcxyz.", min_size=1, max_size=3), scalars | lists, max_size=5)
contexts = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(0), TraceFlags(1), TraceFlags(3)]),
    st.sampled_from([TraceState(), TraceState([("vendor", "x")])]),
)
codes = st.sampled_from(list(StatusCode))
errors = st.sampled_from([ValueError("no"), KeyError("k"), RuntimeError()])

# What is said after the end is told by the SDK in its log; here the spans alone are compared.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set_attribute"), st.text("abcxyz.", min_size=1, max_size=3), scalars | lists),
        st.tuples(st.just("set_attributes"), attributes),
        st.tuples(st.just("add_event"), st.text("ab"), attributes, st.integers(0, 2**60)),
        st.tuples(st.just("add_link"), contexts, attributes),
        st.tuples(st.just("set_status"), codes, st.none()),
        st.tuples(st.just("set_status"), st.just(StatusCode.ERROR), st.text("ab")),
        st.tuples(st.just("set_status"), st.builds(Status, codes)),
        st.tuples(st.just("update_name"), st.text("ab", min_size=1)),
        st.tuples(st.just("record_exception"), errors, attributes, st.integers(0, 2**60)),
        st.tuples(st.just("end"), st.integers(2**60, 2**61)),
    ),
    max_size=12,
)


def tell(span: ReadableSpan) -> dict[str, Any]:
    def kept(mapping: Any) -> dict[str, Any]:
        return {key: value for key, value in (mapping or {}).items() if key != "exception.stacktrace"}

    return {
        "name": span.name,
        "kind": span.kind,
        "status": (span.status.status_code, span.status.description or None),
        "attributes": kept(span.attributes),
        "events": [(event.name, event.timestamp, kept(event.attributes)) for event in span.events],
        "links": [(link.context, kept(link.attributes)) for link in span.links],
        "times": (span.start_time, span.end_time),
        "parent": span.parent,
        "trace state": span.context.trace_state,
        "sampled": span.context.trace_flags.sampled,
        "scope": span.instrumentation_scope,
    }


def kinds(value: Any) -> Any:
    """Values with their types: `1 == True == 1.0`."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(map(kinds, value))
    return type(value), value


def run(
    tracer: trace.Tracer, parent: SpanContext | None, kind: SpanKind, first: dict[str, Any], todo: list[tuple[Any, ...]]
) -> None:
    context = trace.set_span_in_context(trace.NonRecordingSpan(parent)) if parent is not None else None
    span = tracer.start_span("name", context, kind, first, [trace.Link(SpanContext(1, 2, True), {"l": 1})], start_time=5)
    for name, *arguments in todo:
        getattr(span, name)(*arguments)
    span.end(2**61)


@given(st.none() | contexts, st.sampled_from(list(SpanKind)), attributes, steps)
def test_the_same_calls_make_the_same_span(
    parent: SpanContext | None, kind: SpanKind, first: dict[str, Any], todo: list[tuple[Any, ...]]
) -> None:
    theirs = InMemorySpanExporter()
    stock = TracerProvider(shutdown_on_exit=False)
    stock.add_span_processor(SimpleSpanProcessor(theirs))
    run(stock.get_tracer("scope", "1", "https://schema.invalid"), parent, kind, first, todo)
    mine = InMemorySpanExporter()
    provider = OurProvider(Pipeline())
    provider.add_span_processor(SimpleSpanProcessor(mine))
    run(provider.get_tracer("scope", "1", "https://schema.invalid"), parent, kind, first, todo)
    expected = [kinds(tell(span)) for span in theirs.get_finished_spans()]
    got = [kinds(tell(span)) for span in mine.get_finished_spans()]
    assert got == expected
