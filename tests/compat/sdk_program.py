"""A program written against opentelemetry-api and -sdk alone; it has never heard of LightTrace.

It sets up all that can be set up (processors, exporters, sampler, id generator, resource, limits, a contrib
instrumentation), works, and prints one JSON object that says what its own processors and exporters saw.
"""

import http.server
import json
import sys
import threading
from collections.abc import Sequence
from typing import Any

import requests
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

early = trace.get_tracer("early", "0.1")  # before there is a provider


class Ids(IdGenerator):
    def __init__(self) -> None:
        self.last = 0

    def generate_span_id(self) -> int:
        self.last += 1
        return self.last

    def generate_trace_id(self) -> int:
        self.last += 1
        return self.last << 64 | self.last

    def is_trace_id_random(self) -> bool:
        return False


class ByName(Sampler):
    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        decision = {"noise": Decision.DROP, "quiet": Decision.RECORD_ONLY}.get(name, Decision.RECORD_AND_SAMPLE)
        return SamplingResult(
            decision, {**(attributes or {}), "sampled.by": "name"} if decision is not Decision.DROP else None, trace_state
        )

    def get_description(self) -> str:
        return "ByName"


class Marking(SpanProcessor):
    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.problems: list[str] = []

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        self.started.append(span.name)
        if not isinstance(span, Span) or not span.is_recording():
            self.problems.append(f"{span!r} is not a recording span")
        span.set_attribute("tenant", str(baggage.get_baggage("tenant", parent_context)))
        parent = trace.get_current_span(parent_context).get_span_context()
        if (parent.span_id or None) != (span.parent.span_id if span.parent else None):
            self.problems.append(f"{span.name}: the context is not its parent's")

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span.name)
        if not isinstance(span, ReadableSpan) or span.end_time is None:
            self.problems.append(f"{span!r} is not a span that has ended")


class Collecting(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.stopped = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.stopped += 1

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class Server(http.server.BaseHTTPRequestHandler):
    headers_seen: list[dict[str, str]] = []

    def do_GET(self) -> None:
        self.headers_seen.append({key.lower(): value for key, value in self.headers.items()})
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def describe(span: ReadableSpan) -> dict[str, Any]:
    told = json.loads(span.to_json())
    return {
        "name": span.name,
        "kind": span.kind.name,
        "parent": span.parent.span_id if span.parent else None,
        "trace": span.context.trace_id,
        "span": span.context.span_id,
        "flags": int(span.context.trace_flags),
        "status": [span.status.status_code.name, span.status.description],
        "attributes": {key: list(value) if isinstance(value, tuple) else value for key, value in (span.attributes or {}).items()},
        "events": [[event.name, sorted(event.attributes or {})] for event in span.events],
        "links": [[link.context.span_id, dict(link.attributes or {})] for link in span.links],
        "resource": {
            key: span.resource.attributes.get(key)
            for key in ("service.name", "deployment.environment.name", "telemetry.sdk.language")
        },
        "scope": [span.instrumentation_scope.name, span.instrumentation_scope.version or None]
        if span.instrumentation_scope
        else None,
        "dropped": [span.dropped_attributes, span.dropped_events, span.dropped_links],
        "json": [told["name"], told["kind"], told["status"]["status_code"]],
        "times": span.start_time is not None and span.end_time is not None and span.start_time <= span.end_time,
        "class": f"{type(span).__module__}.{type(span).__qualname__}",
    }


def work(url: str) -> None:
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    tracer = trace.get_tracer("program", "1.2")
    with tracer.start_as_current_span(
        "root",
        kind=SpanKind.SERVER,
        attributes={"a": 1, "b": "two", "c": 3.5, "d": True, "e": ["x", "y"]},
        links=[Link(SpanContext(5, 6, True, TraceFlags(1)), {"why": "batch"})],
    ) as root:
        root.add_event("started", {"n": 1})
        with early.start_as_current_span("early child") as child:
            child.set_status(Status(StatusCode.OK))
        with tracer.start_as_current_span("quiet"), tracer.start_as_current_span("noise"):
            pass
        aside = tracer.start_span("aside", kind=SpanKind.PRODUCER)
        with trace.use_span(aside, end_on_exit=True):
            decorated()
        try:
            with tracer.start_as_current_span("failing"):
                raise LookupError("no such card")
        except LookupError:
            pass
        requests.get(f"{url}/pay", timeout=5)
        for number in range(5):
            root.add_event(f"many.{number}", {"long": "x" * 100})
        root.set_attribute("long", "x" * 100)
    context.detach(token)


@early.start_as_current_span("decorated")
def decorated() -> None:
    trace.get_current_span().set_attribute("inside", True)


def main() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    marking, at_once, batched, late = Marking(), Collecting(), Collecting(), Collecting()
    provider = TracerProvider(
        sampler=ParentBased(ByName(), local_parent_sampled=ByName(), local_parent_not_sampled=ByName()),
        resource=Resource.create({"service.name": "billing", "deployment.environment.name": "test"}),
        id_generator=Ids(),
        span_limits=SpanLimits(max_events=2, max_span_attribute_length=40),
    )
    provider.add_span_processor(marking)
    provider.add_span_processor(SimpleSpanProcessor(at_once))
    handed_out = provider.get_tracer("handed out", "3")
    trace.set_tracer_provider(provider)
    provider.add_span_processor(BatchSpanProcessor(batched))
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(late))  # type: ignore[attr-defined]  # the SDK's
    RequestsInstrumentor().instrument()

    work(f"http://127.0.0.1:{server.server_port}")
    handed_out.start_span("handed out").end()
    flushed = provider.force_flush()
    RequestsInstrumentor().uninstrument()
    same = trace.get_tracer_provider() is provider
    provider.shutdown()
    server.shutdown()
    json.dump(
        {
            "spans": [describe(span) for span in at_once.spans],
            "batched": sorted(span.name for span in batched.spans),
            "late": [span.name for span in late.spans],
            "started": marking.started,
            "ended": marking.ended,
            "problems": marking.problems,
            "flushed": flushed,
            "stopped": [exporter.stopped for exporter in (at_once, batched, late)],
            "same provider": same,
            "sdk provider": isinstance(trace.get_tracer_provider(), TracerProvider),
            "headers": [[headers.get("traceparent"), headers.get("baggage")] for headers in Server.headers_seen],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
