"""The program's own `TracerProvider`: adopted while we are switched on, the stock SDK before and after."""

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.util._once import Once

import lighttrace
from lighttrace import runtime
from lighttrace.tracing.span import Span


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No global provider before and after, as in a program that has just started."""

    def clear() -> None:
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE = Once()

    clear()
    yield
    lighttrace.shutdown()
    clear()


def make(**options: Any) -> tuple[TracerProvider, InMemorySpanExporter]:
    provider = TracerProvider(shutdown_on_exit=False, **options)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def init(**options: Any) -> runtime.Runtime:
    lighttrace.init(exporter="none", **options)
    active = runtime.active()
    assert active is not None
    return active


def names(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


ORDERS = pytest.mark.parametrize("first", ["lighttrace", "sdk"])


def both(first: str, provider: TracerProvider, **options: Any) -> runtime.Runtime:
    if first == "lighttrace":
        active = init(**options)
        trace.set_tracer_provider(provider)
        return active
    trace.set_tracer_provider(provider)
    return init(**options)


@ORDERS
def test_its_tracers_make_our_spans_and_its_processors_see_them(first: str, caplog: pytest.LogCaptureFixture) -> None:
    provider, exporter = make()
    early = provider.get_tracer("early")
    proxy = trace.get_tracer("proxy")
    both(first, provider)
    for tracer in (early, proxy, provider.get_tracer("late"), trace.get_tracer("global")):
        with tracer.start_as_current_span("span") as span:
            assert type(span) is Span
    with lighttrace.span("by hand"):
        pass
    assert names(exporter) == ["span"] * 4 + ["by hand"]
    scopes = [span.instrumentation_scope.name for span in exporter.get_finished_spans() if span.instrumentation_scope]
    assert scopes == ["early", "proxy", "late", "global", "lighttrace"]
    assert not caplog.records


@ORDERS
def test_it_stays_the_global_one(first: str) -> None:
    provider, _ = make()
    both(first, provider)
    assert trace.get_tracer_provider() is provider


@ORDERS
def test_switched_off_it_is_the_stock_sdk_again(first: str) -> None:
    methods = dict(vars(TracerProvider))
    provider, exporter = make()
    tracer = provider.get_tracer("early")
    both(first, provider)
    lighttrace.shutdown()
    assert dict(vars(TracerProvider)) == methods
    assert trace.get_tracer_provider() is provider
    with tracer.start_as_current_span("again") as span, provider.get_tracer("new").start_as_current_span("new") as new:
        assert type(span) is not Span
        assert type(new) is not Span
        assert isinstance(new, SdkSpan)
    assert names(exporter) == ["new", "again"]  # its processors were not shut down


@ORDERS
def test_init_after_shutdown_adopts_it_again(first: str) -> None:
    provider, exporter = make()
    both(first, provider)
    ours = provider.get_tracer("kept")
    lighttrace.shutdown()
    init()
    with ours.start_as_current_span("kept"), provider.get_tracer("new").start_as_current_span("new"):
        pass
    assert names(exporter) == ["new", "kept"]


def test_tracers_that_a_program_keeps_survive_shutdown_and_init() -> None:
    init()
    proxy = trace.get_tracer("kept")
    proxy.start_span("bind").end()
    lighttrace.shutdown()
    exporter = InMemorySpanExporter()
    init().provider.add_span_processor(SimpleSpanProcessor(exporter))
    proxy.start_span("again").end()
    assert names(exporter) == ["again"]


def test_processors_added_later_see_spans_too() -> None:
    init()
    provider, first = make()
    trace.set_tracer_provider(provider)
    later = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(later))
    provider.get_tracer("x").start_span("a").end()
    assert names(first) == names(later) == ["a"]


def test_a_second_provider_is_refused_as_without_us(caplog: pytest.LogCaptureFixture) -> None:
    init()
    provider, _ = make()
    other, _ = make()
    trace.set_tracer_provider(provider)
    assert not caplog.records
    trace.set_tracer_provider(other)
    assert trace.get_tracer_provider() is provider
    assert "Overriding of current TracerProvider is not allowed" in caplog.text


def test_a_provider_that_is_never_made_global_stays_by_itself() -> None:
    init()
    provider, exporter = make()
    span = provider.get_tracer("own").start_span("own")
    span.end()
    assert type(span) is not Span
    assert names(exporter) == ["own"]


def test_a_subclass_keeps_what_it_does_around_its_tracers() -> None:
    class Wrapped:
        def __init__(self, tracer: trace.Tracer) -> None:
            self.tracer = tracer

        def start_span(self, name: str) -> trace.Span:
            return self.tracer.start_span(f"wrapped {name}")

    class Mine(TracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
            return Wrapped(super().get_tracer(*args, **kwargs))

    init()
    exporter = InMemorySpanExporter()
    provider = Mine(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    span = trace.get_tracer("x").start_span("a")
    span.end()
    assert type(span) is Span
    assert names(exporter) == ["wrapped a"]
    with lighttrace.span("by hand"):
        pass
    assert names(exporter) == ["wrapped a", "by hand"]


def test_a_provider_of_another_kind_is_replaced_and_named(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(trace.TracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
            return trace.NoOpTracer()

    trace.set_tracer_provider(Odd())
    init()
    with trace.get_tracer("x").start_as_current_span("a") as span:
        assert type(span) is Span
    assert "Odd" in caplog.text


# -- what it was told -----------------------------------------------------------------------------------------------


@ORDERS
def test_its_resource_goes_before_what_we_guessed(first: str) -> None:
    provider, exporter = make(resource=Resource.create({"service.name": "billing", "tier": "gold", "team": "fraud"}))
    active = both(first, provider)
    provider.get_tracer("x").start_span("a").end()
    (span,) = exporter.get_finished_spans()
    told = span.resource.attributes
    assert (told["service.name"], told["tier"], told["team"]) == ("billing", "gold", "fraud")
    assert told["service.instance.id"] == active.pipeline.resource["service.instance.id"]
    assert span.attributes is not None and span.attributes["team"] == "fraud"


@ORDERS
def test_what_we_were_told_goes_before_its_resource(first: str) -> None:
    provider, _ = make(resource=Resource.create({"service.name": "billing", "tier": "gold", "team": "fraud"}))
    told = both(first, provider, service="checkout", team="payments").pipeline.resource
    assert (told["service.name"], told["tier"], told["team"]) == ("checkout", "gold", "payments")


@ORDERS
def test_a_service_without_a_name_does_not_hide_ours(first: str) -> None:
    provider, _ = make()
    assert both(first, provider, service="checkout").pipeline.resource["service.name"] == "checkout"


@ORDERS
def test_its_sampler_ids_and_limits_hold(first: str) -> None:
    class Ids(RandomIdGenerator):
        def generate_span_id(self) -> int:
            return 42

    provider, exporter = make(
        sampler=sampling.ALWAYS_OFF,
        id_generator=Ids(),
        span_limits=SpanLimits(max_span_attributes=1, max_events=SpanLimits.UNSET),
    )
    active = both(first, provider)
    assert repr(active.pipeline.native) == "always_off"
    assert not provider.get_tracer("x").start_span("a").is_recording()
    active.pipeline.set_sampler(sampling.ALWAYS_ON)
    with provider.get_tracer("x").start_as_current_span("a", attributes={"a": 1, "b": 2}) as span:
        for number in range(1000):
            span.add_event(str(number))
    (done,) = exporter.get_finished_spans()
    assert done.context.span_id == 42
    assert len(done.attributes or {}) == 1
    assert len(done.events) == 1000


@ORDERS
def test_its_defaults_do_not_replace_what_we_were_told(first: str) -> None:
    provider, _ = make()
    active = both(first, provider, sampler="always_off", attribute_count_limit=7)
    assert repr(active.pipeline.native) == "always_off"
    assert active.pipeline.limits.attributes == 7
    assert active.pipeline.id_generator is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_another_instance_of_the_programs_service() -> None:
    provider, _ = make(resource=Resource.create({"service.name": "billing", "tier": "gold"}))
    active = both("lighttrace", provider, team="payments")
    before = dict(active.pipeline.resource)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        import json

        span = provider.get_tracer("x").start_span("child")
        told = dict(span.resource.attributes)  # type: ignore[attr-defined]  # ours
        os.write(write, json.dumps({key: str(value) for key, value in told.items()}).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    import json

    child = json.loads(data)
    assert (child["service.name"], child["tier"], child["team"]) == ("billing", "gold", "payments")
    assert child["service.instance.id"] != before["service.instance.id"]
    assert dict(active.pipeline.resource) == before


# -- processors and exporters ---------------------------------------------------------------------------------------


def test_the_console_exporter_prints_our_spans(capsys: pytest.CaptureFixture[str]) -> None:
    import json
    import sys

    active = init(service="checkout", team="payments")
    active.provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stdout)))
    with pytest.raises(ValueError), trace.get_tracer("x").start_as_current_span("work", attributes={"a": [1, 2]}):
        raise ValueError("printed")
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "work"
    assert told["attributes"]["a"] == [1, 2]
    assert told["attributes"]["team"] == "payments"
    assert told["status"]["status_code"] == "ERROR"
    assert told["events"][0]["name"] == "exception"
    assert told["resource"]["attributes"]["service.name"] == "checkout"


def test_a_batch_processor_and_force_flush_deliver() -> None:
    exporter = InMemorySpanExporter()
    processor = BatchSpanProcessor(exporter, schedule_delay_millis=60_000)
    active = init()
    active.provider.add_span_processor(processor)
    trace.get_tracer("x").start_span("a").end()
    assert lighttrace.flush(5)
    assert names(exporter) == ["a"]


def test_every_processor_is_shut_down_once_and_by_whoever_owns_it() -> None:
    class Counting(SpanProcessor):
        def __init__(self) -> None:
            self.stopped = 0

        def shutdown(self) -> None:
            self.stopped += 1

    active = init()
    given, theirs = Counting(), Counting()
    active.provider.add_span_processor(given)
    provider, _ = make()
    provider.add_span_processor(theirs)
    trace.set_tracer_provider(provider)
    lighttrace.shutdown()
    assert (given.stopped, theirs.stopped) == (1, 0)
    provider.shutdown()
    assert (given.stopped, theirs.stopped) == (1, 1)


@pytest.mark.contained
def test_a_broken_processor_breaks_neither_the_program_nor_the_others(contained: list[Any]) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: SdkSpan, parent_context: Any = None) -> None:
            raise RuntimeError("start")

        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("end")

        def force_flush(self, timeout_millis: int = 0) -> bool:
            raise RuntimeError("flush")

        def shutdown(self) -> None:
            raise RuntimeError("shutdown")

    provider = TracerProvider(shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(Broken())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    both("lighttrace", provider)
    with trace.get_tracer("x").start_as_current_span("a"):
        pass
    assert names(exporter) == ["a"]
    lighttrace.flush(1)
    assert {error for _, error in contained} == {"RuntimeError: start", "RuntimeError: end", "RuntimeError: flush"}


def test_a_processor_may_change_the_span_on_its_start() -> None:
    class Adding(SpanProcessor):
        def on_start(self, span: SdkSpan, parent_context: Any = None) -> None:
            span.set_attributes({"added": 1.5, "links": len(span.links), "start": span.start_time or 0})
            span.update_name(f"{span.name}!")

    active = init()
    exporter = InMemorySpanExporter()
    active.provider.add_span_processor(Adding())
    active.provider.add_span_processor(SimpleSpanProcessor(exporter))
    link = trace.Link(trace.SpanContext(1, 2, True))
    trace.get_tracer("x").start_span("a", links=[link], start_time=77).end()
    (span,) = exporter.get_finished_spans()
    assert (span.name, dict(span.attributes or {})) == ("a!", {"added": 1.5, "links": 1, "start": 77})


def test_a_processor_may_replace_the_attributes_of_an_ended_span() -> None:
    class Replacing(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            span._attributes = dict.fromkeys(span._attributes or {}, "redacted")  # type: ignore[assignment]  # as many do

    active = init()
    exporter = InMemorySpanExporter()
    active.provider.add_span_processor(Replacing())
    active.provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.get_tracer("x").start_span("secret", attributes={"card": "4111"}).end()
    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})["card"] == "redacted"


def test_a_processor_may_write_into_an_ended_span() -> None:
    """Nothing public lets it, so programs reach into the SDK's private names; ours are the same."""

    class Redacting(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            for key in list(span._attributes or {}):
                span._attributes[key] = ["redacted"]  # type: ignore[index]  # as said above
            span._name = "redacted"
            span._status = trace.Status(trace.StatusCode.ERROR, "redacted")

    active = init()
    exporter = InMemorySpanExporter()
    active.provider.add_span_processor(Redacting())
    active.provider.add_span_processor(SimpleSpanProcessor(exporter))
    ended: list[Any] = []
    active.pipeline.put = ended.append
    trace.get_tracer("x").start_span("secret", attributes={"card": "4111"}).end()
    (span,) = ended
    assert (span.name, dict(span.attributes), span._shared.plain) == ("redacted", {"card": ("redacted",)}, False)
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "redacted")


