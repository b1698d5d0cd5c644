"""What a span promises, by OpenTelemetry's specification of the API and the SDK."""

import gc
import weakref
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult, StaticSampler
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from lighttrace import guard
from lighttrace.export.encoder import encode_spans
from lighttrace.tracing.limits import Limits
from lighttrace.tracing.shared import Shared
from lighttrace.tracing.span import Span
from tests.tracing.conftest import Tracing


def other(trace_id: int = 7, span_id: int = 9) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))


def test_a_span_has_what_it_was_started_with(tracing: Tracing) -> None:
    span = tracing.tracer.start_span(
        "work", kind=SpanKind.PRODUCER, attributes={"a": 1}, links=[Link(other(), {"b": 2})], start_time=1_000
    )
    span.end(end_time=2_000)
    done = tracing.take()
    assert (done.name, done.kind, dict(done.attributes), done.start_time, done.end_time) == (
        "work",
        SpanKind.PRODUCER,
        {"a": 1},
        1_000,
        2_000,
    )
    assert [(link.context, dict(link.attributes or {})) for link in done.links] == [(other(), {"b": 2})]
    assert done.status.status_code is StatusCode.UNSET


def test_a_child_shares_the_trace_and_names_its_parent(tracing: Tracing) -> None:
    with tracing.tracer.start_as_current_span("parent") as parent, tracing.tracer.start_as_current_span("child") as child:
        assert child.get_span_context().trace_id == parent.get_span_context().trace_id
        assert child.parent is not None
        assert child.parent.span_id == parent.get_span_context().span_id
        assert not child.parent.is_remote
    assert [span.name for span in tracing.spans] == ["child", "parent"]


def test_a_remote_parent_is_continued_and_stays_remote(tracing: Tracing) -> None:
    context = trace.set_span_in_context(trace.NonRecordingSpan(other()))
    span = tracing.tracer.start_span("server", context)
    child = tracing.tracer.start_span("below", trace.set_span_in_context(span))
    assert span.get_span_context().trace_id == 7
    assert span.parent is not None and span.parent.is_remote and span.parent.span_id == 9
    assert child.parent is not None and not child.parent.is_remote
    assert not span.get_span_context().is_remote


def test_a_span_whose_parent_is_invalid_is_a_root(tracing: Tracing) -> None:
    context = trace.set_span_in_context(trace.INVALID_SPAN)
    span = tracing.tracer.start_span("root", context)
    assert span.get_span_context().is_valid
    assert span.parent is None


def test_an_explicit_empty_context_makes_a_root(tracing: Tracing) -> None:
    from opentelemetry.context import Context

    with tracing.tracer.start_as_current_span("outer") as outer:
        span = tracing.tracer.start_span("root", Context())
    assert span.parent is None
    assert span.get_span_context().trace_id != outer.get_span_context().trace_id


def test_starting_a_span_leaves_the_current_one_alone(tracing: Tracing) -> None:
    with tracing.tracer.start_as_current_span("current") as current:
        tracing.tracer.start_span("aside").end()
        assert trace.get_current_span() is current


def test_ending_twice_exports_once_and_keeps_the_first_time(tracing: Tracing) -> None:
    span = tracing.tracer.start_span("once", start_time=1)
    span.end(5)
    span.end(9)
    assert len(tracing.spans) == 1
    assert tracing.take().end_time == 5


def test_nothing_changes_a_span_that_has_ended(tracing: Tracing) -> None:
    before = guard.counters.get("span.set_attribute_after_end", 0)
    span = tracing.tracer.start_span("done", attributes={"a": 1})
    span.end()
    span.set_attribute("a", 2)
    span.set_attributes({"b": 2})
    span.add_event("late")
    span.add_link(other())
    span.set_status(StatusCode.ERROR, "late")
    span.update_name("late")
    span.record_exception(ValueError("late"))
    done = tracing.take()
    assert not done.is_recording()
    assert (done.name, dict(done.attributes), done.events, done.links) == ("done", {"a": 1}, (), ())
    assert done.status.status_code is StatusCode.UNSET
    assert guard.counters["span.set_attribute_after_end"] > before


