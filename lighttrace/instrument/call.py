"""The call lifecycle: the one place where a host's function is called through us.

A patch brings three functions of the engine, each of which contains its own failures and so never raises: `begin` looks
at the arguments and gives a call in progress, or None for "not this one"; `finish` reads the result; `fail` reads the
exception. The host gets its own arguments, and its result or exception goes on as the same object.
"""

import sys
from collections.abc import Callable
from typing import Any

Begin = Callable[[tuple[Any, ...], dict[str, Any]], Any]
Finish = Callable[[Any, Any], None]
Fail = Callable[[Any, BaseException], None]


def around(original: Callable[..., Any], begin: Begin, finish: Finish, fail: Fail) -> Callable[..., Any]:
    """`original` with the three put around it; of the same kind as it is: plain, coroutine or (async) generator."""
    import inspect  # here, and asyncio (below) only where the program has it: start-up would pay 20 ms for them

    if inspect.isasyncgenfunction(original):
        wrapper: Callable[..., Any] = _around_async_generator(original, begin, finish, fail)
    elif inspect.isgeneratorfunction(original):
        wrapper = _around_generator(original, begin, finish, fail)
    elif is_coroutine(original):
        wrapper = _around_coroutine(original, begin, finish, fail)
    else:
        wrapper = _around_function(original, begin, finish, fail)
    return disguise(wrapper, original)  # type: ignore[no-any-return]  # what came in


def is_coroutine(function: Callable[..., Any]) -> bool:
    """Whether a function gives a coroutine, or says that it does."""
    import inspect

    asyncio = sys.modules.get("asyncio")
    return inspect.iscoroutinefunction(function) or (asyncio is not None and asyncio.iscoroutinefunction(function))


_SWALLOWS_KEYWORDS = 0x08  # inspect.CO_VARKEYWORDS, without importing it


def enough(adapter: Any) -> int:
    """How many positional arguments are all that an adapter with its target's signature looks at, where they are given.

    It then need not be called with the keywords that it swallows: unpacking them costs more than what it does. -1 if it has
    to be. Whoever wants one of them by its name lists it.
    """
    code = getattr(adapter, "__code__", None)
    if code is None or code.co_kwonlyargcount or not code.co_flags & _SWALLOWS_KEYWORDS:
        return -1
    return int(code.co_argcount)


def listening(original: Callable[..., Any], site: Any, hear: Callable[[Any, Any], None]) -> Callable[..., Any]:
    """`original`, a function or coroutine function, with `hear(args, kwargs)` told before each call while `site` is enabled.

    `hear` contains its own failures.
    """

    def before(*args: Any, **kwargs: Any) -> Any:
        if site.enabled:
            hear(args, kwargs)
        return original(*args, **kwargs)

    return stand_in(before, original)  # type: ignore[no-any-return]  # what came in


# Since 3.11 it is an instruction in its code by which a function gives a coroutine when it is called, and not a flag of its code;
# and since 3.12 there is a mark for it.
FLAG_IS_FREE = sys.version_info >= (3, 12 if sys.implementation.name != "cpython" else 11)
"""Whether `stand_in` convinces everybody: else those who ask `inspect` take what it gives for a plain function."""


def stand_in(function: Any, original: Any) -> Any:
    """`function`, a plain one that gives what `original` gives, in its place.

    A coroutine around a coroutine would be paid for at each of its steps. Whoever asks `asyncio`, and from 3.11 on `inspect`,
    takes it for a coroutine function all the same, if `original` is one.
    """
    import inspect

    disguise(function, original)
    if not inspect.iscoroutinefunction(original):
        return function
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    import asyncio.coroutines

    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # what `asyncio.iscoroutinefunction` reads
    if FLAG_IS_FREE:
        code = function.__code__
        function.__code__ = code.replace(co_flags=code.co_flags | inspect.CO_COROUTINE)  # what `inspect` reads
    return function


# From 3.14 on annotations are evaluated when they are asked for, and may not be for the asking yet.
_ANNOTATIONS = "__annotate__" if sys.version_info >= (3, 14) else "__annotations__"
_LOOKS = ("__module__", "__name__", "__qualname__", "__doc__", "__type_params__", _ANNOTATIONS)


