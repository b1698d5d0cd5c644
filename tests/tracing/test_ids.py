"""Ids are unlike any other process's, whatever the program does to `random`."""

import os
import random
import threading

import pytest
from opentelemetry.trace import TraceFlags

from lighttrace.tracing import ids
from tests.tracing.conftest import Tracing


def test_ids_are_never_zero_and_of_their_size() -> None:
    for _ in range(1000):
        assert 0 < ids.new_trace_id() < 2**128
        assert 0 < ids.new_span_id() < 2**64


def test_every_bit_of_an_id_varies() -> None:
    ones = zeros = 0
    for _ in range(200):
        made = ids.new_trace_id()
        ones |= made
        zeros |= ~made
    assert ones == 2**128 - 1
    assert zeros & (2**128 - 1) == 2**128 - 1


def test_a_million_ids_are_distinct() -> None:
    assert len({ids.new_span_id() for _ in range(1_000_000)}) == 1_000_000


def test_seeding_the_programs_random_changes_nothing(tracing: Tracing) -> None:
    made = []
    for _ in range(2):
        random.seed(0)
        span = tracing.tracer.start_span("seeded")
        span.end()
        made.append((span.get_span_context().trace_id, span.get_span_context().span_id))
    assert made[0] != made[1]


def test_making_ids_leaves_the_programs_random_alone(tracing: Tracing) -> None:
    random.seed(0)
    expected = [random.random() for _ in range(3)]
    random.seed(0)
    got = []
    for _ in range(3):
        tracing.tracer.start_span("unseen").end()
        got.append(random.random())
    assert got == expected


def test_threads_make_different_ids() -> None:
    made: list[int] = []

    def work() -> None:
        made.extend([ids.new_span_id() for _ in range(10_000)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 80_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_make_ids_of_their_own() -> None:
    def child() -> bytes:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(write, b"".join(ids.new_trace_id().to_bytes(16, "big") for _ in range(10)))
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            data = pipe.read()
        os.waitpid(pid, 0)
        return data

    first, second = child(), child()
    mine = b"".join(ids.new_trace_id().to_bytes(16, "big") for _ in range(10))
    made = {data[start : start + 16] for data in (first, second, mine) for start in range(0, 160, 16)}
    assert len(made) == 30


def test_a_trace_that_begins_here_says_that_its_id_is_random(tracing: Tracing) -> None:
    span = tracing.tracer.start_span("random")
    assert span.get_span_context().trace_flags == TraceFlags.SAMPLED | 2
    span.end()


class Counter:
    """An id generator of the program's own."""

    def __init__(self) -> None:
        self.last = 0

    def generate_span_id(self) -> int:
        self.last += 1
        return self.last

    def generate_trace_id(self) -> int:
        self.last += 1
        return self.last << 64


def test_the_programs_own_generator_is_asked() -> None:
    tracing = Tracing(id_generator=Counter())
    with tracing.tracer.start_as_current_span("a"), tracing.tracer.start_as_current_span("b"):
        pass
    b, a = tracing.spans
    assert (a.context.trace_id, a.context.span_id, b.context.span_id) == (1 << 64, 2, 3)
    assert not a.context.trace_flags & 2