def test_a_clock_set_back_makes_no_negative_duration(tracing: Tracing) -> None:
    span = tracing.tracer.start_span("backwards", start_time=1_000)
    span.end(10)
    done = tracing.take()
    assert done.start_time is not None and done.end_time is not None
    assert done.end_time >= done.start_time


# -- status ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "code", "description"),
    [
        ([(StatusCode.ERROR, "bad")], StatusCode.ERROR, "bad"),
        ([(StatusCode.ERROR, "bad"), (StatusCode.UNSET, None)], StatusCode.ERROR, "bad"),
        ([(StatusCode.ERROR, "bad"), (StatusCode.OK, None)], StatusCode.OK, None),
        ([(StatusCode.OK, None), (StatusCode.ERROR, "late")], StatusCode.OK, None),
        ([(StatusCode.ERROR, "one"), (StatusCode.ERROR, "two")], StatusCode.ERROR, "two"),
        ([(StatusCode.ERROR, "one"), (StatusCode.ERROR, None)], StatusCode.ERROR, None),
        ([(StatusCode.UNSET, "nothing")], StatusCode.UNSET, None),
    ],
)
@pytest.mark.parametrize("as_object", [True, False])
def test_status_follows_the_specification(
    tracing: Tracing, calls: list[tuple[StatusCode, str | None]], code: StatusCode, description: str | None, as_object: bool
) -> None:
    span = tracing.tracer.start_span("status")
    for given, text in calls:
        if as_object:
            span.set_status(Status(given, text if given is StatusCode.ERROR else None))
        else:
            span.set_status(given, text)
    span.end()
    done = tracing.take()
    assert (done.status.status_code, done.status.description) == (code, description)


# -- attributes -----------------------------------------------------------------------------------------------------


def test_setting_an_attribute_again_replaces_it(tracing: Tracing) -> None:
    span = tracing.tracer.start_span("again", attributes={"a": 1, "b": 1})
    span.set_attribute("a", "two")
    span.set_attributes({"b": 2.5, "c": True})
    assert dict(span.attributes) == {"a": "two", "b": 2.5, "c": True}
    span.end()


def test_the_callers_mapping_is_copied(tracing: Tracing) -> None:
    given = {"a": 1, "list": [1, 2]}
    span = tracing.tracer.start_span("copy", attributes=given)
    given["a"] = 2
    given["list"].append(3)  # type: ignore[attr-defined]  # the list just above
    assert dict(span.attributes) == {"a": 1, "list": (1, 2)}
    span.end()


def test_an_empty_key_is_left_out(tracing: Tracing) -> None:
    span = tracing.tracer.start_span("empty", attributes={"": 1})
    span.set_attribute("", 2)
    assert dict(span.attributes) == {}
    span.end()


def test_attributes_beyond_the_limit_are_dropped_and_counted() -> None:
    tracing = Tracing(limits=Limits(attributes=2))
    span = tracing.tracer.start_span("many", attributes={"a": 1, "b": 2, "c": 3})
    span.set_attribute("d", 4)
    span.set_attribute("a", 5)  # one that is there may be changed
    span.end()
    done = tracing.take()
    assert dict(done.attributes) == {"a": 5, "b": 2}
    assert done.dropped_attributes == 2


def test_a_limit_of_none_at_all_is_kept() -> None:
    tracing = Tracing(limits=Limits(attributes=0, events=0, links=0))
    span = tracing.tracer.start_span("none", attributes={"a": 1}, links=[Link(other())])
    span.set_attribute("b", 1)
    span.add_event("e")
    span.record_exception(ValueError("e"))
    span.end()
    done = tracing.take()
    assert (dict(done.attributes), done.events, done.links) == ({}, (), ())
    assert (done.dropped_attributes, done.dropped_events, done.dropped_links) == (2, 2, 1)


