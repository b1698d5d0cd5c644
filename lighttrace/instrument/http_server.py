"""HTTP server requests as spans: what WSGI and ASGI have in common.

A server patch stands outermost, before any middleware. The route and the handler become known later, when the framework
has matched them: a `MatchPatch` (or ASGI's `RoutePatch`) puts both on the request's span, and with the handler's file comes the
team that owns the request and all that is done for it.
"""

import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from time import time_ns
from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.trace import SpanKind

from lighttrace import guard, semconv
from lighttrace.instrument import propagate
from lighttrace.instrument.call import disguise, listening
from lighttrace.instrument.engine import Bounded, keep, state
from lighttrace.instrument.patching import Patch
from lighttrace.tracing import errors
from lighttrace.tracing.context import HANDED_KEY, SPAN_KEY, is_alone, set_current, with_value
from lighttrace.tracing.owner import Owner, owner
from lighttrace.tracing.shared import Shared
from lighttrace.tracing.span import ERROR, Span, UnsampledSpan
from lighttrace.tracing.tracer import Tracer
from lighttrace.tracing.transaction import handed_down

SERVER = SpanKind.SERVER
CALL = "lighttrace.call"
"""The key under which a WSGI environ or ASGI scope holds its `ServerCall`."""

METHOD, ROUTE, PATH, QUERY = semconv.HTTP_REQUEST_METHOD, semconv.HTTP_ROUTE, semconv.URL_PATH, semconv.URL_QUERY
SCHEME, STATUS, ERROR_TYPE = semconv.URL_SCHEME, semconv.HTTP_RESPONSE_STATUS_CODE, semconv.ERROR_TYPE
_put = dict.__setitem__


class ServerCall:
    """One request being answered. Ends once: at its last byte, or when the application gives up.

    The protocol's own code makes it; its class adds the way back of the response.
    """

    __slots__ = ("context", "method", "prefix", "site", "span", "status", "token")

    span: Span | UnsampledSpan
    context: Any  # in which the application runs, as it stands in `current`; for what a WSGI body is made of later
    method: str  # as it stands in the span's name
    site: guard.Site
    status: int  # 0 until the application has said
    prefix: str  # of the application's routes
    token: Any

    def read(self, route: str | None, handler: Any) -> tuple[str | None, Owner | None]:
        """The name of a route's spans and who owns them."""
        name = f"{self.method} {route}" if route is not None else None
        found = owner_of(handler, name or self.method, route) if handler is not None and state.resolver is not None else None
        return name, found

    def end(self, at: int | None = None) -> None:
        """End the span with the status that was sent."""
        span: Any = self.span
        if span._end:  # or it is not sampled
            return
        status = self.status
        if status:
            span._own[STATUS] = status
            if status >= 500 and span._status != ERROR:
                span._status = ERROR
                span._own.setdefault(ERROR_TYPE, str(status))
        span.end(at)

    def fail(self, error: BaseException) -> None:
        """The application raised: the server will answer 500, or hang up."""
        span = self.span
        if type(span) is Span and not span._end:
            # The framework may have told us already, of an exception that bears no mark.
            errors.fail(span, error, record=not (span._status == ERROR and _recorded(span, error)))
            if not self.status and span._status == ERROR:
                self.status = 500


def _recorded(span: Span, error: BaseException) -> bool:
    if span._rare is None or not span._rare.events:
        return False
    _, _, event, _ = span._rare.events[-1]
    same = event.get(semconv.EXCEPTION_TYPE), event.get(semconv.EXCEPTION_MESSAGE)
    return same == (errors.type_name(error), errors.message_of(error))


EXPLICIT = frozenset({"span", "scope"})
"""Sources of an owner that the program has named itself: it keeps the span."""


def owner_of(handler: Any, name: str, route: str | None) -> Owner | None:
    """Who owns a handler: an explicit rule first, then its file."""
    try:
        resolver = state.resolver
        decided = resolver.team_for_span(name, route, getattr(handler, "__module__", None), None) if resolver.has_rules else None
        if decided is None:
            decided = resolver.team_for_function(handler)
        return owner(*decided) if decided is not None else None
    except Exception as error:
        guard.site("ownership.handler").failed(error)
        return None