def test_a_processor_may_be_put_in_front_of_the_others() -> None:
    active = init()
    seen: list[str] = []

    class Naming(SpanProcessor):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_end(self, span: ReadableSpan) -> None:
            seen.append(self.name)

    active.provider.add_span_processor(Naming("second"))
    several = active.provider._active_span_processor
    several._span_processors = (Naming("first"), *several._span_processors)
    several.add_span_processor(Naming("third"))
    trace.get_tracer("x").start_span("a").end()
    assert seen == ["first", "second", "third"]


def test_the_stock_otlp_encoder_and_json_take_every_value_of_ours() -> None:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    active = init()
    exporter = InMemorySpanExporter()
    active.provider.add_span_processor(SimpleSpanProcessor(exporter))
    values: dict[str, Any] = {"bytes": b"\xff", "map": {"a": [1, {"b": 2.5}]}, "list": [1, "a"], "flag": True, "nothing": None}
    with trace.get_tracer("x", "1", attributes={"scope": "s"}).start_as_current_span("a", attributes=values) as span:
        span.add_event("e", values)
        span.add_link(trace.SpanContext(1, 2, True), values)
    (done,) = exporter.get_finished_spans()
    ((encoded,),) = [scopes.spans for resources in encode_spans([done]).resource_spans for scopes in resources.scope_spans]
    assert {pair.key for pair in encoded.attributes} == {"bytes", "map", "list", "flag"}
    assert '"bytes": "\\\\xff"' in done.to_json()


