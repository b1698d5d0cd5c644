"""Rows 10, 24 and 26: values that cannot be sent, the test kit beside the program's own tracing, and formats that are unknown."""

import datetime as dt
import decimal
import enum
import pathlib
import uuid
from typing import Any

import pytest
from opentelemetry import trace

from lighttrace import config, export
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider
from tests.faults.backend import Backend
from tests.faults.conftest import Record
from tests.faults.programs import Program


class Color(enum.Enum):
    RED = "red"


class Hostile:
    def __str__(self) -> str:
        raise ValueError("no words for it")

    __repr__ = __str__


def hostile_values() -> dict[Any, Any]:
    return {
        "path": pathlib.PurePosixPath("/a/b"), "decimal": decimal.Decimal("1.5"), "uuid": uuid.UUID(int=7),
        "date": dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc), "enum": Color.RED, "nested": {"a": [1, {"b": None}]},
        "none": None, "mixed": [1, "two", None], "surrogate": "half \ud800", "huge": 2**70, "infinite": float("inf"),
        "bytes": b"\xff\x00", "set": {1}, 5: "a number for a key", "": "no key",
    }  # fmt: skip


def run(provider: Any) -> int:
    """One span with each value, and ten that have nothing to do with it; how many."""
    tracer = provider.get_tracer("t")
    ended = 0
    for key, value in hostile_values().items():
        span = tracer.start_span(f"value {key}")
        span.set_attribute(key, value)
        span.add_event("event", {key: value})
        span.end()
        ended += 1
    for number in range(10):
        tracer.start_span(f"beside {number}").end()
        ended += 1
    return ended


def test_what_cannot_even_be_written_down_costs_nothing_else(backend: Backend) -> None:
    queue = export.build(config.load(environ={}, endpoint=backend.endpoint))
    own: list[Any] = []
    own.append(own)
    span = TracerProvider(Pipeline({"service.name": "s"}, put=queue.put)).get_tracer("t").start_span("s")
    span.set_attribute("itself", own)
    span.set_attribute("hostile", Hostile())  # type: ignore[arg-type]  # that is the point
    span.end()
    assert queue.shutdown(10)
    assert queue.exported == len(backend.arrived) == 1


def test_no_value_costs_a_span_or_its_batch(backend: Backend, record: Record, caplog: pytest.LogCaptureFixture) -> None:
    queue = export.build(config.load(environ={}, endpoint=backend.endpoint))
    ended = run(TracerProvider(Pipeline({"service.name": "s"}, put=queue.put)))
    assert queue.shutdown(10)
    assert queue.stats() == {"exported": ended, "dropped": {}, "queued": 0}
    assert len(backend.arrived) == ended
    assert caplog.records == []
    record(
        10,
        "one span with each of fifteen values that OTLP does not know, in one batch with ten others",
        f"all {ended} spans arrive, each value as text or as what it holds",
        theirs(),
    )


def theirs() -> str:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider as StockProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    with Backend() as other:
        provider = StockProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(other.endpoint + "/v1/traces")))
        try:
            ended = run(provider)
        except Exception as error:
            return f"the program gets a {type(error).__name__}"
        finally:
            provider.shutdown()
        arrived = len(other.arrived)
    return "every span arrives" if arrived == ended else f"{ended - arrived} of {ended} spans are lost"


UNKNOWN = """
import os, requests
TRACED
requests.post(os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/called", b"")
print("{}")
"""
OURS = "import lighttrace; lighttrace.init(service='s')"
THEIRS = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry import trace
from opentelemetry.instrumentation.requests import RequestsInstrumentor
trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
RequestsInstrumentor().instrument()
"""


def test_a_format_that_nobody_knows_is_a_warning(backend: Backend, record: Record) -> None:
    variables = {"OTEL_PROPAGATORS": "tracecontext,nonsense", "OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint}
    ours, other = (Program("-c", UNKNOWN.replace("TRACED", traced), **variables).wait(30) for traced in (OURS, THEIRS))
    assert ours.code == 0, ours.log
    called = [request for request in backend.requests if request.target == "/called"]
    assert "traceparent" in called[0].headers
    assert [line for line in ours.log if "nonsense" in line] == ours.log
    assert len(ours.log) == 1
    raised = other.code and any("ValueError: Propagator nonsense" in line for line in other.log)
    record(
        26,
        "a program that calls over requests, with OTEL_PROPAGATORS=tracecontext,nonsense",
        "one warning; the call carries a traceparent",
        "the program does not start: ValueError" if raised else "the program goes on",
    )


def test_a_program_that_asks_for_the_current_span_in_a_test_gets_the_test_s_own(record: Record) -> None:
    from lighttrace.testing import capture

    with capture() as spans:
        with trace.get_tracer("t").start_as_current_span("mine"):
            pass
        assert [span.name for span in spans.take()] == ["mine"]
    with capture() as spans:
        assert spans.take(0) == []
    record(24, "two tests in one process, each with spans of its own", "each sees its own spans and no others", "")
