"""The queue: the program never waits, the books balance, and what says least goes first."""

import os
import random
import sys
import threading
import time
from typing import Any

import pytest
from opentelemetry import trace

from lighttrace.export.encoder import encode_spans
from lighttrace.export.exporter import ARRIVED, Outcome
from lighttrace.export.queue import SpanQueue
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider


class Scripted:
    """An exporter that answers what it is told to, and can be held up."""

    def __init__(self, answers: list[Outcome] | None = None) -> None:
        self.answers = answers or []
        self.batches: list[list[Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False

    def prepare(self, batch: list[Any], extra: dict[str, Any] | None, broken: list[Any] | None = None) -> list[Any]:
        return batch

    def send(self, payload: list[Any], timeout: float) -> Outcome:
        self.entered.set()
        if not self.gate.wait(timeout):
            return Outcome("timeout: held up", retry=True)
        answer = self.answers.pop(0) if self.answers else ARRIVED
        if not answer.reason:
            self.batches.append(payload)
        return answer

    def close(self) -> None:
        self.closed = True


def traced(exporter: Scripted, **options: Any) -> tuple[SpanQueue, Any]:
    queue = SpanQueue(lambda: exporter, **{"delay": 0.05, **options})
    return queue, TracerProvider(Pipeline(put=queue.put)).get_tracer("t")


def total(queue: SpanQueue) -> int:
    stats = queue.stats()
    return int(stats["exported"] + sum(stats["dropped"].values()) + stats["queued"])


def test_no_thread_before_the_first_span_has_ended() -> None:
    queue, tracer = traced(Scripted())
    span = tracer.start_span("open")
    assert queue._thread is None
    span.end()
    assert queue.flush(5)
    assert queue._thread is not None
    assert queue._thread.is_alive()
    assert queue.shutdown(5)


def test_everything_arrives_once_and_in_order() -> None:
    exporter = Scripted()
    queue, tracer = traced(exporter, batch_size=10)
    for number in range(95):
        tracer.start_span(f"{number}").end()
    assert queue.flush(5)
    assert [span.name for batch in exporter.batches for span in batch] == [f"{number}" for number in range(95)]
    assert max(len(batch) for batch in exporter.batches) <= 10
    assert queue.shutdown(5)
    assert exporter.closed
    assert queue.stats() == {"exported": 95, "dropped": {}, "queued": 0}


def test_timer_sends_what_does_not_fill_a_batch() -> None:
    exporter = Scripted()
    queue, tracer = traced(exporter, delay=0.02)
    tracer.start_span("alone").end()
    assert exporter.entered.wait(5)
    assert queue.shutdown(5)
    assert queue.exported == 1


def test_program_never_waits_and_errors_and_entries_go_last_while_the_backend_hangs() -> None:
    exporter = Scripted()
    exporter.gate.clear()
    queue, tracer = traced(exporter, size=100, batch_size=10, export_timeout=60)
    root = tracer.start_span("first root")
    for _ in range(10):
        tracer.start_span("fill the first batch").end()
    assert exporter.entered.wait(5)
    parent = trace.set_span_in_context(root)
    ended = 10
    for number in range(1000):
        span = tracer.start_span("call", parent, trace.SpanKind.CLIENT)
        if number % 20 == 0:
            span.set_status(trace.StatusCode.ERROR)
        span.end()
        ended += 1
        assert total(queue) == ended
    waiting = queue.waiting()
    assert len(waiting) <= 100
    assert sum(span._status == 2 for span in waiting) == 50
    assert queue.stats()["dropped"] == {"queue_full": ended - 10 - len(waiting)}
    begun = time.monotonic()
    assert not queue.shutdown(0.3)
    assert time.monotonic() - begun < 3
    assert total(queue) == ended
    exporter.gate.set()


def test_queue_is_bounded_in_bytes_too() -> None:
    exporter = Scripted()
    exporter.gate.clear()
    queue, tracer = traced(exporter, size=10_000, batch_size=10, most_bytes=1 << 20, export_timeout=60)
    for _ in range(10):
        tracer.start_span("fill the first batch").end()
    assert exporter.entered.wait(5)
    for _ in range(2000):
        tracer.start_span("large", attributes={"text": "x" * 10_000}).end()
    held = sum(len(span._attributes.get("text", "")) for span in queue.waiting())
    assert held < 3 << 20
    assert queue.stats()["dropped"]["queue_bytes"] > 1000
    exporter.gate.set()
    assert queue.shutdown(5)


def test_what_may_be_tried_again_is_and_what_may_not_is_dropped() -> None:
    exporter = Scripted([Outcome("status_503: busy", retry=True, retry_after=0.01), ARRIVED, Outcome("status_400: no"), ARRIVED])
    queue, tracer = traced(exporter, batch_size=1, size=10)
    tracer.start_span("one").end()
    assert queue.flush(5)
    tracer.start_span("two").end()
    assert queue.flush(5)
    tracer.start_span("three").end()
    assert queue.shutdown(5)
    assert [span.name for batch in exporter.batches for span in batch] == ["one", "three"]
    assert queue.stats() == {"exported": 2, "dropped": {"status_400": 1}, "queued": 0}


class Narrow(Scripted):
    """A backend that takes so many spans at once, and none called "giant"."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.refused = 0

    def send(self, payload: list[Any], timeout: float) -> Outcome:
        if len(payload) > self.most or any(span.name == "giant" for span in payload):
            self.refused += 1
            return Outcome("status_413: too large", too_large=True)
        return super().send(payload, timeout)


def test_a_batch_that_is_too_large_goes_in_parts_and_nothing_else_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Narrow(100)
    queue, tracer = traced(exporter, size=4096)
    for number in range(1000):
        tracer.start_span(str(number)).end()
    assert queue.flush(10)
    assert [span.name for batch in exporter.batches for span in batch] == [str(number) for number in range(1000)]
    assert exporter.refused <= 6  # it does not begin anew with each batch
    assert not caplog.messages
    tracer.start_span("giant").end()
    for number in range(1000, 1500):
        tracer.start_span(str(number)).end()
    assert queue.flush(10)
    assert sorted(int(span.name) for batch in exporter.batches for span in batch) == list(range(1500))
    assert queue.stats() == {"exported": 1500, "dropped": {"status_413": 1}, "queued": 0}
    assert max(map(len, exporter.batches[-10:])) > 1  # one large span does not make all batches small for ever
    assert queue.shutdown(5)


def test_a_backend_that_says_too_large_to_everything_is_not_flooded() -> None:
    exporter = Narrow(0)
    queue, tracer = traced(exporter, size=4096)
    for number in range(2000):
        tracer.start_span(str(number)).end()
    assert queue.shutdown(10)
    assert queue.stats() == {"exported": 0, "dropped": {"status_413": 2000}, "queued": 0}
    assert exporter.refused < 40


def test_nothing_is_shed_for_a_batch_that_goes_in_parts() -> None:
    exporter = Narrow(100)
    exporter.gate.clear()
    queue, tracer = traced(exporter, size=1000, batch_size=500, delay=60)
    exporter.most = 1000
    for number in range(500):
        tracer.start_span(str(number)).end()
    assert exporter.entered.wait(10)  # the first batch is on its way
    exporter.most = 100
    for number in range(500, 1499):  # and the queue as full as it may be
        tracer.start_span(str(number)).end()
    exporter.gate.set()
    assert queue.shutdown(10)
    assert sorted(int(span.name) for batch in exporter.batches for span in batch) == list(range(1499))
    assert queue.stats() == {"exported": 1499, "dropped": {}, "queued": 0}


class Interrupted(BaseException):
    """Nobody's to stop."""


def test_books_balance_where_an_exception_that_is_not_ours_to_stop_ends_a_batch_in_parts() -> None:
    exporter = Narrow(100)
    queue, tracer = traced(exporter, size=1000, delay=60)
    queue.wake_at = 1 << 60
    for number in range(400):
        tracer.start_span(str(number)).end()
    send = exporter.send

    def interrupted(payload: list[Any], timeout: float) -> Outcome:
        if len(exporter.batches) == 2:
            raise Interrupted
        return send(payload, timeout)

    exporter.send = interrupted  # type: ignore[method-assign]  # as a greenlet's end would come
    with pytest.raises(Interrupted):
        queue._export(queue._take())
    sent = sum(map(len, exporter.batches))
    assert len(exporter.batches) == 2
    assert queue.stats() == {"exported": sent, "dropped": {"error": 400 - sent}, "queued": 0}


class Weighed(Scripted):
    """An exporter whose payloads are bytes, so many for each span."""

    def __init__(self, each: int) -> None:
        super().__init__()
        self.each = each
        self.sizes: list[int] = []

    def prepare(self, batch: list[Any], extra: dict[str, Any] | None, broken: list[Any] | None = None) -> Any:
        self.sizes.append(len(batch))
        return bytes(len(batch) * self.each)


@pytest.mark.parametrize(
    ("options", "each", "sizes"),
    [
        ({}, 400, [512, 2048, 1440]),  # the first request tells how large spans are
        ({}, 1500, [512, 666, 666, 666, 666, 666, 158]),  # a request of a megabyte
        ({}, 10_000, [512] * 7 + [416]),
        ({"batch_size": 512}, 400, [512] * 7 + [416]),
        ({"batch_size": 100}, 400, [100] * 40),
    ],
)
def test_what_waits_goes_in_few_requests_of_a_megabyte_unless_told_otherwise(
    options: dict[str, int], each: int, sizes: list[int]
) -> None:
    exporter = Weighed(each)
    exporter.gate.clear()
    queue, tracer = traced(exporter, size=20_000, delay=60, **options)
    queue.wake_at = 1 << 60
    for number in range(4000):
        tracer.start_span(str(number)).end()
    exporter.gate.set()
    assert queue.flush(10)
    assert exporter.sizes == sizes
    assert queue.shutdown(5)


def test_rejected_spans_of_a_batch_are_counted_apart() -> None:
    queue, tracer = traced(Scripted([Outcome(rejected=2)]), batch_size=5)
    for _ in range(5):
        tracer.start_span("s").end()
    assert queue.shutdown(5)
    assert queue.stats() == {"exported": 3, "dropped": {"rejected": 2}, "queued": 0}


def test_backend_that_goes_down_and_comes_back_is_told_in_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    down = [Outcome("connection: refused", retry=True, retry_after=0.001) for _ in range(5)]
    queue, tracer = traced(Scripted([*down, ARRIVED, ARRIVED]), batch_size=1)
    tracer.start_span("one").end()
    assert queue.flush(5)
    tracer.start_span("two").end()
    assert queue.shutdown(5)
    lines = [record.message for record in caplog.records if record.name == "lighttrace"]
    assert len(lines) == 2
    assert "cannot be delivered" in lines[0]
    assert "delivered again" in lines[1]


def test_spans_after_shutdown_are_counted() -> None:
    queue, tracer = traced(Scripted())
    tracer.start_span("in time").end()
    assert queue.shutdown(5)
    tracer.start_span("late").end()
    assert queue.stats() == {"exported": 1, "dropped": {"after_shutdown": 1}, "queued": 0}


def test_books_balance_under_threads_and_a_backend_that_fails_at_random() -> None:
    chance = random.Random(7)

    class Moody(Scripted):
        def send(self, payload: list[Any], timeout: float) -> Outcome:
            if chance.random() < 0.3:
                return Outcome("status_503", retry=chance.random() < 0.7, retry_after=0.0001)
            return super().send(payload, timeout)

    exporter = Moody()
    queue, tracer = traced(exporter, size=500, batch_size=50)

    def work() -> None:
        for _ in range(2000):
            tracer.start_span("s").end()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.shutdown(10)
    stats = queue.stats()
    assert stats["queued"] == 0
    assert stats["exported"] + sum(stats["dropped"].values()) == 8000
    assert stats["exported"] == sum(len(batch) for batch in exporter.batches)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_child_sends_its_own_spans_and_none_of_its_parents() -> None:
    exporter = Scripted()
    exporter.gate.clear()
    queue, tracer = traced(exporter, delay=30)
    os.register_at_fork(after_in_child=queue.in_child)
    for _ in range(5):
        tracer.start_span("parent's").end()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            exporter.gate.set()
            exporter.batches.clear()
            tracer.start_span("child's").end()
            done = queue.shutdown(5)
            names = ",".join(span.name for batch in exporter.batches for span in batch)
            os.write(writer, f"{done} {names}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "True child's"
    exporter.gate.set()
    assert queue.shutdown(5)
    assert queue.stats() == {"exported": 5, "dropped": {}, "queued": 0}


def test_the_bound_holds_however_many_threads_end_spans_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # A thread that waited in vain for the others goes on; on a busy machine 16 of them may have to wait for long.
    monkeypatch.setattr("lighttrace.export.queue._CONTENDED_S", 20.0)
    exporter = Scripted()
    exporter.gate.clear()
    queue, tracer = traced(exporter, size=300, batch_size=50, export_timeout=60)
    threads, each = 16, 400
    most = 0

    def work(level: int) -> None:
        nonlocal most
        for _ in range(each):
            span = tracer.start_span("s", kind=trace.SpanKind.CLIENT)
            if level:
                span.set_status(trace.StatusCode.ERROR)
            span.end()
            most = max(most, queue.stats()["queued"])

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        workers = [threading.Thread(target=work, args=(number % 2,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(before)
    assert total(queue) == threads * each
    # Each thread appends before it looks, and a batch is on its way; more than that is never there.
    assert most <= 300 + threads + 50
    exporter.gate.set()
    assert queue.shutdown(10)


def test_flush_waits_for_the_spans_before_it_whatever_is_shed_meanwhile() -> None:
    exporter = Scripted()
    exporter.gate.clear()
    queue, tracer = traced(exporter, size=40, batch_size=5, export_timeout=60)
    parent = trace.set_span_in_context(tracer.start_span("root"))
    for _ in range(5):
        tracer.start_span("held up", parent).end()
    assert exporter.entered.wait(5)
    awaited = tracer.start_span("awaited", parent)
    awaited.set_status(trace.StatusCode.ERROR)
    awaited.end()
    flushed: list[bool] = []
    flushing = threading.Thread(target=lambda: flushed.append(queue.flush(20)))
    flushing.start()
    while not queue._flushes:
        pass
    for _ in range(500):  # shed a dozen times over, and more of them than were there when the flush began
        tracer.start_span("newer", parent, trace.SpanKind.CLIENT).end()
    assert queue.stats()["dropped"]["queue_full"] > 400
    flushing.join(0.1)
    assert flushing.is_alive()
    exporter.gate.set()
    flushing.join(10)
    assert flushed == [True]
    assert "awaited" in [span.name for batch in exporter.batches for span in batch]
    assert queue.shutdown(5)


def test_flush_gives_up_when_its_time_is_over() -> None:
    exporter = Scripted()
    exporter.gate.clear()
    queue, tracer = traced(exporter)
    tracer.start_span("s").end()
    begun = time.monotonic()
    assert not queue.flush(0.1)
    assert time.monotonic() - begun < 1
    exporter.gate.set()
    assert queue.flush(5)
    assert not queue._flushes
    assert queue.shutdown(5)


def test_a_backend_that_asks_for_more_time_than_a_batch_has_gets_it_and_the_batch_keeps_its_place() -> None:
    exporter = Scripted([Outcome("status_429: busy", retry=True, retry_after=0.4)])
    queue, tracer = traced(exporter, batch_size=1, size=10, export_timeout=0.2)
    begun = time.monotonic()
    tracer.start_span("early").end()
    assert exporter.entered.wait(5)
    exporter.entered.clear()
    for number in range(3):
        tracer.start_span(f"meanwhile {number}").end()
    assert not queue.flush(0.1)
    assert not exporter.entered.is_set()
    assert queue.stats() == {"exported": 0, "dropped": {}, "queued": 4}
    assert queue.flush(10)
    assert time.monotonic() - begun >= 0.4
    assert sorted(span.name for batch in exporter.batches for span in batch) == [
        "early", "meanwhile 0", "meanwhile 1", "meanwhile 2",
    ]  # fmt: skip
    assert queue.shutdown(5)


def test_a_program_that_ends_does_not_wait_for_a_backend_that_wants_to_be_left_alone() -> None:
    queue, tracer = traced(Scripted([Outcome("status_429: busy", retry=True, retry_after=60)]), batch_size=1, export_timeout=0.2)
    tracer.start_span("s").end()
    assert not queue.flush(0.1)
    begun = time.monotonic()
    assert not queue.shutdown(5)
    assert time.monotonic() - begun < 2
    assert total(queue) == 1
    assert queue.exported == 0


@pytest.mark.contained
def test_a_span_that_cannot_be_encoded_is_not_counted_as_exported() -> None:
    class Encoding(Scripted):
        def prepare(self, batch: list[Any], extra: dict[str, Any] | None, broken: list[Any] | None = None) -> list[Any]:
            encode_spans(batch, extra, broken)
            return batch

    queue, tracer = traced(Encoding(), batch_size=3, delay=30)
    for name in ("fine", "broken", "fine too"):
        span = tracer.start_span(name)
        if name == "broken":
            span._start = "yesterday"
            span._tracer.pipeline.put(span)
        else:
            span.end()
    assert queue.shutdown(5)
    assert queue.stats() == {"exported": 2, "dropped": {"unencodable": 1}, "queued": 0}


def test_spans_sent_again_after_a_lost_answer_are_counted() -> None:
    lost = Outcome("connection: reset", retry=True, retry_after=0.001, unanswered=True)
    exporter = Scripted([lost, lost, ARRIVED, Outcome("tls: broke off", unanswered=True), ARRIVED])
    queue, tracer = traced(exporter, batch_size=1)
    for _ in range(3):
        tracer.start_span("s").end()
        assert queue.flush(5)
    assert (queue.repeated, queue.doubtful) == (2, 1)
    # What comes after a lost answer does not bring it back.
    exporter.answers = [lost, Outcome("status_400: no")]
    tracer.start_span("s").end()
    assert queue.flush(5)
    assert (queue.repeated, queue.doubtful) == (3, 2)
    assert queue.stats() == {"exported": 2, "dropped": {"tls": 1, "status_400": 1}, "queued": 0}
    assert queue.shutdown(5)


def test_a_backend_that_comes_and_goes_is_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    flapping = [Outcome("status_400: no"), ARRIVED] * 20
    queue, tracer = traced(Scripted(flapping), batch_size=1)
    for _ in range(40):
        tracer.start_span("s").end()
        assert queue.flush(5)
    assert queue.shutdown(5)
    assert len([record for record in caplog.records if record.name == "lighttrace"]) == 2


def test_what_is_lost_at_the_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Scripted()
    exporter.gate.clear()
    queue, tracer = traced(exporter, batch_size=1)
    tracer.start_span("s").end()
    assert exporter.entered.wait(5)
    assert not queue.shutdown(0.2)
    (line,) = [record.message for record in caplog.records if record.name == "lighttrace"]
    assert "1 dropped: shutdown" in line
    exporter.gate.set()


def test_nothing_is_sent_in_a_pause_and_everything_after_it() -> None:
    exporter = Scripted()
    exporter.gate.clear()
    queue, tracer = traced(exporter, delay=0.01, export_timeout=60)
    tracer.start_span("being sent").end()
    assert exporter.entered.wait(5)
    tracer.start_span("waiting").end()
    before = queue._thread
    assert before is not None
    wait = queue.pause()
    exporter.gate.set()
    wait()
    before.join(5)
    assert not before.is_alive()
    tracer.start_span("put in the pause").end()
    assert queue._thread is None
    assert not queue.flush(0.05)
    assert queue.stats() == {"exported": 1, "dropped": {}, "queued": 2}
    queue.resume()
    assert queue.flush(5)
    assert [span.name for batch in exporter.batches for span in batch] == ["being sent", "waiting", "put in the pause"]
    assert queue.shutdown(5)


def test_a_worker_that_waits_to_try_again_takes_a_pause_at_once_and_keeps_its_spans() -> None:
    lost = Outcome("connection: reset", retry=True, retry_after=50.0, unanswered=True)
    exporter = Scripted([lost])
    queue, tracer = traced(exporter, delay=0.01, export_timeout=60)
    tracer.start_span("s").end()
    assert exporter.entered.wait(5)
    thread = queue._thread
    assert thread is not None
    queue.pause()
    queue.resume()  # while the worker before may still be there
    thread.join(5)
    assert not thread.is_alive()
    queue._sender.not_before = 0.0
    assert queue.flush(5)
    assert queue.stats() == {"exported": 1, "dropped": {}, "queued": 0}
    assert queue.repeated == 1
    assert queue.shutdown(5)


@pytest.mark.contained
def test_a_worker_that_breaks_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = Scripted()
    queue, tracer = traced(exporter, delay=0.01)

    def break_once() -> list[Any]:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(queue, "_take", break_once)
    tracer.start_span("before").end()
    first = queue._thread
    assert first is not None
    first.join(5)
    tracer.start_span("after").end()
    assert queue.flush(5)
    assert queue.stats() == {"exported": 2, "dropped": {}, "queued": 0}
    assert queue.shutdown(5)
