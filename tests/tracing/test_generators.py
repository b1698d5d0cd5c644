"""Generators: a span from the first step to the last, current inside each step and at no other time."""

import asyncio
import gc
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from opentelemetry import trace as otel
from opentelemetry.trace import StatusCode

import lighttrace
from lighttrace.tracing import manual
from tests.tracing.conftest import Tracing


@pytest.fixture(autouse=True)
def nothing_current() -> Iterator[None]:
    yield
    assert not otel.get_current_span().is_recording()


@lighttrace.trace("numbers")
def numbers(count: int) -> Generator[int, Any, str]:
    for number in range(count):
        with lighttrace.span("step", number=number):
            pass
        got = yield number
        if got is not None:
            manual.current_span().set_attribute("got", got)
    return "returned"


@lighttrace.trace("anumbers")
async def anumbers(count: int) -> AsyncGenerator[int, Any]:
    for number in range(count):
        await asyncio.sleep(0)
        with lighttrace.span("step", number=number):
            await asyncio.sleep(0)
        got = yield number
        if got is not None:
            manual.current_span().set_attribute("got", got)


def check_steps(tracing: Tracing, name: str, count: int) -> None:
    whole = tracing.named(name)
    steps = [span for span in tracing.spans if span.name == "step"]
    assert len(steps) == count
    assert all(span.parent is not None and span.parent.span_id == whole.context.span_id for span in steps)


def test_a_generator_is_one_span_and_its_steps_are_below_it(tracing: Tracing) -> None:
    assert list(numbers(3)) == [0, 1, 2]
    check_steps(tracing, "numbers", 3)
    assert tracing.named("numbers").status.status_code is StatusCode.UNSET


async def test_an_async_generator_is_one_span_and_its_steps_are_below_it(tracing: Tracing) -> None:
    assert [number async for number in anumbers(3)] == [0, 1, 2]
    check_steps(tracing, "anumbers", 3)


def test_a_generator_that_is_never_started_makes_no_span(tracing: Tracing) -> None:
    numbers(3).close()
    assert not tracing.spans


def test_kinds_stay_what_they_are() -> None:
    assert inspect.isgeneratorfunction(numbers)
    assert inspect.isasyncgenfunction(anumbers)
    assert inspect.isgenerator(numbers(1))
    assert inspect.isasyncgen(anumbers(1))


def test_between_two_steps_the_callers_span_is_current(tracing: Tracing) -> None:
    with lighttrace.span("caller") as caller:
        for _ in numbers(2):
            assert otel.get_current_span() is caller
            with lighttrace.span("between"):
                pass
    whole, outer = tracing.named("numbers"), tracing.named("caller")
    assert whole.parent is not None and whole.parent.span_id == outer.context.span_id
    for span in tracing.spans:
        if span.name == "between":
            assert span.parent is not None and span.parent.span_id == outer.context.span_id


async def test_between_two_async_steps_the_callers_span_is_current(tracing: Tracing) -> None:
    with lighttrace.span("caller") as caller:
        async for _ in anumbers(2):
            assert otel.get_current_span() is caller
    check_steps(tracing, "anumbers", 2)


def test_a_generator_resumed_from_elsewhere_keeps_its_own_span(tracing: Tracing) -> None:
    with lighttrace.span("first"):
        steps = numbers(2)
        next(steps)
    with lighttrace.span("second") as second:
        assert list(steps) == [1]
        assert otel.get_current_span() is second
    whole = tracing.named("numbers")
    assert whole.parent is not None and whole.parent.span_id == tracing.named("first").context.span_id
    check_steps(tracing, "numbers", 2)


def test_interleaved_generators_do_not_mix(tracing: Tracing) -> None:
    one, two = numbers(3), numbers(3)
    assert [*zip(one, two, strict=True)] == [(0, 0), (1, 1), (2, 2)]
    wholes = [span.context.span_id for span in tracing.spans if span.name == "numbers"]
    parents = [span.parent.span_id for span in tracing.spans if span.name == "step" and span.parent]
    assert sorted(parents) == sorted(wholes * 3)


def test_values_sent_and_returned_go_through(tracing: Tracing) -> None:
    steps = numbers(2)
    assert next(steps) == 0
    assert steps.send("hello") == 1
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == "returned"
    assert tracing.named("numbers").attributes["got"] == "hello"


async def test_values_sent_to_an_async_generator_go_through(tracing: Tracing) -> None:
    steps = anumbers(2)
    assert await steps.__anext__() == 0
    assert await steps.asend("hello") == 1
    with pytest.raises(StopAsyncIteration):
        await steps.__anext__()
    assert tracing.named("anumbers").attributes["got"] == "hello"


@lighttrace.trace("stubborn")
def stubborn() -> Generator[str, None, str]:
    while True:
        try:
            yield "item"
        except KeyError as error:
            yield f"handled {error.args[0]}"
        except IndexError:
            return "gave in"


@lighttrace.trace("astubborn")
async def astubborn() -> AsyncGenerator[str, None]:
    while True:
        try:
            yield "item"
        except KeyError as error:
            yield f"handled {error.args[0]}"
        except IndexError:
            return


