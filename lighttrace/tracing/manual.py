"""Spans by hand: `@trace`, `span`, `current_span`.

A decorated function knows its team before it is ever called: the file it stands in is looked up once, when the first
call needs it.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from opentelemetry import trace as otel_trace
from opentelemetry.context.context import Context
from opentelemetry.trace import SpanKind

from lighttrace import guard
from lighttrace.tracing.context import SPAN_KEY, is_alone, read_current, set_current
from lighttrace.tracing.owner import Owner, owner
from lighttrace.tracing.scope import SpanScope
from lighttrace.tracing.shared import MIXED, NOTHING
from lighttrace.tracing.span import Span, UnsampledSpan
from lighttrace.tracing.stepping import in_scope
from lighttrace.tracing.tracer import Tracer

F = TypeVar("F", bound=Callable[..., Any])

INTERNAL = SpanKind.INTERNAL
_put = dict.__setitem__


def use(provider: Any) -> None:
    """Make the spans of this module with `provider`, whatever the global one is; None: with the global one, if it is ours."""
    global _ours
    _ours = provider.get_tracer("lighttrace") if provider is not None else None
    _cache.clear()


def tracer() -> Tracer | None:
    """The tracer of spans made by hand; None while tracing is off."""
    if _ours is not None:
        return _ours
    provider = otel_trace.get_tracer_provider()
    cached = _cache.get(id(provider))
    if cached is not None and cached[0] is provider:
        return cached[1]
    made = provider.get_tracer("lighttrace")
    found = made if isinstance(made, Tracer) else None
    _cache.clear()
    _cache[id(provider)] = (provider, found)
    return found


_ours: Tracer | None = None
_cache: dict[int, tuple[Any, Tracer | None]] = {}


class ManualScope(SpanScope):
    """What `span(...)` gives. It looks for the tracer on entry, so that it may be made before `lighttrace.init()`."""

    __slots__ = ("_owner",)

    _owner: Owner | None  # whose the span is, whatever the rules say

    def __enter__(self) -> Span:
        found = tracer()
        if found is None:
            self._token = None
            return otel_trace.INVALID_SPAN  # type: ignore[return-value]  # takes the same calls
        self._tracer = found
        entered: Span = SpanScope.__enter__(self)
        if self._owner is not None and type(entered) is Span:
            entered._owner = self._owner
        return entered

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self._token is not None:
            SpanScope.__exit__(self, kind, error, trace)

    async def __aenter__(self) -> Span:
        return self.__enter__()

    def again(self) -> "ManualScope":
        return _make(self._name, self._kind, self._attributes, self._owner)


class CodeScope(ManualScope):
    """What `@trace` puts around a call: the span belongs to whoever owns the function's file, unless something says more."""

    __slots__ = ("_code_owner",)

    _code_owner: Owner | None

    def __enter__(self) -> Span:
        found = tracer()
        if found is None:
            self._token = None
            return otel_trace.INVALID_SPAN  # type: ignore[return-value]  # takes the same calls
        context = read_current()
        given, limits = self._attributes, found.pipeline.limits
        attributes, dropped = limits.clean(given, limits.attributes) if given else ({}, 0)
        span = found.start(self._name, self._kind, attributes, context, self._code_owner, MIXED if given else NOTHING)
        if dropped and type(span) is Span:
            span.rare().dropped_attributes += dropped
        self._span = span
        if not context or type(context) is Span or is_alone(context):
            self._token = set_current(span)
        else:
            made = Context(context)
            _put(made, SPAN_KEY, span)
            self._token = set_current(made)
        return span  # type: ignore[return-value]  # one that is not sampled takes the same calls


def _make(
    name: str, kind: SpanKind, attributes: Mapping[str, Any] | None, explicit: Owner | None, cls: type[ManualScope] = ManualScope
) -> ManualScope:
    scope = cls()
    scope._name = name
    scope._kind = kind
    scope._attributes = attributes
    scope._owner = explicit
    scope._options = None
    return scope


def span(name: str, /, *, team: str | None = None, kind: SpanKind = INTERNAL, **attributes: Any) -> ManualScope:
    """A span around a block, current inside it.

    `team` gives it an owner of its own; every other keyword becomes an attribute (a dotted key goes in as `**{"a.b": 1}`).
    An exception that leaves the block is recorded and goes on.

    >>> with span("reserve stock", sku="A-1") as it:
    ...     _ = it.set_attribute("stock.left", 3)
    """
    return _make(name, kind, attributes, owner(team, "span") if team is not None else None)


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
    import inspect  # with the first decorator, not at start-up

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
            found = None
            if resolver.has_rules:
                found = resolver.team_for_span(called, None, getattr(inner, "__module__", None), None)
            if found is None:
                found = resolver.team_for_function(inner)
            decided = owner(*found) if found is not None else None
        except Exception as error:
            guard.site("ownership.function").failed(error)
            decided = None
        known[:] = [(resolver, decided)]
        return decided

    def make_scope() -> ManualScope:
        if explicit is not None:
            return _make(called, kind, attributes, explicit)
        scope = _make(called, kind, attributes, None, CodeScope)
        scope._code_owner = code_owner()  # type: ignore[attr-defined]  # a CodeScope, as asked for
        return scope

    return in_scope(function, make_scope)


def current_span() -> Span | UnsampledSpan | Any:
    """The span that is current here, for setting attributes on; one that ignores everything where there is none."""
    return otel_trace.get_current_span()
