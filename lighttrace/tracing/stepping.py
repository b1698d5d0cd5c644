"""Decorators over every kind of function: plain, coroutine, generator, async generator, static and class method.

A generator runs in its caller's context and is resumed from anywhere, so its span is attached around each step and
taken off before each yield: between two steps, the current span is the caller's own, whoever that is.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from lighttrace import guard
from lighttrace.tracing.context import detach, read_current, set_current


def in_scope(function: Any, make_scope: Callable[[], Any]) -> Any:
    """`function` such that each call runs inside a fresh `make_scope()` (a context manager whose entry is cheap)."""
    for kind in (staticmethod, classmethod):
        if isinstance(function, kind):
            return kind(in_scope(function.__func__, make_scope))
    if inspect.isasyncgenfunction(function):
        return _async_generator(function, make_scope)
    if inspect.isgeneratorfunction(function):
        return _generator(function, make_scope)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with make_scope():
                return await function(*args, **kwargs)

        return coroutine

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        with make_scope():
            return function(*args, **kwargs)

    return plain


class _Steps:
    """A scope that is entered once and attached around each step of a generator."""

    def __init__(self, scope: Any) -> None:
        outside = read_current()
        self.scope = scope
        self.value = scope.__enter__()
        self.inside = read_current()
        set_current(outside)

    def attach(self) -> Any:
        return set_current(self.inside)

    def detach(self, token: Any) -> None:
        # What the generator's body attached stays with it; the caller gets back what was there.
        self.inside = read_current()
        detach(token)

    def finish(self, error: BaseException | None) -> None:
        token = set_current(self.inside)
        try:
            self.scope.__exit__(type(error) if error is not None else None, error, None)
        except Exception as ours:  # the token belongs to the step that started the generator
            guard.site("tracing.stepping").failed(ours)
        finally:
            detach(token)


def _generator(function: Any, make_scope: Callable[[], Any]) -> Any:
    @functools.wraps(function)
    def generator(*args: Any, **kwargs: Any) -> Any:
        steps = _Steps(make_scope())
        failure: BaseException | None = None
        try:
            inner = function(*args, **kwargs)
            send: Callable[[], Any] = lambda: next(inner)  # noqa: E731  # replaced at every step
            while True:
                token = steps.attach()
                try:
                    item = send()
                except StopIteration as stop:
                    return stop.value
                finally:
                    steps.detach(token)
                try:
                    sent = yield item
                    send = functools.partial(inner.send, sent)
                except GeneratorExit:
                    token = steps.attach()
                    try:
                        inner.close()
                    finally:
                        steps.detach(token)
                    raise
                except BaseException as thrown:
                    send = functools.partial(inner.throw, thrown)
        except BaseException as error:
            failure = error
            raise
        finally:
            steps.finish(failure)
            failure = None

    return generator


def _async_generator(function: Any, make_scope: Callable[[], Any]) -> Any:
    @functools.wraps(function)
    async def generator(*args: Any, **kwargs: Any) -> Any:
        steps = _Steps(make_scope())
        failure: BaseException | None = None
        try:
            inner = function(*args, **kwargs)
            send: Callable[[], Any] = inner.__anext__
            while True:
                token = steps.attach()
                try:
                    item = await send()
                except StopAsyncIteration:
                    return
                finally:
                    steps.detach(token)
                try:
                    sent = yield item
                    send = functools.partial(inner.asend, sent)
                except GeneratorExit:
                    token = steps.attach()
                    try:
                        await inner.aclose()
                    finally:
                        steps.detach(token)
                    raise
                except BaseException as thrown:
                    send = functools.partial(inner.athrow, thrown)
        except BaseException as error:
            failure = error
            raise
        finally:
            steps.finish(failure)
            failure = None

    return generator
