"""The call lifecycle: the one place where a host's function is called through us.

A patch brings three functions of the engine, each of which contains its own failures and so never raises: `begin` looks
at the arguments and gives a call in progress, or None for "not this one"; `finish` reads the result; `fail` reads the
exception. The host gets its own arguments, and its result or exception goes on as the same object.
"""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

Begin = Callable[[tuple[Any, ...], dict[str, Any]], Any]
Finish = Callable[[Any, Any], None]
Fail = Callable[[Any, BaseException], None]


def around(original: Callable[..., Any], begin: Begin, finish: Finish, fail: Fail) -> Callable[..., Any]:
    """`original` with the three put around it; of the same kind as it is: plain, coroutine or (async) generator."""
    if inspect.isasyncgenfunction(original):
        wrapper: Callable[..., Any] = _around_async_generator(original, begin, finish, fail)
    elif inspect.isgeneratorfunction(original):
        wrapper = _around_generator(original, begin, finish, fail)
    elif inspect.iscoroutinefunction(original) or asyncio.iscoroutinefunction(original):
        wrapper = _around_coroutine(original, begin, finish, fail)
    else:
        wrapper = _around_function(original, begin, finish, fail)
    return disguise(wrapper, original)


def disguise(wrapper: Any, original: Any) -> Any:
    """Make a wrapper look like what it wraps: name, module, documentation, signature, annotations and attributes."""
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__", "__type_params__"):
        try:
            setattr(wrapper, name, getattr(original, name))
        except (AttributeError, TypeError):
            continue
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
        if call is None:
            async for item in generator:
                yield item
            return
        try:
            async for item in generator:
                yield item
        except BaseException as error:
            fail(call, error)
            await generator.aclose()
            raise
        finish(call, None)

    return wrapper
