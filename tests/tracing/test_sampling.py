"""Samplers decide as those of opentelemetry-sdk do, by name and as objects."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import sampling as sdk
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.span import TraceState

from lighttrace.tracing.sampling import NativeSampler, named, native
from tests.tracing.conftest import Tracing

NAMES = ["always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"]
RATIOS = ["0", "0.0001", "0.25", "0.5", "1", "1.0"]


def of_sdk(name: str, argument: str | None) -> sdk.Sampler:
    known: Any = sdk._KNOWN_SAMPLERS[name]
    return known(float(argument)) if "ratio" in name and argument is not None else known


def parent_context(trace_id: int, flags: int, remote: bool = True) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(SpanContext(trace_id, 5, remote, TraceFlags(flags))), Context())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ratio", RATIOS)
@given(trace_id=st.integers(1, 2**128 - 1), flags=st.sampled_from([None, 0, 1, 2, 3]), remote=st.booleans())
def test_every_named_sampler_decides_as_the_sdks(name: str, ratio: str, trace_id: int, flags: int | None, remote: bool) -> None:
    argument = ratio if "ratio" in name else None
    context = parent_context(trace_id, flags, remote) if flags is not None else Context()
    expected = of_sdk(name, argument).should_sample(context, trace_id, "name", SpanKind.INTERNAL, {}, ()).decision.is_sampled()
    assert named(name, argument).samples(trace_id, flags) is expected
    assert native(of_sdk(name, argument)).samples(trace_id, flags) is expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("flags", [None, 0, 1])
def test_spans_are_sampled_as_the_sdk_samples_them(name: str, flags: int | None) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    argument = "0.5" if "ratio" in name else None
    mine = Tracing(named(name, argument))
    theirs = TracerProvider(sampler=of_sdk(name, argument), shutdown_on_exit=False).get_tracer("theirs")
    for trace_id in (1, 2**63, 2**64 - 1, 2**127):
        context = parent_context(trace_id, flags) if flags is not None else None
        if context is None and "ratio" in name:
            continue  # each makes a trace id of its own
        got, expected = mine.tracer.start_span("a", context), theirs.start_span("a", context)
        assert got.get_span_context().trace_flags.sampled == expected.get_span_context().trace_flags.sampled
        assert got.is_recording() == expected.is_recording()
        got_child = mine.tracer.start_span("b", trace.set_span_in_context(got))
        expected_child = theirs.start_span("b", trace.set_span_in_context(expected))
        assert got_child.get_span_context().trace_flags.sampled == expected_child.get_span_context().trace_flags.sampled


@pytest.mark.parametrize(
    ("name", "argument"), [("traceidratio", "2"), ("traceidratio", "half"), ("nonsense", None), ("parentbased_", None)]
)
def test_a_wrong_setting_records_everything_and_says_so(
    name: str, argument: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert named(name, argument).samples(1, None)
    assert any("recording every trace" in record.getMessage() for record in caplog.records)


def test_names_are_read_whatever_their_case() -> None:
    assert repr(named(" ParentBased_Always_Off ")) == "parentbased_always_off"


def test_a_sampler_behind_an_entry_point_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    class Entry:
        @staticmethod
        def load() -> Any:
            return lambda argument: Recorder(argument)

    def entry_points(**wanted: str) -> list[Any]:
        assert wanted == {"group": "opentelemetry_traces_sampler", "name": "mine"}
        return [Entry]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    sampler = named("mine", "argument")
    assert type(sampler) is Recorder
    assert sampler.decide == "argument"


# -- samplers of the program's own ----------------------------------------------------------------------------------


class Recorder(sdk.Sampler):
    """Decides by the span's name, and notes what it was asked."""

    def __init__(self, decide: Any = None, state: TraceState | None = None) -> None:
        self.decide = decide
        self.state = state
        self.asked: list[tuple[Any, ...]] = []

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> sdk.SamplingResult:
        self.asked.append((trace_id, name, kind, dict(attributes or {}), list(links or ())))
        decision = {"drop": sdk.Decision.DROP, "record": sdk.Decision.RECORD_ONLY}.get(name, sdk.Decision.RECORD_AND_SAMPLE)
        return sdk.SamplingResult(decision, {"sampler": "recorder"}, self.state)

    def get_description(self) -> str:
        return "Recorder"


class Processor:
    def __init__(self) -> None:
        self.started: list[Any] = []
        self.ended: list[Any] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append(span)

    def on_end(self, span: Any) -> None:
        self.ended.append(span)

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


def test_a_sampler_object_is_asked_for_every_span_with_all_that_is_known() -> None:
    sampler = Recorder()
    tracing = Tracing(sampler)
    link = Link(SpanContext(1, 2, True))
    with tracing.tracer.start_as_current_span("a", kind=SpanKind.SERVER, attributes={"k": 1}, links=[link]) as span:
        with tracing.tracer.start_as_current_span("b"):
            pass
    trace_id = span.get_span_context().trace_id
    assert sampler.asked == [(trace_id, "a", SpanKind.SERVER, {"k": 1}, [link]), (trace_id, "b", SpanKind.INTERNAL, {}, [])]
    assert [dict(span.attributes) for span in tracing.spans] == [{"sampler": "recorder"}, {"k": 1, "sampler": "recorder"}]
    assert len(tracing.named("a").links) == 1