@pytest.mark.parametrize("name", ["always_on", "always_off"])
def test_unsampled_spans_are_of_the_same_class_as_the_sdks(name: str) -> None:
    init(sampler=name)
    span = trace.get_tracer("x").start_span("a")
    recorded = name == "always_on"
    assert isinstance(span, trace.Span)
    assert isinstance(span, ReadableSpan) is recorded
    assert isinstance(span, trace.NonRecordingSpan) is not recorded
    span.end()


def otlp(monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[runtime.Runtime, SimpleSpanProcessor]:
    """Our OTLP exporter to a collector that is never called, and the program's."""
    lighttrace.init(endpoint="http://collector.invalid:4318", schedule_delay_s=3600, exit_timeout_s=0.01)
    active = runtime.active()
    assert active is not None
    processor = SimpleSpanProcessor(OTLPSpanExporter(**options))
    provider = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    provider.add_span_processor(processor)
    return active, processor


def test_the_programs_exporter_to_where_we_send_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lighttrace")
    active, processor = otlp(monkeypatch, endpoint="http://collector.invalid:4318/v1/traces")
    assert processor not in active.pipeline.processors
    assert "spans are sent once, by LightTrace" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "http://elsewhere.invalid:4318/v1/traces"},
        {"endpoint": "http://collector.invalid:4318/tenant/v1/traces"},
        {"endpoint": "http://collector.invalid:4318/v1/traces", "headers": {"authorization": "secret"}},
    ],
)
def test_an_exporter_that_does_what_ours_cannot_is_kept(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    active, processor = otlp(monkeypatch, **options)
    assert processor in active.pipeline.processors
