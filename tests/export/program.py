"""One program with every kind of attribute, event, link and status, written against OpenTelemetry's API alone."""

from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

START, END = 1_700_000_000_000_000_000, 1_700_000_000_123_456_789
ATTRIBUTES: dict[str, Any] = {
    "text": "a value",
    "empty": "",
    "unicode": "naïve ☃ 🎉",
    "number": 42,
    "zero": 0,
    "one": 1,
    "negative": -7,
    "large": 2**63 - 1,
    "small": -(2**63),
    "real": 1.5,
    "whole real": 1.0,
    "true": True,
    "false": False,
    "bytes": b"\x00\xff",
    "texts": ["a", "b"],
    "numbers": (1, 2, 3),
    "reals": [0.5, 1.0],
    "truths": [True, False],
    "none of them": [],
}


def run(provider: Any) -> None:
    """Make the spans on `provider`."""
    tracer = provider.get_tracer("a.library", "1.2.3", "https://example.com/schema")
    other = provider.get_tracer("another")
    remote = SpanContext(2**127 + 5, 2**63 + 9, True, TraceFlags(1), TraceState([("vendor", "value"), ("second", "2")]))
    parent = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    local = SpanContext(77, 88, False, TraceFlags(1))
    for kind in SpanKind:
        tracer.start_span(f"kind {kind.name}", parent, kind, ATTRIBUTES, start_time=START).end(END)
    with_links = tracer.start_span("links", parent, links=[Link(remote, {"why": "because"}), Link(local)], start_time=START)
    with_links.add_link(local, {"late": True})
    with_links.end(END)
    with_events = tracer.start_span("events", parent, start_time=START)
    with_events.add_event("plain", timestamp=START + 1)
    with_events.add_event("with attributes", {"a": 1, "b": "two", "c": [1.5]}, START + 2)
    with_events.end(END)
    for code, message in (
        (StatusCode.OK, None),
        (StatusCode.ERROR, "it broke"),
        (StatusCode.ERROR, None),
        (StatusCode.UNSET, None),
    ):
        span = other.start_span(f"status {code.name} {message}", parent, start_time=START)
        span.set_status(Status(code, message))
        span.end(END)
    many = other.start_span("too many", parent, start_time=START)
    for i in range(200):
        many.add_event(f"event {i}", timestamp=START + i)
        many.add_link(SpanContext(i + 1, i + 1, False))
    many.end(END)
    child_of = trace.set_span_in_context(trace.NonRecordingSpan(local))
    tracer.start_span("child of a local parent", child_of, start_time=START).end(END)
    tracer.start_span("root", Context(), start_time=START).end(END)