class MatchPatch(Patch):
    """The method, without arguments, by which a framework finds the handler.

    `carrier` and `match` say, with dots, which of its object's attributes is the environ or scope, and which one is what was
    found: an object that stands for the same route and handler as long as it lives, or None. `read_match` is given the method's
    object and gives the route's template (or None) and the handler (or None); it is asked once for all requests that find the same.
    """

    def __init__(self, target: str, carrier: str, match: str, read_match: Callable[[Any], tuple[str | None, Any]]) -> None:
        super().__init__(target)
        self.carrier = attrgetter(carrier)
        self.match = attrgetter(match)
        self.read_match = read_match

    def wrap(self, original: Any) -> Any:
        site, read_carrier, read_found = self.site, self.carrier, self.match

        # Flat, because each request pays for each step into another function.
        def afterwards(self_: Any) -> Any:
            result = original(self_)
            try:
                call = read_carrier(self_).get(CALL)
                if call is not None and site.enabled:
                    span = call.span
                    if not span._end:
                        match = read_found(self_)
                        try:
                            name, route, found, _ = state.matched[call.method, call.prefix, id(match)]
                        except KeyError:
                            name, route, found, _ = self._look_up(call, match, self_)
                        if name is not None:
                            span._name = name
                            span._own[ROUTE] = route
                        if found is not None and span._owner.source not in EXPLICIT:
                            span._owner = found
            except Exception as error:
                site.failed(error)
            return result

        return disguise(afterwards, original)

    def _look_up(self, call: ServerCall, match: Any, self_: Any) -> tuple[str | None, str | None, Owner | None, Any]:
        """The name of a route's spans, its template, and who owns them."""
        matched = state.matched
        route, handler = self.read_match(self_)
        if call.prefix and route is not None:
            route = call.prefix + route
        name, found = call.read(route, handler)
        # Another object cannot have its number while it is kept here.
        return keep(matched, (call.method, call.prefix, id(match)), (name, route, found, match), 4096)  # type: ignore[no-any-return]  # a cache of anything


class MountPatch(Patch):
    """The seam at which a framework enters a nested application: its template goes before the routes inside."""

    def __init__(self, target: str, read_route: Callable[..., tuple[Any, str | None, Any]]) -> None:
        super().__init__(target)
        self.read_route = read_route

    def wrap(self, original: Any) -> Any:
        return listening(original, self.site, self._hear)

    def _hear(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            carrier, route, _ = self.read_route(*args, **kwargs)
            call = carrier.get(CALL)
            if call is not None and route:
                call.prefix += route
        except Exception as error:
            self.site.failed(error)


class FailurePatch(Patch):
    """The seam at which a framework turns an uncaught exception into a response: `read_failure` has its signature and gives
    the environ or scope, and the exception.
    """

    def __init__(self, target: str, read_failure: Callable[..., tuple[Any, BaseException]]) -> None:
        super().__init__(target)
        self.read_failure = read_failure

    def wrap(self, original: Any) -> Any:
        return listening(original, self.site, self._hear)

    def _hear(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            carrier, error = self.read_failure(*args, **kwargs)
            call = carrier.get(CALL)
            if call is not None:
                call.fail(error)
        except Exception as ours:
            self.site.failed(ours)


class Excluded(Bounded):
    """path: whether the configuration asks for it not to be traced. Remembers what it was asked: health checks come often."""

    __slots__ = ("pattern",)

    def __init__(self, globs: tuple[str, ...]) -> None:
        super().__init__(2048)
        self.pattern = compile_globs(globs)

    def __missing__(self, path: str) -> bool:
        found = self.pattern.match(path) is not None
        if len(path) < 512:
            self[path] = found
        return found


def compile_globs(globs: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern for all globs: `*` within a segment, `**` across them.

    >>> bool(compile_globs(("/health*", "/static/**")).match("/static/a/b.css"))
    True
    """
    parts = []
    for glob in globs:
        text = re.escape(glob if glob.startswith(("/", "*")) else f"**{glob}**")
        parts.append(text.replace(r"\*\*", ".*").replace(r"\*", "[^/]*").replace(r"\?", "[^/]"))
    return re.compile(f"(?:{'|'.join(parts)})$")


def read_method(method: str) -> tuple[str, dict[str, Any]]:
    """The name that a request's span starts with, and the attributes that say its method."""
    if method in state.known_methods:
        return method, {METHOD: method}
    return "HTTP", {METHOD: "_OTHER", semconv.HTTP_REQUEST_METHOD_ORIGINAL: method[:64]}


def is_short(*said: str | bytes | None) -> bool:
    """Whether what a request says of its caller may be kept for the next one: anybody can send a long header, each time another."""
    return sum([len(text) for text in said if text]) <= _KEPT


_KEPT = 1024


def of_caller(context: Context, members: Mapping[str, Any] | None) -> Context:
    """`context` with what the baggage says of the caller, for every span of this request: exactly our keys, nothing else."""
    handed = handed_down(members) if members else None
    return context if handed is None else with_value(context, HANDED_KEY, handed)


def start(
    call: ServerCall, tracer: Tracer, name: str, attributes: dict[str, Any], parent: Any, shared: Shared, found: Any
) -> None:
    """Start the span of a request in the context `parent`, and make it current.

    `found` are its W3C headers (see `propagate.read_caller`), or None where there are none that have not been read yet. A request
    that has nothing of all that, and is recorded for sure, is started by the protocol's own code in as few steps.
    """
    span: Span | UnsampledSpan
    if found is not None:
        if not parent and tracer.pipeline.direct:
            caller = propagate.read_caller(*found)
            if caller is not None:
                call.span = call.context = span = tracer.start_entry(name, SERVER, attributes, shared, *caller)
                call.token = set_current(span)
                return
        parent = of_caller(*propagate.extract(parent, *found))
    call.span = span = tracer.start(name, SERVER, attributes, parent, None, shared)
    if not parent or is_alone(parent):
        call.context = span
        call.token = set_current(span)
    else:
        call.context = made = Context(parent)
        _put(made, SPAN_KEY, span)
        call.token = set_current(made)


def now() -> int:
    """The wall clock, in nanoseconds."""
    return time_ns()
