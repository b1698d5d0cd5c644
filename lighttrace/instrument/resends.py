"""Which attempt a request is, where the library's call for the one before has returned by then.

What stands for the next attempt (the request that a redirect made, the state of the retries) is noted for as long as it lives.
"""

import weakref
from collections.abc import Callable
from inspect import isgeneratorfunction
from typing import Any

from opentelemetry.trace import SpanKind

from lighttrace.instrument.call import around
from lighttrace.instrument.http_span import answer, redact
from lighttrace.instrument.patching import Patch
from lighttrace.tracing import errors
from lighttrace.tracing.context import read_current, span_of
from lighttrace.tracing.span import ERROR, Span

CLIENT = SpanKind.CLIENT

noted: dict[int, tuple["weakref.ref[Any]", int]] = {}
"""By id(): what stands for an attempt, and how many there were before. Empty in most programs, and that is all they pay for it."""


def note(attempt: Any, *before: Any) -> None:
    """`attempt` stands for the one that follows those that stood for the ones `before`; of several, most counts."""
    key = id(attempt)
    noted[key] = weakref.ref(attempt, lambda _: noted.pop(key, None)), max(map(count, before), default=0) + 1


def count(attempt: Any) -> int:
    """How many attempts there were before this one, as far as was noted.

    >>> class Request: ...
    >>> first, second, third = Request(), Request(), Request()
    >>> note(second, first)
    >>> note(third, second)
    >>> count(first), count(second), count(third)
    (0, 1, 2)
    """
    found = noted.get(id(attempt))
    return 0 if found is None else found[1]


class FollowPatch(Patch):
    """The seam at which a client library makes what stands for the next attempt, and gives it back.

    `read_attempts` has the signature of the target and gives a tuple of what stood for the attempts before.
    """

    def __init__(self, target: str, read_attempts: Callable[..., tuple[Any, ...]]) -> None:
        super().__init__(target)
        self.read_attempts = read_attempts

    def wrap(self, original: Any) -> Any:
        return around(original, lambda args, kwargs: (args, kwargs), self._note, lambda call, error: None)

    def _note(self, call: tuple[tuple[Any, ...], dict[str, Any]], made: Any) -> None:
        if self.site.enabled:
            try:
                note(made, *self.read_attempts(*call[0], **call[1]))
            except Exception as error:
                self.site.failed(error)


class ResendPatch(Patch):
    """The seam at which a client library decides to send again: the attempt so far ends there, and the next is a span of its own.

    `read_outcome` has the signature of the target and gives the response or the exception of the attempt so far, or None.
    A generator is asked when it starts; a function when it returns, because one that raises has decided against it.
    """

    def __init__(
        self,
        target: str,
        read_outcome: Callable[..., Any],
        read_status: Callable[[Any], int],
        *,
        read_attempts: Callable[..., tuple[Any, ...]] | None = None,
    ) -> None:
        """With `read_attempts` it is a `FollowPatch`, too: for a library that sends again from here or in another call."""
        super().__init__(target)
        self.read_outcome = read_outcome
        self.read_status = read_status
        self.read_attempts = read_attempts

    def wrap(self, original: Any) -> Any:
        if isgeneratorfunction(original):
            return around(original, self._resend, lambda call, result: None, lambda call, error: None)
        return around(
            original,
            lambda args, kwargs: (args, kwargs),
            lambda call, result: self._resend(call[0], call[1], result),
            lambda call, error: None,
        )

    def _resend(self, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any = None) -> None:
        if not self.site.enabled:
            return
        try:
            if self.read_attempts is not None:
                note(made, *self.read_attempts(*args, **kwargs))
            span = span_of(read_current())
            if type(span) is not Span or not span._tracer.covers or span._kind is not CLIENT or span._end:
                return
            outcome = self.read_outcome(*args, **kwargs)
            if outcome is None:
                return
            if isinstance(outcome, BaseException):
                errors.fail(span, outcome, redact(outcome))
            else:
                status = self.read_status(outcome)
                answer(span, status)
                if status >= 400:
                    span._status = ERROR
            span.end()
        except Exception as error:
            self.site.failed(error)