def test_long_values_are_cut_wherever_they_stand() -> None:
    tracing = Tracing(limits=Limits(attribute_length=3))
    span = tracing.tracer.start_span("long", attributes={"a": "abcdef", "list": ["abcdef", 1], "bytes": b"abcdef"})
    span.set_attribute("b", "abcdef")
    span.add_event("event", {"c": "abcdef"})
    span.add_link(other(), {"d": "abcdef"})
    span.end()
    done = tracing.take()
    assert dict(done.attributes) == {"a": "abc", "list": ("abc", 1), "bytes": b"abc", "b": "abc"}
    assert dict(done.events[0].attributes) == {"c": "abc"}
    assert dict(done.links[0].attributes or {}) == {"d": "abc"}


# -- events and links -----------------------------------------------------------------------------------------------


def test_events_keep_their_order_and_time(tracing: Tracing) -> None:
    span = tracing.tracer.start_span("events")
    span.add_event("one", {"n": 1}, timestamp=11)
    span.add_event("two")
    span.end()
    one, two = tracing.take().events
    assert (one.name, one.timestamp, dict(one.attributes)) == ("one", 11, {"n": 1})
    assert two.timestamp > 11


def test_an_event_at_time_zero_keeps_its_time(tracing: Tracing) -> None:
    span = tracing.tracer.start_span("epoch")
    span.add_event("zero", timestamp=0)
    span.end()
    assert tracing.take().events[0].timestamp == 0


def test_the_oldest_events_and_links_make_room() -> None:
    tracing = Tracing(limits=Limits(events=2, links=2, event_attributes=1, link_attributes=1))
    span = tracing.tracer.start_span("full", links=[Link(other(span_id=number), {"a": 1, "b": 2}) for number in (1, 2, 3)])
    for name in "abc":
        span.add_event(name, {"a": 1, "b": 2})
    span.end()
    done = tracing.take()
    assert [event.name for event in done.events] == ["b", "c"]
    assert [link.context.span_id for link in done.links] == [2, 3]
    assert (done.dropped_events, done.dropped_links) == (1, 1)
    assert dict(done.events[0].attributes) == {"a": 1}


def test_a_link_to_nothing_is_left_out(tracing: Tracing) -> None:
    span = tracing.tracer.start_span("links")
    span.add_link(trace.INVALID_SPAN_CONTEXT)
    span.add_link(None)
    span.add_link(trace.INVALID_SPAN_CONTEXT, {"but": "with attributes"})
    span.end()
    assert len(tracing.take().links) == 1


# -- exceptions -----------------------------------------------------------------------------------------------------


def test_an_exception_that_leaves_is_recorded_and_goes_on(tracing: Tracing) -> None:
    error = ValueError("no stock")
    with pytest.raises(ValueError) as caught, tracing.tracer.start_as_current_span("work"):
        raise error
    assert caught.value is error
    done = tracing.take()
    (event,) = done.events
    assert event.name == "exception"
    attributes = dict(event.attributes)
    assert (attributes["exception.type"], attributes["exception.message"]) == ("ValueError", "no stock")
    assert attributes["exception.stacktrace"].endswith("ValueError: no stock\n")
    assert "test_an_exception_that_leaves" in attributes["exception.stacktrace"]
    assert done.status.status_code is StatusCode.ERROR
    assert done.status.description is not None and "no stock" in done.status.description
    assert done.attributes["error.type"] == "ValueError"


def test_an_exception_is_recorded_once_on_the_innermost_span(tracing: Tracing) -> None:
    with pytest.raises(KeyError), tracing.tracer.start_as_current_span("outer"), tracing.tracer.start_as_current_span("inner"):
        raise KeyError("k")
    assert len(tracing.named("inner").events) == 1
    assert tracing.named("outer").events == ()
    assert tracing.named("outer").status.status_code is StatusCode.ERROR
    assert tracing.named("outer").attributes["error.type"] == "KeyError"


def test_the_same_exception_raised_in_another_request_is_recorded_there_too(tracing: Tracing) -> None:
    error = ValueError("a module's constant")
    for _ in range(2):
        with pytest.raises(ValueError), tracing.tracer.start_as_current_span("request"):
            raise error
    assert [len(span.events) for span in tracing.spans] == [1, 1]


class Slotted(Exception):  # still has a dictionary, from BaseException
    __slots__ = ("code",)


