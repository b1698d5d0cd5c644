"""Objects of spans that were sent are used again, and never one that somebody still holds."""

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from lighttrace.export.exporter import Exporter, Outcome
from lighttrace.export.queue import SpanQueue
from lighttrace.tracing import spare
from lighttrace.tracing.span import Span
from tests.tracing.conftest import Tracing

pytestmark = pytest.mark.skipif(not spare._alone, reason="references cannot be counted in this Python")


class Taking(Exporter):
    """Takes everything, and notes names, which hold no span."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.kept: list[Any] = []
        self.keep = ""

    def prepare(self, batch: Any, extra: Any, broken: Any = None) -> Any:
        self.names += [span._name for span in batch]
        if self.keep == "spans":
            self.kept += batch
        elif self.keep == "the list":
            self.kept = batch
            return batch
        return b"x" * len(batch)

    def send(self, payload: Any, timeout: float) -> Outcome:
        return Outcome("")

    def close(self) -> None:
        """There is nothing to close."""


class Place:
    """A tracer, its queue and what it sends to, with an empty pool."""

    def __init__(self) -> None:
        self.exporter = Taking()
        self.queue = SpanQueue(lambda: self.exporter, delay=60)
        self.tracing = Tracing()
        self.tracing.pipeline.put = self.queue.put

    def send(self, count: int = 1, name: str = "a") -> None:
        for _ in range(count):
            with self.tracing.tracer.start_as_current_span(name, attributes={"secret": "s"}):
                pass
        assert self.queue.flush(30)


@pytest.fixture
def place() -> Iterator[Place]:
    before = spare.spare.copy()
    spare.spare.clear()
    made = Place()
    yield made
    made.queue.shutdown(30)
    spare.spare[:] = before


def settle(place: Place) -> None:
    """Wait until the worker is done: it gives spans up for reuse after it has told a flush that they went."""
    place.queue.shutdown(30)


def test_what_was_sent_is_used_again(place: Place) -> None:
    place.send(10)
    settle(place)
    assert len(spare.spare) == 10
    known = set(map(id, spare.spare))
    spans = [place.tracing.tracer.start_span("b", attributes={"k": number}) for number in range(10)]
    assert {id(span) for span in spans} == known
    assert not spare.spare
    for number, span in enumerate(spans):
        assert (span.name, dict(span.attributes or {})) == ("b", {"k": number})
        assert span.is_recording() and span.parent is None and not span.events and not span.links
        assert span.status.is_unset


def test_what_it_said_does_not_outlive_it(place: Place) -> None:
    with pytest.raises(ValueError), place.tracing.tracer.start_as_current_span("a") as span:
        span.add_event("told")
        span._path, span._query, span._call = "/secret", "a=secret", object()  # type: ignore[attr-defined]  # as of a request
        raise ValueError("secret")
    del span
    place.send()
    settle(place)
    assert len(spare.spare) == 2
    for unused in spare.spare:
        slots = "_own", "_shared", "_owner", "_rare", "_local", "_tracer", "_name", "_path", "_query", "_call"
        assert {slot: getattr(unused, slot) for slot in slots} == dict.fromkeys(slots)


def test_one_that_the_program_holds_is_left_alone(place: Place) -> None:
    with place.tracing.tracer.start_as_current_span("held") as held:
        pass
    context = held.get_span_context()
    place.send(3)
    settle(place)
    assert len(spare.spare) == 3
    assert all(unused is not held for unused in spare.spare)
    assert (held.name, held.get_span_context()) == ("held", context)


def test_one_that_a_weak_reference_leads_to_is_left_alone(place: Place) -> None:
    with place.tracing.tracer.start_as_current_span("watched") as span:
        watched = weakref.ref(span)
    del span
    place.send(3)
    settle(place)
    assert len(spare.spare) == 3
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("keep", ["spans", "the list"])
def test_those_that_an_exporter_keeps_are_left_alone(place: Place, keep: str) -> None:
    place.exporter.keep = keep
    place.send(5)
    settle(place)
    assert not spare.spare
    assert [span._name for span in place.exporter.kept] == ["a"] * 5


def test_a_child_that_is_open_keeps_nothing_of_its_parent_from_going(place: Place) -> None:
    with place.tracing.tracer.start_as_current_span("parent") as parent:
        child = place.tracing.tracer.start_span("child")
        trace_id, parent_id = parent.get_span_context().trace_id, parent.get_span_context().span_id
    del parent
    place.send(3)
    settle(place)
    for _ in range(10):
        place.tracing.tracer.start_span("other")
    assert child.get_span_context().trace_id == trace_id
    assert child.parent is not None and child.parent.span_id == parent_id


def test_no_more_are_kept_than_may_be(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "_MOST", 4)
    place.send(10)
    settle(place)
    assert len(spare.spare) == 4


def test_nothing_is_kept_where_references_cannot_be_counted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "_alone", 0)
    place.send(10)
    settle(place)
    assert not spare.spare


def test_a_count_that_tells_nothing_is_not_relied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spare._fewest() == spare._alone > 0
    monkeypatch.setattr(spare, "_count", lambda span: 3)
    assert spare._fewest() == 0
    monkeypatch.setattr(spare, "_count", None)
    assert spare._fewest() == 0


def test_threads_never_share_one(place: Place) -> None:
    """More are started than there are unused ones, from many threads at once."""
    failed: list[Any] = []
    rounds, width = 60, 8

    def work(number: int) -> None:
        for turn in range(rounds * 10):
            mine = [place.tracing.tracer.start_span(f"{number}.{turn}.{index}") for index in range(5)]
            if len(set(map(id, mine))) != 5 or [span.name for span in mine] != [f"{number}.{turn}.{index}" for index in range(5)]:
                failed.append(mine)
            for span in mine:
                span.end()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(width)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        place.queue.flush(30)
    for thread in threads:
        thread.join()
    assert not failed
    assert place.queue.flush(30)
    sent, dropped = place.exporter.names, sum(place.queue.dropped.values())
    assert len(sent) == len(set(sent)) == width * rounds * 10 * 5 - dropped


def test_an_unused_one_is_not_taken_for_an_open_span(place: Place) -> None:
    place.send(3)
    settle(place)
    assert not [span for span in spare.spare if type(span) is not Span or hasattr(span, "_open") or not span._end]
