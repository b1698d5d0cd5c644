"""Console, file, exporters written for opentelemetry-sdk, and several at once."""

import importlib.metadata
import io
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lighttrace import config, export
from lighttrace.export.console import ConsoleExporter
from lighttrace.export.exporter import ARRIVED, Outcome
from lighttrace.export.file import FileExporter
from lighttrace.export.foreign import ForeignExporter
from lighttrace.export.memory import UnusableExporter
from lighttrace.export.queue import SpanQueue
from lighttrace.export.several import SeveralExporters
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider
from tests.export.test_encoding import from_otlp_json


@pytest.fixture
def spans() -> list[Any]:
    return []


@pytest.fixture
def tracer(spans: list[Any]) -> Any:
    return TracerProvider(Pipeline({"service.name": "shop"}, put=spans.append)).get_tracer("t")


def trace_of(tracer: Any, *children: str, root: str = "GET /") -> None:
    with tracer.start_as_current_span(root):
        for child in children:
            with tracer.start_as_current_span(child) as span:
                if child == "broken":
                    span.set_status(trace.StatusCode.ERROR, "it broke")


def test_the_console_prints_a_trace_when_its_root_has_ended(spans: list[Any], tracer: Any) -> None:
    stream = io.StringIO()
    console = ConsoleExporter(stream)
    trace_of(tracer, "look up", "broken")
    *children, root = spans
    assert console.send(console.prepare(children, None), 1) is ARRIVED
    assert not stream.getvalue()
    assert console.send(console.prepare([root], None), 1) is ARRIVED
    printed = stream.getvalue()
    assert printed.index("GET /") < printed.index("look up") < printed.index("broken")
    assert "it broke" in printed
    assert "shop" in printed


def test_the_console_prints_what_never_got_a_root_when_it_closes(spans: list[Any], tracer: Any) -> None:
    stream = io.StringIO()
    console = ConsoleExporter(stream)
    trace_of(tracer, "orphan")
    console.send(console.prepare(spans[:1], None), 1)
    console.close()
    assert "orphan" in stream.getvalue()


def test_the_console_keeps_a_bounded_number_of_traces_waiting(spans: list[Any], tracer: Any) -> None:
    stream = io.StringIO()
    console = ConsoleExporter(stream)
    for number in range(1500):
        trace_of(tracer, f"child {number}")
    console.send(console.prepare([span for span in spans if span._parent_id], None), 1)
    assert len(console._waiting) == 1000
    assert "child 499" in stream.getvalue()
    assert "child 500" not in stream.getvalue()


def test_a_console_that_was_closed_is_told_and_not_raised(spans: list[Any], tracer: Any) -> None:
    stream = io.StringIO()
    console = ConsoleExporter(stream)
    trace_of(tracer)
    stream.close()
    assert console.send(console.prepare(spans, None), 1).reason.startswith("console:")


def test_a_file_that_cannot_be_written_is_told_and_tried_again_with_the_next_batch(
    tmp_path: Path, spans: list[Any], tracer: Any
) -> None:
    trace_of(tracer)
    path = tmp_path / "directory" / "traces.jsonl"
    exporter = FileExporter(str(path))
    outcome = exporter.send(exporter.prepare(spans, None), 1)
    assert outcome.reason.startswith("file:")
    assert not outcome.retry
    path.parent.mkdir()
    assert exporter.send(exporter.prepare(spans, None), 1) is ARRIVED
    exporter.close()
    lines = [line for line in path.read_text().splitlines() if line]
    assert [len(from_otlp_json(line).resource_spans) for line in lines] == [1]


def test_an_exporter_of_the_sdk_s_gets_spans_that_look_like_the_sdk_s(spans: list[Any], tracer: Any) -> None:
    memory = InMemorySpanExporter()
    exporter = ForeignExporter(memory)
    trace_of(tracer, "child")
    assert exporter.send(exporter.prepare(spans, None), 1) is ARRIVED
    child, root = memory.get_finished_spans()
    assert child.parent is not None
    assert root.context is not None
    assert child.parent.span_id == root.context.span_id
    assert child.resource.attributes["service.name"] == "shop"
    assert root.end_time is not None
    assert root.start_time is not None
    assert root.end_time > root.start_time
    exporter.close()
    assert memory.export([]) is SpanExportResult.FAILURE  # it was shut down