def disguise(wrapper: Any, original: Any) -> Any:
    """Make a wrapper look like what it wraps: name, module, documentation, signature, annotations and attributes."""
    for name in _LOOKS:
        try:
            setattr(wrapper, name, getattr(original, name))
        except (AttributeError, TypeError):
            continue
    if not hasattr(original, _ANNOTATIONS):  # a function of C
        wrapper.__annotations__ = {}
    wrapper.__dict__.update(getattr(original, "__dict__", {}))
    wrapper.__wrapped__ = original
    return wrapper


def _around_function(original: Any, begin: Begin, finish: Finish, fail: Fail) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        if call is None:
            return original(*args, **kwargs)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            fail(call, error)
            raise
        finish(call, result)
        return result

    return wrapper


def around_named(original: Any, name: str, begin: Begin, finish: Finish, fail: Fail) -> Any:
    """`original`, a plain function, with the three put around it; its argument called `name` is among the keywords, if it is given.

    One function, because each that takes any arguments packs and unpacks them all: a connection pool's are 7,000 instructions.
    """
    import inspect

    names = list(inspect.signature(original).parameters)
    position = names.index(name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if len(args) > position:
            kwargs.update(zip(names[position:], args[position:], strict=False))
            args = args[:position]
        call = begin(args, kwargs)
        if call is None:
            return original(*args, **kwargs)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            fail(call, error)
            raise
        finish(call, result)
        return result

    return disguise(wrapper, original)


def _around_coroutine(original: Any, begin: Begin, finish: Finish, fail: Fail) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        if call is None:
            return await original(*args, **kwargs)
        try:
            result = await original(*args, **kwargs)
        except BaseException as error:
            fail(call, error)
            raise
        finish(call, result)
        return result

    return wrapper


def _around_generator(original: Any, begin: Begin, finish: Finish, fail: Fail) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        if call is None:
            return (yield from original(*args, **kwargs))
        try:
            result = yield from original(*args, **kwargs)
        except BaseException as error:
            fail(call, error)
            raise
        finish(call, result)
        return result

    return wrapper


def _around_async_generator(original: Any, begin: Begin, finish: Finish, fail: Fail) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        generator = original(*args, **kwargs)
        try:
            item = await generator.__anext__()
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as thrown:
                    item = await generator.athrow(thrown)
                else:
                    item = await generator.asend(sent)
        except StopAsyncIteration:
            if call is not None:
                finish(call, None)
        except BaseException as error:
            if call is not None:
                fail(call, error)
            raise

    return wrapper


def around_block(original: Any, begin: Begin, finish: Finish, fail: Fail) -> Any:
    """`original`, which gives a context manager, with the three put around the block that it manages."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        manager = original(*args, **kwargs)
        return Block(manager, lambda: begin(args, kwargs), finish, fail)

    return disguise(wrapper, original)


class Block:
    """A context manager, sync or async, that tells when it is entered and left."""

    def __init__(self, manager: Any, begin: Callable[[], Any], finish: Finish, fail: Fail) -> None:
        self._manager = manager
        self._begin = begin
        self._finish = finish
        self._fail = fail
        self._call: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def _tell(self, error: BaseException | None) -> None:
        call, self._call = self._call, None
        if call is not None:
            self._finish(call, None) if error is None else self._fail(call, error)

    def __enter__(self) -> Any:
        self._call = self._begin()
        try:
            return self._manager.__enter__()
        except BaseException as error:
            self._tell(error)
            raise

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> Any:
        try:
            result = self._manager.__exit__(kind, error, traceback)
        except BaseException as raised:
            self._tell(raised)
            raise
        self._tell(error)
        return result

    async def __aenter__(self) -> Any:
        self._call = self._begin()
        try:
            return await self._manager.__aenter__()
        except BaseException as error:
            self._tell(error)
            raise

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> Any:
        try:
            result = await self._manager.__aexit__(kind, error, traceback)
        except BaseException as raised:
            self._tell(raised)
            raise
        self._tell(error)
        return result