def test_dropped_spans_carry_the_trace_on() -> None:
    tracing = Tracing(Recorder())
    with tracing.tracer.start_as_current_span("a") as a, tracing.tracer.start_as_current_span("drop") as dropped:
        assert not dropped.is_recording()
        assert dropped.get_span_context().is_valid
        assert not dropped.get_span_context().trace_flags.sampled
        with tracing.tracer.start_as_current_span("b") as b:
            assert b.parent is not None and b.parent.span_id == dropped.get_span_context().span_id
            assert b.get_span_context().trace_id == a.get_span_context().trace_id
            assert b.get_span_context().trace_flags.sampled
    assert [span.name for span in tracing.spans] == ["b", "a"]


def test_recorded_but_unsampled_spans_reach_processors_and_no_exporter() -> None:
    tracing = Tracing(Recorder())
    processor = Processor()
    tracing.provider.add_span_processor(processor)
    with tracing.tracer.start_as_current_span("record", attributes={"a": 1}) as span:
        assert span.is_recording()
        assert not span.get_span_context().trace_flags.sampled
        span.set_attribute("b", 2)
    assert not tracing.spans
    (ended,) = processor.ended
    assert dict(ended.attributes) == {"a": 1, "b": 2, "sampler": "recorder"}
    assert ended.instrumentation_scope.name == "tests"
    assert ended.resource.attributes["service.name"] == "tests"


def test_what_is_set_later_holds_for_unsampled_spans_too() -> None:
    tracing = Tracing(Recorder())
    tracing.tracer.start_span("record").end()
    processor = Processor()
    tracing.provider.add_span_processor(processor)
    tracing.pipeline.set_resource({"service.name": "renamed"})
    tracing.tracer.start_span("record").end()
    (ended,) = processor.ended
    assert ended.resource.attributes["service.name"] == "renamed"
    assert not tracing.spans


def test_the_samplers_trace_state_is_the_spans() -> None:
    state = TraceState([("vendor", "x")])
    tracing = Tracing(Recorder(state=state))
    with tracing.tracer.start_as_current_span("a") as a, tracing.tracer.start_as_current_span("b") as b:
        assert a.get_span_context().trace_state == state
        assert b.get_span_context().trace_state == state


@pytest.mark.contained
def test_a_sampler_that_raises_records_everything() -> None:
    class Broken(Recorder):
        def should_sample(self, *args: Any, **kwargs: Any) -> sdk.SamplingResult:
            raise RuntimeError("broken")

    tracing = Tracing(Broken())
    tracing.tracer.start_span("a").end()
    assert tracing.take().get_span_context().trace_flags.sampled


def test_a_parent_based_sampler_around_ones_own_asks_it_for_roots_only() -> None:
    sampler = Recorder()
    tracing = Tracing(sdk.ParentBased(sampler))
    with tracing.tracer.start_as_current_span("a"), tracing.tracer.start_as_current_span("b"):
        pass
    with tracing.tracer.start_as_current_span("drop"), tracing.tracer.start_as_current_span("c"):
        pass
    assert [name for _, name, *_ in sampler.asked] == ["a", "drop"]
    assert [span.name for span in tracing.spans] == ["b", "a"]


def test_the_sdks_own_samplers_are_taken_over_and_others_kept() -> None:
    assert isinstance(native(sdk.ALWAYS_ON), NativeSampler)
    assert isinstance(native(sdk.ParentBased(sdk.TraceIdRatioBased(0.5))), NativeSampler)
    odd = sdk.ParentBased(sdk.ALWAYS_ON, remote_parent_sampled=sdk.ALWAYS_OFF)
    assert native(odd) is odd
    nested = sdk.ParentBased(sdk.ParentBased(sdk.ALWAYS_OFF))
    assert native(nested) is nested

    class Mine(sdk.TraceIdRatioBased):
        def should_sample(self, *args: Any, **kwargs: Any) -> sdk.SamplingResult:
            return sdk.SamplingResult(sdk.Decision.DROP)

    mine = Mine(1.0)
    assert native(mine) is mine


def test_unsampled_spans_forget_everything_and_break_nothing() -> None:
    tracing = Tracing(named("always_off"))
    with tracing.tracer.start_as_current_span("off", attributes={"a": 1}) as span:
        span.set_attribute("a", 1)
        span.set_attributes({"a": 1})
        span.add_event("e")
        span.add_link(SpanContext(1, 2, True))
        span.set_status(trace.StatusCode.ERROR)
        span.update_name("b")
        span.record_exception(ValueError())
        assert not span.is_recording()
        first = span.get_span_context()
        assert first.is_valid and first == span.get_span_context()
        with tracing.tracer.start_as_current_span("below") as below:
            assert below.get_span_context().trace_id == first.trace_id
    with pytest.raises(ValueError), tracing.tracer.start_as_current_span("off"):
        raise ValueError
    assert not tracing.spans
