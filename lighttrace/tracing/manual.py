"""Spans by hand: `@trace`, `span`, `current_span`.

A decorated function knows its team before it is ever called: the file it stands in is looked up once, when the first
call needs it.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from opentelemetry import trace as otel_trace
from opentelemetry.context.context import Context
from opentelemetry.trace import SpanKind

from lighttrace import guard
from lighttrace.tracing import errors
from lighttrace.tracing.context import SPAN_KEY, current, detach
from lighttrace.tracing.owner import Owner, owner
from lighttrace.tracing.span import Span, UnsampledSpan
from lighttrace.tracing.stepping import in_scope
from lighttrace.tracing.tracer import Tracer

F = TypeVar("F", bound=Callable[..., Any])

INTERNAL = SpanKind.INTERNAL
_new: Callable[[Any], "SpanScope"] = object.__new__
_put = dict.__setitem__
_UNKNOWN = owner(None, "unknown")


def tracer() -> Tracer | None:
    """The tracer of spans made by hand; None while tracing is off."""
    provider = otel_trace.get_tracer_provider()
    cached = _cache.get(id(provider))
    if cached is not None and cached[0] is provider:
        return cached[1]
    made = provider.get_tracer("lighttrace")
    found = made if isinstance(made, Tracer) else None
    _cache.clear()
    _cache[id(provider)] = (provider, found)
    return found


_cache: dict[int, tuple[Any, Tracer | None]] = {}


class SpanScope:
    """What `span(...)` gives: a context manager (sync and async) and a decorator."""

    __slots__ = ("_attributes", "_code_owner", "_kind", "_name", "_owner", "_span", "_token")

    def __init__(
        self, name: str, kind: SpanKind, attributes: Mapping[str, Any] | None, team: Owner | None, code_owner: Owner | None = None
    ) -> None:
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._owner = team
        self._code_owner = code_owner

    def __enter__(self) -> Any:
        self._token = None
        mine = tracer()
        if mine is None:
            self._span = otel_trace.INVALID_SPAN
            return self._span
        given = self._attributes
        limits = mine.pipeline.limits
        plain, dropped = True, 0
        if not given:
            attributes: dict[str, Any] = {}
        elif limits.fits(given):
            attributes = dict(given)
        else:
            attributes, dropped = limits.clean(given, limits.attributes)
            plain = False
        context = current.get()
        span = mine.start(self._name, self._kind, attributes, context, self._code_owner, plain)
        if type(span) is Span:
            if self._owner is not None:
                span._owner = self._owner
            if dropped:
                span.rare().dropped_attributes += dropped
        made = Context(context)
        _put(made, SPAN_KEY, span)
        self._token = current.set(made)
        self._span = span
        return span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self._token is None:
            return
        try:
            current.reset(self._token)
        except (ValueError, RuntimeError):
            guard.count("context.detached_elsewhere")
        span = self._span
        if error is not None and not span._end:
            errors.fail(span, error)
        span.end()

    async def __aenter__(self) -> Any:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        """As a decorator: a span of its own around each call."""
        return in_scope(function, lambda: SpanScope(self._name, self._kind, self._attributes, self._owner))  # type: ignore[no-any-return]  # in_scope keeps the kind


def span(name: str, /, *, team: str | None = None, kind: SpanKind = INTERNAL, **attributes: Any) -> SpanScope:
    """A span around a block, current inside it.

    `team` gives it an owner of its own; every other keyword becomes an attribute (a dotted key goes in as `**{"a.b": 1}`).
    An exception that leaves the block is recorded and goes on.

    >>> with span("reserve stock", sku="A-1") as it:
    ...     _ = it.set_attribute("stock.left", 3)
    """
    return SpanScope(name, kind, attributes, owner(team, "span") if team is not None else None)


@overload
def trace(function: F, /) -> F: ...
@overload
def trace(
    name: str | None = None,
    /,
    *,
    team: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    kind: SpanKind = INTERNAL,
) -> Callable[[F], F]: ...
def trace(
    name: Any = None, /, *, team: str | None = None, attributes: Mapping[str, Any] | None = None, kind: SpanKind = INTERNAL
) -> Any:
    """A span around each call of a function, coroutine, generator, async generator, method, static or class method.

    Bare (`@trace`) or with a name and options (`@trace("charge", team="fraud")`). Without a name the span is called as
    the function is; without a team it belongs to whoever owns the function's file (see `docs/ownership.md`).

    >>> @trace
    ... def charge(cents: int) -> int:
    ...     return cents
    >>> charge(100)
    100
    """
    if callable(name) or isinstance(name, staticmethod | classmethod):
        return _decorate(name, None, None, None, INTERNAL)
    return functools.partial(_decorate, name=name, team=team, attributes=attributes, kind=kind)


def _decorate(function: Any, name: str | None, team: str | None, attributes: Mapping[str, Any] | None, kind: SpanKind) -> Any:
    for wrapping in (staticmethod, classmethod):
        if isinstance(function, wrapping):
            return wrapping(_decorate(function.__func__, name, team, attributes, kind))
    if isinstance(function, type):
        raise TypeError(f"@lighttrace.trace goes on functions and methods; decorate the methods of {function.__name__} instead")
    inner = inspect.unwrap(function)
    called = name or getattr(function, "__qualname__", type(function).__name__).replace("<locals>.", "")
    explicit = owner(team, "span") if team is not None else None
    known: list[tuple[Any, Owner | None]] = []

    def code_owner() -> Owner | None:
        mine = tracer()
        resolver = mine.pipeline.resolver if mine is not None else None
        if resolver is None:
            return None
        if known and known[0][0] is resolver:
            return known[0][1]
        try:
            found = resolver.team_for_function(inner)
            decided = owner(*found) if found is not None else None
        except Exception as error:
            guard.site("ownership.function").failed(error)
            decided = None
        known[:] = [(resolver, decided)]
        return decided

    def make_scope() -> SpanScope:
        return SpanScope(called, kind, attributes, explicit, code_owner() if explicit is None else None)

    return in_scope(function, make_scope)


def current_span() -> Span | UnsampledSpan | Any:
    """The span that is current here, for setting attributes on; one that ignores everything where there is none."""
    return otel_trace.get_current_span()