class Foreign(SpanExporter):
    """What somebody else may have written."""

    def __init__(self, result: Any = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.spans: list[str] = []
        self.closed = False

    def export(self, spans: Any) -> Any:
        if isinstance(self.result, BaseException):
            raise self.result
        self.spans += [span.name for span in spans]
        return self.result

    def shutdown(self) -> None:
        self.closed = True


@pytest.mark.contained
def test_an_exporter_of_the_sdk_s_that_fails_or_raises_is_counted() -> None:
    for result, reason in ((SpanExportResult.FAILURE, "exporter"), (OSError("no"), "error"), (SystemExit(1), "error")):
        theirs = Foreign(result)
        queue = SpanQueue(lambda theirs=theirs: ForeignExporter(theirs))
        made = TracerProvider(Pipeline(put=queue.put)).get_tracer("t")
        trace_of(made)
        assert queue.shutdown(5)
        assert queue.stats() == {"exported": 0, "dropped": {reason: 1}, "queued": 0}
        assert theirs.closed


def test_exporters_are_found_by_their_entry_point(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    entry = importlib.metadata.EntryPoint("mine", f"{__name__}:Foreign", "opentelemetry_traces_exporter")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    made = export.make_exporter(config.load(environ={"OTEL_TRACES_EXPORTER": "mine"}))
    assert isinstance(made, ForeignExporter)
    assert type(made.exporter).__name__ == "Foreign"
    assert isinstance(export.make_exporter(config.load(environ={"OTEL_TRACES_EXPORTER": "theirs"})), UnusableExporter)
    assert "there are console, file, mine, none, otlp" in caplog.text


class Scripted:
    """One of several: answers what it is told to."""

    def __init__(self, *answers: Outcome | Exception, takes: float = 0) -> None:
        self.answers = list(answers)
        self.takes = takes
        self.batches: list[list[str]] = []
        self.timeouts: list[float] = []
        self.closed = False

    def prepare(self, batch: list[Any], extra: dict[str, Any] | None, broken: list[Any] | None = None) -> list[str]:
        return [span._name for span in batch]

    def send(self, payload: list[str], timeout: float) -> Outcome:
        self.timeouts.append(timeout)
        if self.takes:
            threading.Event().wait(min(self.takes, timeout))
        answer = self.answers.pop(0) if self.answers else ARRIVED
        if isinstance(answer, Exception):
            raise answer
        if not answer.reason:
            self.batches.append(payload)
        return answer

    def close(self) -> None:
        self.closed = True


def test_each_of_several_gets_every_span_once(spans: list[Any], tracer: Any) -> None:
    busy = Outcome("status_503", retry=True, retry_after=0.01)
    one, two = Scripted(busy, busy), Scripted()
    queue = SpanQueue(lambda: SeveralExporters([one, two]))
    made = TracerProvider(Pipeline(put=queue.put)).get_tracer("t")
    trace_of(made, "child")
    assert queue.shutdown(10)
    assert one.batches == two.batches == [["child", "GET /"]]
    assert queue.stats() == {"exported": 2, "dropped": {}, "queued": 0}
    assert one.closed
    assert two.closed


class Narrow(Scripted):
    """One that takes two spans at once, and none called "giant"."""

    most = 2
    refused = 0

    def send(self, payload: list[str], timeout: float) -> Outcome:
        if len(payload) > self.most or "giant" in payload:
            self.refused += 1
            return Outcome("status_413", too_large=True)
        return super().send(payload, timeout)


class Named:
    """A span, as far as `Scripted` looks at it."""

    def __init__(self, name: str) -> None:
        self._name = name


def test_one_that_takes_nothing_loses_no_more_than_it_must_and_is_not_flooded() -> None:
    narrow, wide = Narrow(), Scripted()
    several = SeveralExporters([narrow, wide])
    batch: list[Any] = [Named("giant" if number == 3 else str(number)) for number in range(8)]
    outcome = several.send(several.prepare(batch, None), 1)
    assert (outcome.reason, outcome.rejected) == ("", 1)
    assert sum(map(len, narrow.batches)) == 7
    assert [len(names) for names in wide.batches] == [8]
    narrow.most = narrow.refused = 0
    batch = [Named(str(number)) for number in range(2048)]
    outcome = several.send(several.prepare(batch, None), 1)
    assert (outcome.reason, outcome.rejected) == ("", 2048)
    assert narrow.refused < 40


def test_one_that_takes_less_at_once_is_given_less_and_the_others_nothing_twice() -> None:
    narrow, wide = Narrow(), Scripted()
    queue = SpanQueue(lambda: SeveralExporters([narrow, wide]))
    made = TracerProvider(Pipeline(put=queue.put)).get_tracer("t")
    names = [str(number) for number in range(7)]
    trace_of(made, *names)
    assert queue.shutdown(10)
    assert wide.batches == [[*names, "GET /"]]
    assert sorted(name for batch in narrow.batches for name in batch) == sorted(wide.batches[0])
    assert queue.stats() == {"exported": 8, "dropped": {}, "queued": 0}


@pytest.mark.contained
def test_one_that_raises_does_the_others_no_harm(spans: list[Any], tracer: Any) -> None:
    one, two = Scripted(ValueError("no"), ValueError("no")), Scripted()
    several = SeveralExporters([one, two])
    trace_of(tracer)
    for _ in range(2):
        outcome = several.send(several.prepare(spans, None), 1)
        assert outcome.reason == "error: Scripted"
    assert two.batches == [["GET /"]] * 2


def test_one_that_hangs_leaves_the_others_their_time(spans: list[Any], tracer: Any) -> None:
    hangs = Scripted(*[Outcome("timeout", retry=True)] * 3, takes=10)
    fine = Scripted()
    several = SeveralExporters([hangs, fine])
    trace_of(tracer)
    begun = time.monotonic()
    for _ in range(2):
        assert several.send(several.prepare(spans, None), 0.4).reason == "timeout"
    assert time.monotonic() - begun < 6
    assert len(fine.batches) == 2
    assert min(fine.timeouts) >= 0.15


def test_what_one_of_several_lost_an_answer_to_is_known(spans: list[Any], tracer: Any) -> None:
    lost = Scripted(Outcome("connection", retry=True, unanswered=True))
    several = SeveralExporters([lost, Scripted()])
    trace_of(tracer)
    delivery = several.prepare(spans, None)
    assert several.send(delivery, 1).unanswered
    assert several.send(delivery, 1).reason == ""


@pytest.mark.contained
def test_a_span_that_one_of_several_cannot_encode_is_not_lost_for_the_others(
    spans: list[Any], tracer: Any, tmp_path: Path
) -> None:
    trace_of(tracer)
    spans[0]._start = "yesterday"
    broken: list[Any] = []
    several = SeveralExporters([FileExporter(str(tmp_path / "a")), Scripted()])
    several.prepare(list(spans), None, broken)
    assert broken == []
    several = SeveralExporters([FileExporter(str(tmp_path / "a")), FileExporter(str(tmp_path / "b"))])
    several.prepare(list(spans), None, broken)
    assert broken == spans
