"""Spans, baggage and teams go where the work goes: threads and thread pools."""

import asyncio
import concurrent.futures
import gc
import inspect
import multiprocessing.pool
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context

import lighttrace
from lighttrace.instrument.registry import Integration
from lighttrace.integrations.concurrent_futures import INTEGRATION as POOLS
from lighttrace.integrations.multiprocessing import INTEGRATION as THREAD_POOLS
from lighttrace.integrations.threading import INTEGRATION as THREADS
from lighttrace.tracing import manual
from lighttrace.tracing.context import current
from tests.tracing.conftest import Tracing

DEADLINE_S = 5


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    made = Tracing()
    manual.use(made.provider)
    THREADS.enable()
    POOLS.enable()
    THREAD_POOLS.enable()
    yield made
    THREAD_POOLS.disable()
    POOLS.disable()
    THREADS.disable()
    manual.use(None)


def work(name: str = "work") -> str:
    with lighttrace.span(name):
        return threading.current_thread().name


def run(thread: threading.Thread) -> None:
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def parent_of(tracing: Tracing, name: str) -> int | None:
    parent = tracing.named(name).parent
    return parent.span_id if parent is not None else None


def test_a_thread_works_below_the_span_that_started_it(tracing: Tracing) -> None:
    with lighttrace.team("fraud"), lighttrace.span("outer") as outer:
        run(threading.Thread(target=work))
    assert parent_of(tracing, "work") == outer.get_span_context().span_id
    assert tracing.named("work").team == "fraud"


def test_a_thread_started_under_nothing_works_under_nothing(tracing: Tracing) -> None:
    run(threading.Thread(target=work))
    assert parent_of(tracing, "work") is None


def test_subclasses_timers_and_replaced_runs_are_carried_too(tracing: Tracing) -> None:
    class Mine(threading.Thread):
        def run(self) -> None:
            work("mine")

    replaced = threading.Thread()
    replaced.run = lambda: work("replaced") and None  # type: ignore[method-assign]  # programs do
    own = replaced.run
    with lighttrace.span("outer") as outer:
        run(Mine())
        run(threading.Timer(0, work, ["timer"]))
        run(replaced)
    for name in ("mine", "timer", "replaced"):
        assert parent_of(tracing, name) == outer.get_span_context().span_id
    assert replaced.run is own


def test_baggage_is_carried_and_other_context_variables_are_not(tracing: Tracing) -> None:
    seen: list[Any] = []
    token = otel_context.attach(baggage.set_baggage("tenant", "acme"))
    run(threading.Thread(target=lambda: seen.append(baggage.get_baggage("tenant"))))
    otel_context.detach(token)
    assert seen == ["acme"]


def test_a_thread_object_is_as_before_while_it_runs(tracing: Tracing) -> None:
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append("run" in vars(thread)))
    with lighttrace.span("outer"):
        run(thread)
    assert seen == [False]
    assert "run" not in vars(thread)


def test_starting_twice_and_starting_nothing_fail_as_before(tracing: Tracing) -> None:
    class Uninitialised(threading.Thread):
        def __init__(self) -> None:
            pass

    with lighttrace.span("outer"):
        thread = threading.Thread(target=work)
        run(thread)
        with pytest.raises(RuntimeError, match="threads can only be started once"):
            thread.start()
        with pytest.raises(RuntimeError, match="not called"):
            Uninitialised().start()
    assert "run" not in vars(thread)


