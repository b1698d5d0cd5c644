"""Context across threads: what a thread or a pool is given to do runs where it was given, for the tracer.

Carried is OpenTelemetry's context (span, baggage, team scope) and nothing else of the submitter's. A pool's worker goes
back to nothing between two tasks, and the thread itself never holds the context of the task that happened to start it.
"""

import functools
import sys
from typing import Any

from opentelemetry.context.context import Context

from lighttrace.instrument.call import disguise
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import detach, read_current, set_current

_EMPTY = Context()


def run_in(context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Call `function` in `context`, and leave the thread as it was."""
    token = set_current(context)
    try:
        return function(*args, **kwargs)
    finally:
        detach(token)


class SubmitPatch(Patch):
    """`Executor.submit(self, fn, *args, **kwargs)` of an executor made of threads; `loop.run_in_executor` comes here too."""

    def wrap(self, original: Any) -> Any:
        site = self.site

        def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            if not site.enabled:
                return original(self, fn, *args, **kwargs)
            context = read_current()
            if not context:
                # Carried all the same: an earlier task may have left something attached.
                return original(self, run_in, context, fn, *args, **kwargs)
            token = set_current(_EMPTY)  # a worker that is started now is not this task's own
            try:
                return original(self, run_in, context, fn, *args, **kwargs)
            finally:
                detach(token)

        return disguise(submit, original)


class PoolPatch(Patch):
    """What gives a function to `multiprocessing.pool.Pool`, where the pool is one of threads."""

    def wrap(self, original: Any) -> Any:
        site = self.site

        def give(self: Any, *args: Any, **kwargs: Any) -> Any:
            if site.enabled and isinstance(self, sys.modules["multiprocessing.pool"].ThreadPool):
                # Carried also where there is nothing: the worker may have been started inside a span.
                if args:
                    args = (functools.partial(run_in, read_current(), args[0]), *args[1:])
                elif "func" in kwargs:
                    kwargs = {**kwargs, "func": functools.partial(run_in, read_current(), kwargs["func"])}
            return original(self, *args, **kwargs)

        return disguise(give, original)


class StartPatch(Patch):
    """`Thread.start`: the new thread's `run`, whoever defined it, begins in the context of the one that starts it."""

    def wrap(self, original: Any) -> Any:
        site = self.site

        def start(self: Any) -> Any:
            context = read_current() if site.enabled else None
            # Our own worker serves the whole process; it must not hold the request that woke it. The private name is
            # read because the property raises for a thread that was not initialised, which is for `start` to do.
            if not context or str(vars(self).get("_name", "")).startswith("lighttrace"):
                return original(self)
            before = vars(self).get("run", _ABSENT)
            _carry(self, context, before)
            try:
                return original(self)
            except BaseException:
                _restore(self, before)
                raise

        return disguise(start, original)


_ABSENT = object()


def _carry(thread: Any, context: Any, before: Any) -> None:
    """Put a `run` on this one thread object, which takes itself off before it calls the real one."""

    def run() -> None:
        _restore(thread, before)
        run_in(context, thread.run)

    thread.run = run


def _restore(thread: Any, before: Any) -> None:
    if before is _ABSENT:
        vars(thread).pop("run", None)
    else:
        thread.run = before
