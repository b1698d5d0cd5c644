"""The one place where a host's function is called through us: every kind of function, every way out of it."""

import asyncio
import contextlib
import inspect
import typing

import pytest

from lighttrace.instrument.call import FLAG_IS_FREE, around, around_block, stand_in


class Calls:
    """What was told of calls: begin, finish and fail in order."""

    def __init__(self, wanted=True):
        self.told = []
        self.wanted = wanted

    def begin(self, args, kwargs):
        self.told.append("begin")
        return "call" if self.wanted else None

    def finish(self, call, result):
        self.told.append(("finish", result))

    def fail(self, call, error):
        self.told.append(("fail", error))

    def around(self, function):
        return around(function, self.begin, self.finish, self.fail)


RESULT = object()
ERRORS = [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]


def drive(coroutine):
    """Run a coroutine that waits for nothing, without a loop's hands on its exceptions."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    finally:
        coroutine.close()
    raise AssertionError("it waits")


def make(kind, error=None):
    def plain(a, b=2, *, c: int = 3) -> object:
        """What it is for."""
        if error is not None:
            raise error
        return RESULT

    async def coroutine(a, b=2, *, c: int = 3) -> object:
        """What it is for."""
        return plain(a, b)

    def generator(a, b=2, *, c: int = 3) -> typing.Iterator[object]:
        """What it is for."""
        yield a
        yield plain(a, b)
        return "returned"

    async def asyncgen(a, b=2, *, c: int = 3) -> typing.AsyncIterator[object]:
        """What it is for."""
        yield a
        yield plain(a, b)

    return {"plain": plain, "coroutine": coroutine, "generator": generator, "asyncgen": asyncgen}[kind]


async def collect(items):
    return [item async for item in items]


def use(kind, function):
    if kind == "plain":
        return function("a")
    if kind == "coroutine":
        return drive(function("a"))
    if kind == "generator":
        return list(function("a"))
    return drive(collect(function("a")))


KINDS = ["plain", "coroutine", "generator", "asyncgen"]


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_result_is_the_same_object(kind, wanted):
    calls = Calls(wanted)
    result = use(kind, calls.around(make(kind)))
    assert result is RESULT if kind in ("plain", "coroutine") else result == ["a", RESULT]
    returned = {"plain": RESULT, "coroutine": RESULT, "generator": "returned", "asyncgen": None}[kind]
    assert calls.told == (["begin", ("finish", returned)] if wanted else ["begin"])


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("kind", KINDS)
def test_exception_is_the_same_object(kind, error, wanted):
    calls = Calls(wanted)
    raised = error("reason")
    with pytest.raises(error) as caught:
        use(kind, calls.around(make(kind, raised)))
    assert caught.value is raised
    assert raised.__context__ is None
    assert calls.told == (["begin", ("fail", raised)] if wanted else ["begin"])


@pytest.mark.parametrize("kind", KINDS)
def test_wrapper_looks_like_what_it_wraps(kind):
    original = make(kind)
    wrapper = Calls().around(original)
    for check in (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        asyncio.iscoroutinefunction,
    ):
        assert check(wrapper) == check(original)
    assert inspect.signature(wrapper) == inspect.signature(original)
    assert typing.get_type_hints(wrapper) == typing.get_type_hints(original)
    assert (wrapper.__name__, wrapper.__qualname__, wrapper.__module__, wrapper.__doc__) == (
        original.__name__, original.__qualname__, original.__module__, original.__doc__,
    )  # fmt: skip


def test_plain_function_stands_in_for_a_coroutine_function():
    original = make("coroutine")
    calls = []

    def before(*args, **kwargs):
        calls.append((args, kwargs))
        return original(*args, **kwargs)

    wrapper = stand_in(before, original)
    assert asyncio.iscoroutinefunction(wrapper)
    assert inspect.iscoroutinefunction(wrapper) == FLAG_IS_FREE
    coroutine = wrapper("a", c=4)
    assert calls == [(("a",), {"c": 4})], "it is a plain function all the same, and runs when it is called"
    assert drive(coroutine) is RESULT


def test_arguments_go_in_untouched():
    seen = []

    def function(*args, **kwargs):
        seen.append((args, kwargs))

    argument, options = [1], {"a": {}}
    Calls().around(function)(argument, **options)
    assert seen[0][0][0] is argument
    assert seen[0][1]["a"] is options["a"]


def test_generator_takes_what_is_sent_and_thrown():
    def function():
        got = yield "first"
        try:
            yield got
        except ValueError as error:
            yield error
        return "done"

    calls = Calls()
    generator = calls.around(function)()
    error = ValueError()
    assert (next(generator), generator.send("sent"), generator.throw(error)) == ("first", "sent", error)
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "done"
    assert calls.told[-1] == ("finish", "done")


@pytest.mark.parametrize("wanted", [True, False])
def test_async_generator_takes_what_is_sent_and_thrown(wanted):
    async def function():
        got = yield "first"
        try:
            yield got
        except ValueError as error:
            yield error

    async def call():
        generator = Calls(wanted).around(function)()
        error = ValueError()
        assert [await generator.__anext__(), await generator.asend("sent"), await generator.athrow(error)] == [
            "first",
            "sent",
            error,
        ]
        with pytest.raises(StopAsyncIteration):
            await generator.__anext__()

    drive(call())


@pytest.mark.parametrize("wanted", [True, False])
def test_async_generator_that_is_left_early_is_closed_at_once(wanted):
    closed = []

    async def function():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def call():
        generator = Calls(wanted).around(function)()
        assert await generator.__anext__() == 1
        await generator.aclose()
        assert closed

    drive(call())


def test_block_lasts_from_entering_to_leaving():
    calls = Calls()

    @contextlib.contextmanager
    def manager(value):
        yield value

    traced = around_block(manager, calls.begin, calls.finish, calls.fail)
    made = traced("a")
    assert calls.told == []
    with made as value:
        assert value == "a"
        assert calls.told == ["begin"]
    assert calls.told == ["begin", ("finish", None)]
    error = ValueError()
    with pytest.raises(ValueError) as caught, traced("a"):
        raise error
    assert caught.value is error
    assert calls.told[-1] == ("fail", error)


def test_block_may_swallow_and_may_fail_on_its_own():
    calls = Calls()
    traced = around_block(lambda: contextlib.suppress(ValueError), calls.begin, calls.finish, calls.fail)
    with traced():
        raise ValueError

    class Broken:
        def __enter__(self):
            raise LookupError

    with pytest.raises(LookupError), around_block(Broken, calls.begin, calls.finish, calls.fail)():
        pass  # pragma: no cover
    assert [told[0] if isinstance(told, tuple) else told for told in calls.told] == ["begin", "fail", "begin", "fail"]


def test_async_block_lasts_from_entering_to_leaving():
    calls = Calls()

    @contextlib.asynccontextmanager
    async def manager(value):
        yield value

    async def call():
        async with around_block(manager, calls.begin, calls.finish, calls.fail)("a") as value:
            assert value == "a"

    drive(call())
    assert calls.told == ["begin", ("finish", None)]