def test_a_thread_that_cannot_start_is_left_as_it_was(tracing: Tracing, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("can't start new thread")

    name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
    monkeypatch.setattr(threading, name, refuse)
    thread = threading.Thread(target=work)
    with lighttrace.span("outer"), pytest.raises(RuntimeError, match="can't start"):
        thread.start()
    assert "run" not in vars(thread)


def test_our_own_worker_holds_no_request(tracing: Tracing) -> None:
    seen: list[Any] = []
    with lighttrace.span("outer"):
        run(threading.Thread(target=lambda: seen.append(dict(current.get())), name="lighttrace-exporter"))
    assert seen == [{}]


def test_a_finished_thread_pins_no_span(tracing: Tracing) -> None:
    with lighttrace.span("outer") as outer:
        thread = threading.Thread(target=work)
        run(thread)
    gone = weakref.ref(outer)
    tracing.spans.clear()
    del outer
    gc.collect()
    assert gone() is None
    assert thread


# -- pools ----------------------------------------------------------------------------------------------------------


def test_a_task_works_below_the_span_that_submitted_it(tracing: Tracing) -> None:
    with ThreadPoolExecutor(1) as pool, lighttrace.team("fraud"), lighttrace.span("outer") as outer:
        name = pool.submit(work).result(DEADLINE_S)
        assert list(pool.map(work, ["mapped"]))
    assert name.startswith("ThreadPoolExecutor")
    for span in ("work", "mapped"):
        assert parent_of(tracing, span) == outer.get_span_context().span_id
        assert tracing.named(span).team == "fraud"


def test_a_reused_worker_keeps_nothing(tracing: Tracing) -> None:
    def leak() -> None:
        otel_context.attach(baggage.set_baggage("left", "behind"))

    def look() -> dict[str, Any]:
        return dict(otel_context.get_current())

    with ThreadPoolExecutor(1) as pool:
        with lighttrace.span("first"):  # starts the worker
            pool.submit(work).result(DEADLINE_S)
        assert pool.submit(look).result(DEADLINE_S) == {}
        pool.submit(leak).result(DEADLINE_S)
        assert pool.submit(look).result(DEADLINE_S) == {}
        with lighttrace.span("second") as second:
            pool.submit(work, "again").result(DEADLINE_S)
    assert parent_of(tracing, "again") == second.get_span_context().span_id


def test_an_idle_worker_pins_no_span(tracing: Tracing) -> None:
    with ThreadPoolExecutor(1) as pool:
        with lighttrace.span("outer") as outer:
            pool.submit(work).result(DEADLINE_S)
        gone = weakref.ref(outer)
        tracing.spans.clear()
        del outer
        pool.submit(int).result(DEADLINE_S)  # the worker lets go of a task when it takes the next
        gc.collect()
        assert gone() is None


def test_a_task_that_runs_after_its_request_is_a_linked_trace_of_its_own(tracing: Tracing) -> None:
    blocked = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(blocked.wait, DEADLINE_S)
        with trace.use_span(tracing.tracer.start_span("GET /", kind=trace.SpanKind.SERVER), end_on_exit=True) as request:
            later = pool.submit(work, "later")
        blocked.set()
        later.result(DEADLINE_S)
    span = tracing.named("later")
    assert span.parent is None
    assert [link.context for link in span.links] == [request.get_span_context()]


def test_concurrent_tasks_do_not_mix(tracing: Tracing) -> None:
    barrier = threading.Barrier(4)

    def meet(number: int) -> None:
        barrier.wait(DEADLINE_S)
        with lighttrace.span("task", number=number):
            barrier.wait(DEADLINE_S)

    with ThreadPoolExecutor(4) as pool:
        futures = []
        for number in range(4):
            with lighttrace.span("outer", number=number):
                futures.append(pool.submit(meet, number))
        for future in futures:
            future.result(DEADLINE_S)
    outers = {span.context.span_id: span.attributes["number"] for span in tracing.spans if span.name == "outer"}
    tasks = [span for span in tracing.spans if span.name == "task"]
    assert len(tasks) == 4
    assert all(span.parent is not None and outers[span.parent.span_id] == span.attributes["number"] for span in tasks)


def test_results_exceptions_and_arguments_go_through(tracing: Tracing) -> None:
    error = ValueError("in the pool")

    def take(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    def fail() -> None:
        raise error

    with ThreadPoolExecutor(1) as pool, lighttrace.span("outer"):
        assert pool.submit(take, 1, context=2, function=3, fn=4).result(DEADLINE_S) == (
            (1,),
            {"context": 2, "function": 3, "fn": 4},
        )
        assert pool.submit(fail).exception(DEADLINE_S) is error
        with pytest.raises(TypeError):
            pool.submit()  # type: ignore[call-arg]  # programs do


async def test_run_in_executor_and_to_thread_carry_the_context(tracing: Tracing) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool, lighttrace.span("outer") as outer:
        await loop.run_in_executor(pool, work, "executor")
        await loop.run_in_executor(None, work, "default")
        await asyncio.to_thread(work, "to_thread")
    for name in ("executor", "default", "to_thread"):
        assert parent_of(tracing, name) == outer.get_span_context().span_id


def test_a_subclass_and_a_name_bound_before_are_traced(tracing: Tracing) -> None:
    with Bound(1) as pool, lighttrace.span("outer") as outer:
        pool.submit(work).result(DEADLINE_S)
    assert parent_of(tracing, "work") == outer.get_span_context().span_id


class Bound(ThreadPoolExecutor):
    def submit(self, *args: Any, **kwargs: Any) -> Any:
        return super().submit(*args, **kwargs)


def test_a_multiprocessing_pool_of_threads_works_below_the_span_that_asked(tracing: Tracing) -> None:
    ways = {
        "apply": lambda pool: pool.apply(work, ("apply",)),
        "apply_async": lambda pool: pool.apply_async(func=work, args=("apply_async",)).get(DEADLINE_S),
        "map": lambda pool: pool.map(work, ["map"]),
        "starmap": lambda pool: pool.starmap(work, [("starmap",)]),
        "imap": lambda pool: list(pool.imap(work, ["imap"])),
        "imap_unordered": lambda pool: list(pool.imap_unordered(work, ["imap_unordered"], chunksize=2)),
    }
    with lighttrace.span("around the pool"):
        pool = multiprocessing.pool.ThreadPool(1)
    with pool:
        for name, ask in ways.items():
            with lighttrace.span(f"outer {name}") as outer:
                ask(pool)
            assert parent_of(tracing, name) == outer.get_span_context().span_id
        pool.apply(work, ("alone",))
        assert parent_of(tracing, "alone") is None
        pool.close()
        pool.join()


# -- patching -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("integration", "owner", "name"),
    [
        (THREADS, threading.Thread, "start"),
        (THREAD_POOLS, multiprocessing.pool.Pool, "_map_async"),
        (POOLS, concurrent.futures.thread.ThreadPoolExecutor, "submit"),
    ],
)
def test_undo_is_exact_and_signatures_stay(integration: Integration, owner: type, name: str) -> None:
    before = dict(vars(owner))
    signature = inspect.signature(before[name])
    integration.enable()
    integration.enable()
    assert vars(owner)[name] is not before[name]
    assert inspect.signature(vars(owner)[name]) == signature
    assert vars(owner)[name].__qualname__ == before[name].__qualname__
    integration.disable()
    assert dict(vars(owner)) == before


def test_undone_between_submit_and_run_still_runs() -> None:
    tracing = Tracing()
    manual.use(tracing.provider)
    POOLS.enable()
    blocked = threading.Event()
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(blocked.wait, DEADLINE_S)
            with lighttrace.span("outer") as outer:
                later = pool.submit(work, "later")
            POOLS.disable()
            blocked.set()
            later.result(DEADLINE_S)
    finally:
        POOLS.disable()
        manual.use(None)
    assert parent_of(tracing, "later") == outer.get_span_context().span_id
