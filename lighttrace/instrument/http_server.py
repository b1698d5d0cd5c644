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
from lighttrace.instrument.engine import Bounded, keep, state, tie
from lighttrace.instrument.patching import Patch
from lighttrace.tracing import errors
from lighttrace.tracing.context import HANDED_KEY, SPAN_KEY, is_alone, set_current, with_value
from lighttrace.tracing.owner import Owner, owner
from lighttrace.tracing.shared import NOTHING_OWN, Shared
from lighttrace.tracing.span import ERROR, Span, UnsampledSpan
from lighttrace.tracing.tracer import Tracer
from lighttrace.tracing.transaction import handed_down

SERVER = SpanKind.SERVER
SPAN = "lighttrace.span"
"""The key under which a WSGI environ or ASGI scope holds the span of its request, sampled or not."""
PREFIX = "lighttrace.prefix"
"""The key under which it holds what comes before the application's routes; not there where nothing does."""

METHOD, ROUTE, PATH, QUERY = semconv.HTTP_REQUEST_METHOD, semconv.HTTP_ROUTE, semconv.URL_PATH, semconv.URL_QUERY
SCHEME, STATUS, ERROR_TYPE = semconv.URL_SCHEME, semconv.HTTP_RESPONSE_STATUS_CODE, semconv.ERROR_TYPE
CLIENT = semconv.CLIENT_ADDRESS
OTHER = "HTTP"  # instead of a method that is not known, in a span's name
_put = dict.__setitem__


def note_status(span: Span, status: int) -> None:
    """Put the status that the application has said on its request's span, where others of its caller and route cannot give it theirs."""
    status = int(status)  # a member of `http.HTTPStatus` is one, too
    shared = span._shared
    if status < 500 and STATUS not in span._own:
        more = shared.with_more(status, {STATUS: status})
        if more is not None:
            span._shared = more
            return
    own_of(span, STATUS)[STATUS] = status


def own_of(span: Span, key: str) -> dict[str, Any]:
    """The span's own attributes, with no other value of `key` among those that it shares."""
    return span._attributes if key in span._shared.attributes else span.own()


def end(span: Any, at: int | None = None) -> None:
    """End the span of a request, if it has not ended, with the status that was said."""
    if span._end:  # or it is not sampled
        return
    own = span._own
    # Those of failures are never shared, and few others are not.
    if STATUS in own and is_failure(own[STATUS]):
        span._status = ERROR
        own.setdefault(ERROR_TYPE, str(own[STATUS]))
    span.end(at)


def is_failure(status: Any) -> bool:
    """Whether a status, which the program may have set to anything, says that the server failed."""
    return type(status) is int and status >= 500


def fail(span: Span | UnsampledSpan, error: BaseException) -> None:
    """The application raised: the server will answer 500, or hang up."""
    if type(span) is Span and not span._end:
        # The framework may have told us already, of an exception that bears no mark.
        errors.fail(span, error, record=not (span._status == ERROR and _recorded(span, error)))
        if span._status == ERROR:
            span._attributes.setdefault(STATUS, 500)


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
                carrier = read_carrier(self_)
                span = carrier.get(SPAN)
                if span is not None and not span._end and site.enabled:
                    match = read_found(self_)
                    number: Any = id(match) if PREFIX not in carrier else (carrier[PREFIX], id(match))
                    known = span._shared.routes.get(number)
                    if known is None or (span._own is not NOTHING_OWN and ROUTE in span._own):
                        name_route(span, number, match, lambda _: self.read_match(self_))
                    else:
                        span._name, owner, span._shared, _ = known
                        if owner is not None and span._owner.source not in EXPLICIT:
                            span._owner = owner
            except Exception as error:
                site.failed(error)
            return result

        return disguise(afterwards, original)


def method_of(span: Span) -> str:
    """The method of a request as it stands in the name of its span."""
    method = span._shared.attributes.get(METHOD) or span._own.get(METHOD)  # it has a dict of its own then
    return method if type(method) is str and method != "_OTHER" else OTHER