def test_exceptions_thrown_in_are_the_generators_to_handle(tracing: Tracing) -> None:
    steps = stubborn()
    next(steps)
    assert steps.throw(KeyError("k")) == "handled k"
    assert next(steps) == "item"
    with pytest.raises(StopIteration) as stop:
        steps.throw(IndexError())
    assert stop.value.value == "gave in"
    assert tracing.take().status.status_code is StatusCode.UNSET


async def test_exceptions_thrown_into_an_async_generator_are_its_to_handle(tracing: Tracing) -> None:
    steps = astubborn()
    await steps.__anext__()
    assert await steps.athrow(KeyError("k")) == "handled k"
    assert await steps.__anext__() == "item"
    with pytest.raises(StopAsyncIteration):
        await steps.athrow(IndexError())
    assert tracing.take().status.status_code is StatusCode.UNSET


def test_an_exception_not_handled_is_recorded_once(tracing: Tracing) -> None:
    steps = numbers(2)
    next(steps)
    error = ValueError("thrown in")
    with pytest.raises(ValueError) as caught:
        steps.throw(error)
    assert caught.value is error
    span = tracing.named("numbers")
    assert (span.status.status_code, len(span.events)) == (StatusCode.ERROR, 1)
    with pytest.raises(StopIteration):
        next(steps)


async def test_an_exception_in_an_async_generator_is_recorded_once(tracing: Tracing) -> None:
    steps = anumbers(2)
    await steps.__anext__()
    with pytest.raises(ValueError):
        await steps.athrow(ValueError("thrown in"))
    span = tracing.named("anumbers")
    assert (span.status.status_code, len(span.events)) == (StatusCode.ERROR, 1)


def test_leaving_a_loop_early_ends_the_span_without_error(tracing: Tracing) -> None:
    steps = numbers(3)
    for _ in steps:
        break
    assert not [span for span in tracing.spans if span.name == "numbers"]
    steps.close()
    assert tracing.named("numbers").status.status_code is StatusCode.UNSET


def test_cleaning_up_happens_inside_the_span(tracing: Tracing) -> None:
    @lighttrace.trace("whole")
    def cleaning() -> Iterator[int]:
        try:
            yield 1
        finally:
            with lighttrace.span("cleanup"):
                pass

    steps = cleaning()
    next(steps)
    steps.close()  # type: ignore[attr-defined]  # a generator
    cleanup = tracing.named("cleanup")
    assert cleanup.parent is not None and cleanup.parent.span_id == tracing.named("whole").context.span_id


def test_a_generator_collected_as_garbage_ends_its_span(tracing: Tracing) -> None:
    steps: Any = numbers(3)
    next(steps)
    del steps
    gc.collect()
    assert tracing.named("numbers").end_time


async def test_an_async_generator_collected_as_garbage_ends_its_span(tracing: Tracing) -> None:
    steps: Any = anumbers(3)
    await steps.__anext__()
    del steps
    gc.collect()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not [span for span in tracing.spans if span.name == "anumbers"]:
        await asyncio.sleep(0)  # the event loop closes it in a task of its own
    assert tracing.named("anumbers").status.status_code is StatusCode.UNSET


async def test_an_async_generator_closed_from_another_task_ends_its_span(tracing: Tracing) -> None:
    async def begin() -> tuple[AsyncGenerator[int, Any], int]:
        with lighttrace.span("beginner"):
            steps = anumbers(3)
            return steps, await steps.__anext__()

    steps, first = await asyncio.create_task(begin())
    assert first == 0

    async def go_on() -> None:
        with lighttrace.span("other") as other:
            assert await steps.__anext__() == 1
            assert otel.get_current_span() is other
            await steps.aclose()
            assert otel.get_current_span() is other

    await asyncio.create_task(go_on())
    whole = tracing.named("anumbers")
    assert whole.parent is not None and whole.parent.span_id == tracing.named("beginner").context.span_id
    assert whole.status.status_code is StatusCode.UNSET
    check_steps(tracing, "anumbers", 2)


async def test_cancelling_the_consumer_is_no_error(tracing: Tracing) -> None:
    waiting = asyncio.Event()

    @lighttrace.trace("endless")
    async def endless() -> AsyncIterator[int]:
        yield 1
        waiting.set()
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _ in endless():
            pass

    task = asyncio.create_task(consume())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tracing.take().status.status_code is StatusCode.UNSET


def test_a_generator_that_refuses_to_close_says_so_as_before(tracing: Tracing) -> None:
    @lighttrace.trace("refusing")
    def refusing() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    steps: Any = refusing()
    next(steps)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        steps.close()
    assert tracing.take().end_time


def test_a_team_set_in_a_generator_does_not_leak(tracing: Tracing) -> None:
    @lighttrace.trace("outer")
    def scoped() -> Iterator[int]:
        with lighttrace.team("fraud"):
            yield 1
            with lighttrace.span("inside"):
                pass
            yield 2

    for _ in scoped():
        with lighttrace.span("caller"):
            pass
    assert tracing.named("inside").team == "fraud"
    assert [span.team for span in tracing.spans if span.name == "caller"] == [None, None]


def test_yield_from_a_traced_generator_delegates(tracing: Tracing) -> None:
    def outer() -> Generator[int, Any, str]:
        return (yield from numbers(2))

    steps = outer()
    next(steps)
    steps.send("through")
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == "returned"
    assert tracing.named("numbers").attributes["got"] == "through"
