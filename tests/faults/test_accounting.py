"""At every moment, spans ended = exported + dropped (by reason) + still queued; and what a backend has, the books know."""

import random
import threading
import time
from typing import Any

import pytest
from opentelemetry import trace

from lighttrace import config, export
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider
from tests.faults.backend import GARBAGE, LOST, OK, RESET, Answer, Backend, partial, slow, status
from tests.faults.conftest import Record

MOODS: tuple[Answer, ...] = (
    OK, OK, OK, RESET, LOST, GARBAGE, status(503), status(503, retry_after=1), status(429, retry_after=1), status(400),
    status(502), partial(3), slow(0.2),
)  # fmt: skip


class Load:
    """Threads that end spans until they are stopped, and note the id of each."""

    def __init__(self, queue: Any, threads: int = 4, pause: float = 0.004) -> None:
        self.queue = queue
        self._pause = pause
        self._over = threading.Event()
        self._tracer = TracerProvider(Pipeline({"service.name": "s"}, put=queue.put)).get_tracer("t")
        self.ended: list[list[str]] = [[] for _ in range(threads)]
        self._threads = [threading.Thread(target=self._work, args=(ids,)) for ids in self.ended]
        for thread in self._threads:
            thread.start()

    def _work(self, ids: list[str]) -> None:
        chance = random.Random(id(ids))
        while not self._over.wait(self._pause):
            with self._tracer.start_as_current_span("request", kind=trace.SpanKind.SERVER) as root:
                for _ in range(chance.randrange(6)):
                    span = self._tracer.start_span("call", kind=trace.SpanKind.CLIENT)
                    if not chance.randrange(10):
                        span.set_status(trace.StatusCode.ERROR)
                    ids.append(f"{span.get_span_context().span_id:016x}")
                    span.end()
                ids.append(f"{root.get_span_context().span_id:016x}")

    def balances(self) -> bool:
        """Whether the books lie between what had ended before they were read and what has been begun since."""
        before = sum(map(len, self.ended)) - len(self.ended)  # each notes one before it ends it
        stats = self.queue.stats()
        after = sum(map(len, self.ended))
        return bool(before <= stats["exported"] + sum(stats["dropped"].values()) + stats["queued"] <= after)

    def stop(self) -> set[str]:
        self._over.set()
        for thread in self._threads:
            thread.join()
        ids = {span_id for part in self.ended for span_id in part}
        assert len(ids) == sum(map(len, self.ended))
        return ids


def torment(backend: Backend, load: Load, seconds: float, seed: int) -> int:
    """Kill and revive the backend, and change its mood, at random; how often it was killed."""
    chance = random.Random(seed)
    until = time.monotonic() + seconds
    kills = 0
    while time.monotonic() < until:
        assert load.balances()
        if chance.random() < 0.3:
            backend.down()
            kills += 1
        else:
            backend.up()
            backend.answer = chance.choice(MOODS)
        pause = time.monotonic() + chance.uniform(0.02, 0.3)
        backend.wait_for(lambda: time.monotonic() >= pause, 1)
    backend.up()
    backend.answer = OK
    return kills


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_the_books_balance_to_the_span_while_the_backend_is_killed_and_revived(
    seconds: float, backend: Backend, record: Record
) -> None:
    # A small queue, so that spans are shed as well, and a short deadline, so that batches are given up.
    queue = export.build(
        config.load(
            environ={}, endpoint=backend.endpoint, queue_size=1000, batch_size=100, schedule_delay=0.05, export_timeout=1.5,
            timeout=0.5,
        )
    )  # fmt: skip
    load = Load(queue)
    kills = torment(backend, load, seconds, seed=7)
    ended = load.stop()
    assert queue.shutdown(20)
    stats = queue.stats()
    dropped = sum(stats["dropped"].values())
    assert stats["queued"] == 0
    assert stats["exported"] + dropped == len(ended)
    # The other side: everything exported has arrived, nothing arrived that had not ended; what arrived more than once, or
    # although it was dropped, is no more than the books say was sent again or given up without an answer.
    arrived = backend.arrived
    assert set(arrived) <= ended
    assert 0 <= len(arrived) - stats["exported"] <= queue.doubtful
    assert sum(arrived.values()) - len(arrived) <= queue.repeated
    assert kills
    if seconds > 30:
        assert {"queue_full", "status_400", "rejected"} <= set(stats["dropped"])
        assert queue.repeated
        assert queue.doubtful
        record(
            8,
            f"a minute of load while the backend is killed {kills} times and misbehaves in {len(MOODS) - 3} ways",
            f"{len(ended)} spans ended = {stats['exported']} exported + {dropped} dropped, with a reason each; "
            f"{sum(arrived.values()) - len(arrived)} arrived twice, {queue.repeated} counted as sent again after a lost answer",
            "",
        )


def test_nothing_is_sent_twice_unless_an_answer_was_lost(backend: Backend) -> None:
    queue = export.build(config.load(environ={}, endpoint=backend.endpoint, schedule_delay=0.02, queue_size=50_000))
    load = Load(queue, threads=2)
    chance = random.Random(3)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        backend.answer = chance.choice((OK, slow(0.05), status(503, retry_after=0.1), status(429, retry_after=0.1)))
        pause = time.monotonic() + 0.05
        backend.wait_for(lambda: time.monotonic() >= pause, 1)
    backend.answer = OK
    ended = load.stop()
    assert queue.shutdown(20)
    assert queue.repeated == queue.doubtful == 0
    assert set(backend.arrived.values()) == {1}
    assert len(backend.arrived) == queue.exported == len(ended)


def test_an_answer_that_was_lost_is_counted_where_the_spans_arrived_twice(backend: Backend) -> None:
    queue = export.build(config.load(environ={}, endpoint=backend.endpoint, schedule_delay=30))
    tracer = TracerProvider(Pipeline({"service.name": "s"}, put=queue.put)).get_tracer("t")
    backend.script(OK, LOST, OK)
    tracer.start_span("before").end()
    assert queue.flush(5)
    for _ in range(4):
        tracer.start_span("s").end()
    assert queue.flush(5)
    assert sorted(backend.arrived.values()) == [1, 2, 2, 2, 2]
    assert queue.repeated == 4
    assert queue.shutdown(5)
    assert queue.stats() == {"exported": 5, "dropped": {}, "queued": 0}