def name_route(span: Span, number: Any, found: Any, read: Callable[[Any], tuple[str | None, Any]]) -> None:
    """Put the route that a framework has found on the span, and who owns it; remember it for the caller's next request.

    `found` is what the framework knows the route and its handler by: `read` is given it and gives both. `number` is its number, or
    what comes before the application's routes and its number. Nothing is remembered that outlives it.
    """
    method, shared = method_of(span), span._shared
    matched = state.matched
    known = matched.get((method, number))
    if known is None:
        route, handler = read(found)
        if type(number) is tuple and route is not None:
            route = number[0] + route
        name = f"{method} {route}" if route is not None else None
        team = owner_of(handler, name or method, route) if handler is not None and state.resolver is not None else None
        tied = tie(found, lambda _: matched.pop((method, number), None))
        known = keep(matched, (method, number), (name, team, route, tied), 4096)
    name, team, route, _ = known
    if name is not None:
        span._name = name
        if shared.lasts and span._shared is shared and ROUTE not in span._own and state.routes.has_room():
            more = Shared({**shared.attributes, ROUTE: route})
            more.expect_more()
            state.routes.keep(shared, number, (name, team, more), found)
            span._shared = more
        else:
            own_of(span, ROUTE)[ROUTE] = route
    if team is not None and span._owner.source not in EXPLICIT:
        span._owner = team


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
            if route and SPAN in carrier:
                carrier[PREFIX] = carrier.get(PREFIX, "") + route
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
            span = carrier.get(SPAN)
            if span is not None:
                fail(span, error)
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
    return OTHER, {METHOD: "_OTHER", semconv.HTTP_REQUEST_METHOD_ORIGINAL: method[:64]}


Caller = tuple[str, Shared, str | None]
"""The name of a caller's spans before there is a route, what all of them share, and its address where that is not among it."""


def find_caller(
    key: tuple[Any, ...], said: tuple[Any, ...], address: str | None, read: Callable[..., tuple[str, dict[str, Any]]]
) -> Caller:
    """Who sends a request, remembered under `key` for the next one: what it has `said` of itself, and at which address it is.

    `read` makes the name and the attributes of `said`. Those of one address are few in most programs, which are called by other
    programs or through a proxy. Where there are many, they share what they have said.
    """
    found: Caller | None = state.callers.get(key)
    if found is not None:
        return found
    anywhere = state.anywhere
    known = anywhere.get(said)
    if known is None:
        name, attributes = read(*said)
        known = name, Shared(attributes)
        if is_short(said):
            known[1].expect_more()
            keep(anywhere, said, known, 2048)
    name, shared = known
    address = address or None
    if not shared.lasts or not is_short((address,)) or not state.callers.has_room():
        return name, shared, address
    if address is not None:
        shared = Shared({**shared.attributes, CLIENT: address})
        shared.expect_more()
    state.callers[key] = found = name, shared, None
    return found


def is_short(said: tuple[Any, ...]) -> bool:
    """Whether what a request says of its caller may be kept for the next one: anybody can send a long header, each time another."""
    return sum([len(text) for text in said if text]) <= _KEPT


_KEPT = 1024


def of_caller(context: Context, members: Mapping[str, Any] | None) -> Context:
    """`context` with what the baggage says of the caller, for every span of this request: exactly our keys, nothing else."""
    handed = handed_down(members) if members else None
    return context if handed is None else with_value(context, HANDED_KEY, handed)


def start(
    tracer: Tracer, caller: Caller, path: str, query: str | None, parent: Any, found: Any
) -> tuple[Span | UnsampledSpan, Any, Any]:
    """Start the span of a request in the context `parent`, make it current, and give it, what stands in `current` for it, and
    the token for what was there before.

    `found` are its W3C headers (see `propagate.read_caller`), or None where there are none that have not been read yet. A request
    that has nothing of all that, and is recorded for sure, is started by the protocol's own code in as few steps.
    """
    span: Span | UnsampledSpan
    name, shared, address = caller
    if found is not None:
        if not parent and tracer.pipeline.direct:
            who = propagate.read_caller(*found)
            if who is not None:
                span = tracer.start_entry(name, SERVER, NOTHING_OWN, shared, *who)
                if type(span) is Span:
                    span._path, span._query = path, query
                    if address is not None:
                        span.own()[CLIENT] = address
                return span, span, set_current(span)
        parent = of_caller(*propagate.extract(parent, *found))
    attributes: dict[str, Any] = {PATH: path}
    if query is not None:
        attributes[QUERY] = query
    if address is not None:
        attributes[CLIENT] = address
    span = tracer.start(name, SERVER, attributes, parent, None, shared)
    if not parent or is_alone(parent):
        return span, span, set_current(span)
    made = Context(parent)
    _put(made, SPAN_KEY, span)
    return span, made, set_current(made)


def now() -> int:
    """The wall clock, in nanoseconds."""
    return time_ns()