class Unwilling(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


@pytest.mark.parametrize("error", [Slotted("s"), Unwilling()])
def test_odd_exception_classes_are_recorded(tracing: Tracing, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, tracing.tracer.start_as_current_span("odd"):
        raise error
    assert caught.value is error
    (event,) = tracing.take().events
    assert str(event.attributes["exception.type"]).endswith(type(error).__name__)


@pytest.mark.parametrize("error", [GeneratorExit(), SystemExit(0), SystemExit(None)])
def test_leaving_on_purpose_is_no_error(tracing: Tracing, error: BaseException) -> None:
    with pytest.raises(type(error)), tracing.tracer.start_as_current_span("leave"):
        raise error
    done = tracing.take()
    assert (done.status.status_code, done.events) == (StatusCode.UNSET, ())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_leaving_with_failure_is_an_error(tracing: Tracing, error: BaseException) -> None:
    with pytest.raises(type(error)), tracing.tracer.start_as_current_span("leave"):
        raise error
    assert tracing.take().status.status_code is StatusCode.ERROR


def test_record_exception_is_an_event_and_no_status(tracing: Tracing) -> None:
    span = tracing.tracer.start_span("handled")
    span.record_exception(ValueError("handled"), {"attempt": 2}, timestamp=5)
    span.end()
    done = tracing.take()
    assert done.status.status_code is StatusCode.UNSET
    (event,) = done.events
    assert event.timestamp == 5
    assert (event.attributes["attempt"], event.attributes["exception.escaped"]) == (2, "False")


def test_the_caller_may_switch_recording_and_status_off(tracing: Tracing) -> None:
    with pytest.raises(ValueError):
        with tracing.tracer.start_as_current_span("quiet", record_exception=False, set_status_on_exception=False):
            raise ValueError
    done = tracing.take()
    assert (done.events, done.status.status_code) == ((), StatusCode.UNSET)
    with pytest.raises(ValueError):
        with tracing.tracer.start_span("quiet too", record_exception=False, set_status_on_exception=False):
            raise ValueError
    done = tracing.take()
    assert (done.events, done.status.status_code) == ((), StatusCode.UNSET)


def test_a_status_of_ok_survives_an_exception(tracing: Tracing) -> None:
    with pytest.raises(ValueError), tracing.tracer.start_as_current_span("ok") as span:
        span.set_status(StatusCode.OK)
        raise ValueError
    assert tracing.take().status.status_code is StatusCode.OK


class Resolver:
    """The little of an ownership resolver that errors ask for."""

    has_rules = False

    def failing_frame_of(self, error: BaseException) -> tuple[str, str, int, str | None]:
        return "shop/fraud.py", "check", 12, "risk"


def test_a_failing_span_names_the_code_and_its_team() -> None:
    tracing = Tracing(resolver=Resolver())
    with pytest.raises(ValueError), tracing.tracer.start_as_current_span("outer"), tracing.tracer.start_as_current_span("inner"):
        raise ValueError
    attributes = tracing.named("inner").attributes
    assert attributes["code.file.path"] == "shop/fraud.py"
    assert attributes["code.function.name"] == "check"
    assert attributes["code.line.number"] == 12
    assert attributes["lighttrace.error.team"] == "risk"
    assert "code.file.path" not in tracing.named("outer").attributes


def test_an_ended_span_pins_neither_exception_nor_frame(tracing: Tracing) -> None:
    class Request:
        pass

    def fail() -> weakref.ref[Request]:
        request = Request()
        try:
            with tracing.tracer.start_as_current_span("pinned"):
                raise ValueError(request)
        except ValueError:
            pass
        return weakref.ref(request)

    gone = fail()
    gc.collect()
    assert gone() is None
    assert tracing.spans


# -- what surrounds it ----------------------------------------------------------------------------------------------


def test_the_span_is_current_only_inside(tracing: Tracing) -> None:
    before = trace.get_current_span()
    with tracing.tracer.start_as_current_span("inside") as span:
        assert trace.get_current_span() is span
    assert trace.get_current_span() is before


def test_end_on_exit_can_be_declined(tracing: Tracing) -> None:
    with tracing.tracer.start_as_current_span("open", end_on_exit=False) as span:
        pass
    assert span.is_recording()
    assert not tracing.spans
    span.end()


def test_use_span_makes_a_span_current_and_records_what_leaves(tracing: Tracing) -> None:
    span = tracing.tracer.start_span("used")
    with pytest.raises(ValueError), trace.use_span(span, end_on_exit=True):
        assert trace.get_current_span() is span
        raise ValueError("left")
    done = tracing.take()
    assert done.status.status_code is StatusCode.ERROR
    assert len(done.events) == 1


def test_a_span_by_itself_is_a_context_manager_that_ends_it(tracing: Tracing) -> None:
    with tracing.tracer.start_span("by itself") as span:
        assert trace.get_current_span() is not span
    assert tracing.take().end_time


def test_a_span_is_the_apis_and_the_sdks(tracing: Tracing) -> None:
    import opentelemetry.sdk.trace as sdk

    span = tracing.tracer.start_span("types")
    span.end()
    assert isinstance(span, trace.Span)
    assert isinstance(span, sdk.Span)
    assert isinstance(span, sdk.ReadableSpan)
    assert isinstance(span, Span)
    assert isinstance(tracing.provider, sdk.TracerProvider)
    assert not isinstance(span, trace.NonRecordingSpan)


@pytest.mark.parametrize("name", ["", "x" * 10_000, "späte Größe", 7, None])
def test_any_name_is_taken(tracing: Tracing, name: object) -> None:
    tracing.tracer.start_span(name).end()  # type: ignore[arg-type]  # what programs hand over
    assert tracing.take().name == str(name)


@pytest.mark.parametrize("attributes", [None, {}, {1: 2, None: 3}, {"a": object()}])
def test_any_attributes_are_taken(tracing: Tracing, attributes: object) -> None:
    span = tracing.tracer.start_span("any", attributes=attributes)  # type: ignore[arg-type]  # what programs hand over
    span.add_event("any", attributes)  # type: ignore[arg-type]  # as above
    span.end()
    assert all(type(key) is str for key in tracing.take().attributes)


def test_what_spans_share_is_each_ones_own_as_soon_as_one_sets_it(tracing: Tracing) -> None:
    shared = Shared({"db.query.text": "select 1", "server.port": 5432})
    first: Span = tracing.tracer.start("a", SpanKind.CLIENT, {"own": "1"}, None, None, shared)  # type: ignore[assignment]
    second: Span = tracing.tracer.start("b", SpanKind.CLIENT, {}, None, None, shared)  # type: ignore[assignment]
    first.set_attribute("server.port", 1.5)
    for span in (first, second):
        span.end()
    ended = list(tracing.spans)
    said = [dict(span.attributes) for span in ended]
    assert said == [
        {"db.query.text": "select 1", "server.port": 1.5, "own": "1"},
        {"db.query.text": "select 1", "server.port": 5432},
    ]
    sent = ExportTraceServiceRequest.FromString(encode_spans(ended)).resource_spans[0].scope_spans[0].spans
    assert [sorted(pair.key for pair in span.attributes) for span in sent] == [sorted(each) for each in said]


def test_what_spans_share_counts_toward_the_limit() -> None:
    tracing = Tracing(limits=Limits(attributes=3))
    shared = Shared({"a": "1", "b": "2"})
    span: Span = tracing.tracer.start("a", SpanKind.CLIENT, {}, None, None, shared)  # type: ignore[assignment]
    span.set_attribute("c", "3")
    span.set_attribute("d", "4")
    span.set_attribute("a", "5")
    span.end()
    done = tracing.take()
    assert (dict(done.attributes), done.dropped_attributes) == ({"a": "5", "b": "2", "c": "3"}, 1)


def test_samplers_see_what_spans_share() -> None:
    seen: list[dict[str, object]] = []

    class Looking(StaticSampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            seen.append(dict(args[4]))
            return super().should_sample(*args, **kwargs)

    tracing = Tracing(sampler=Looking(Decision.RECORD_AND_SAMPLE))
    tracing.tracer.start("a", SpanKind.CLIENT, {"own": "1"}, None, None, Shared({"a": "1"})).end()
    assert seen == [{"a": "1", "own": "1"}]
    assert dict(tracing.take().attributes) == {"a": "1", "own": "1"}
