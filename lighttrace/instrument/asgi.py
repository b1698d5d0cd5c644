"""ASGI applications as servers (ASGI specification 3.0, HTTP). Websockets and lifespan pass untouched."""

from collections.abc import Awaitable, Callable
from functools import partial
from operator import itemgetter
from typing import Any

from opentelemetry.context.context import Context

from lighttrace import guard, semconv
from lighttrace.instrument import propagate, redaction
from lighttrace.instrument.call import FLAG_IS_FREE, disguise, stand_in
from lighttrace.instrument.engine import Scope, state
from lighttrace.instrument.hosts import split_authority
from lighttrace.instrument.http_server import (
    CLIENT,
    EXPLICIT,
    PREFIX,
    ROUTE,
    SCHEME,
    SERVER,
    SPAN,
    STATUS,
    Caller,
    end,
    fail,
    find_caller,
    is_failure,
    name_route,
    note_status,
    now,
    of_caller,
    read_method,
    start,
)
from lighttrace.instrument.http_span import capture
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import SPAN_KEY, detach, read_current, readers, reset_current, set_current
from lighttrace.tracing.shared import NOTHING_OWN

ADDRESS, PORT = semconv.SERVER_ADDRESS, semconv.SERVER_PORT
AGENT, VERSION = semconv.USER_AGENT_ORIGINAL, semconv.NETWORK_PROTOCOL_VERSION
# In one step, as nearly every server gives all of them; where some are left out, they are read one by one.
_USUAL = "path", "query_string", "root_path", "headers", "client", "method", "scheme", "http_version", "server"
_read_usual = itemgetter(*_USUAL)


class AsgiPatch(Patch):
    """Trace the requests of an ASGI application: the target is its `__call__`, with (self, scope, receive, send).

    A framework that makes spans of its own names in `telemetry` the key of the scope by which it makes none, and in `against` what
    would forbid that: it is asked once for each application, and gives two pairs of a namespace and a name in there, which must be
    None; or None itself, where nothing makes it stand down. Its applications have a `root_path`, which they put into the scope
    where it is not empty.
    """

    def __init__(self, target: str, telemetry: str = "", against: Callable[[Any], tuple[Any, ...] | None] | None = None) -> None:
        super().__init__(target)
        self.telemetry = telemetry
        self.against = against
        self.scope = Scope("", covers=False)

    def bind(self, integration: str) -> None:
        super().bind(integration)
        self.scope = Scope(integration, covers=False)

    def wrap(self, original: Any) -> Any:
        site, tracers, telemetry = self.site, self.scope, self.telemetry

        # Flat, because each request pays for each step into another function.
        async def wrapper(self_: Any, scope: Any, receive: Any, send: Any) -> Any:
            if SPAN in scope:  # an application inside another one has its span: the outer one's
                return await original(self_, scope, receive, send)
            span: Any = None
            try:
                if site.enabled and scope["type"] == "http":
                    if telemetry:
                        if self_.root_path:
                            scope["root_path"] = self_.root_path  # as the application will, in its first line
                        try:
                            against = self_._lighttrace_against
                        except AttributeError:
                            against = self_._lighttrace_against = self.against(self_)  # type: ignore[misc]  # where there is a key
                        if against is not None:
                            (space, name), (other, its) = against
                            if space[name] is None and other[its] is None and telemetry not in scope:
                                scope[telemetry] = None
                    tracer = tracers.tracer or tracers.find()
                    try:
                        path, query, root, fields, client, method, scheme, version, server = _read_usual(scope)
                    except KeyError:  # something is left out
                        path, query, root, fields, client, method, scheme, version, server = map(scope.get, _USUAL)
                        fields = fields or ()
                    if tracer is not None and (state.exclude is None or not state.exclude[path or "/"]):
                        headers = dict(fields)
                        address = client[0] if client else None
                        said = method, scheme, version, server, headers.get(b"host"), headers.get(b"user-agent"), address
                        try:
                            known = state.callers.get(said)
                        except TypeError:  # the specification lets the server's address be a list
                            known = None
                        if known is None:
                            known = _look_up(said)
                        path = path or "/"
                        query = redaction.queries[query] if query else None
                        context = read_current()
                        found = None
                        if propagate.watched[propagate.place] is not propagate.plain:
                            context = of_caller(*propagate.extract_with(propagate.chosen(), scope, _ScopeGetter, context))
                        elif b"traceparent" in headers or b"baggage" in headers:
                            found = _carried(scope, headers)
                        if found is None and not context and tracer.pipeline.keeps_roots:
                            name, shared, address = known
                            started: Any = tracer.start_root(name, SERVER, NOTHING_OWN, shared)
                            started._path = path
                            started._query = query
                            if address is not None:
                                started.own()[CLIENT] = address
                            token = set_current(Context({SPAN_KEY: started}) if readers else started)
                        else:
                            started, _, token = start(tracer, known, path, query, context, found)
                        span = scope[SPAN] = started
                        if root:
                            scope[PREFIX] = root.rstrip("/")
                        if state.server_request_headers:
                            capture(span, semconv.HTTP_REQUEST_HEADER, state.server_request_headers, _Headers(scope["headers"]))
            except Exception as error:
                # The span, if there is one by now, is ended and taken off the context below.
                site.failed(error)
            if span is None:
                return await original(self_, scope, receive, send)
            try:
                result = await original(self_, scope, receive, partial(_hear, span, site, send))
            except BaseException as error:
                fail(span, error)
                detach(token)
                _end(span)
                raise
            try:
                reset_current(token)
            except (ValueError, RuntimeError):
                guard.count("context.detached_elsewhere")
            if not span._end:
                _end(span)
            return result

        if telemetry or not FLAG_IS_FREE:
            return disguise(wrapper, original)

        # Most of these stand inside another one: FastAPI's `__call__` calls Starlette's.
        def passing(self_: Any, scope: Any, receive: Any, send: Any) -> Any:
            return (original if SPAN in scope else wrapper)(self_, scope, receive, send)

        return stand_in(passing, original)


class RoutePatch(Patch):
    """The `handle` of a class of routes, with (self, scope, receive, send): the framework has matched.

    `read_route` is given the route and gives its template (or None) and the handler (or None). Where the scope has the key `within`,
    `find` is given the route and the scope, and says what is to be read in the route's place: it is as `read_match` of a `MatchPatch`
    wants it.
    """

    def __init__(
        self,
        target: str,
        read_route: Callable[[Any], tuple[str | None, Any]],
        within: str = "",
        find: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        super().__init__(target)
        self.read_route = read_route
        self.within = within
        self.find = find

    def wrap(self, original: Any) -> Any:
        site, within = self.site, self.within

        def before(route: Any, scope: Any, receive: Any, send: Any) -> Any:
            try:
                span = scope.get(SPAN)
                # A seam is heard twice where a framework's class of routes calls its base class's.
                if span is not None and not span._end and span._call is not route and site.enabled:
                    span._call = route
                    found = self.find(route, scope) if within in scope and self.find is not None else route
                    number: Any = id(found) if PREFIX not in scope else (scope[PREFIX], id(found))
                    known = span._shared.routes.get(number)
                    if known is None or (span._own is not NOTHING_OWN and ROUTE in span._own):
                        name_route(span, number, found, self.read_route)
                    else:
                        span._name, owner, span._shared, _ = known
                        if owner is not None and span._owner.source not in EXPLICIT:
                            span._owner = owner
            except Exception as error:
                site.failed(error)
            return original(route, scope, receive, send)

        return stand_in(before, original)


def _hear(span: Any, site: guard.Site, send: Callable[[Any], Awaitable[Any]], message: Any) -> Awaitable[Any]:
    """What the application calls in the place of the server's `send`. Adds no coroutine: it hands on the one it was given."""
    try:
        if not span._end:  # else it is not sampled, or was ended already
            kind = message["type"]
            if kind == "http.response.start":
                status = message["status"]
                more = span._shared.further.get(status)
                if more is not None:
                    span._shared = more
                else:
                    note_status(span, status)
                if state.server_response_headers:
                    capture(span, semconv.HTTP_RESPONSE_HEADER, state.server_response_headers, _Headers(message["headers"]))
            elif kind == "http.response.body" and not message.get("more_body"):
                if span._own is not NOTHING_OWN and STATUS in span._own and is_failure(span._own[STATUS]):
                    # The exception behind a 500 comes up only after the response has gone out: wait for it.
                    span._call = now()
                else:
                    span.end()
    except Exception as error:
        site.failed(error)
    return send(message)


def _end(span: Any) -> None:
    """End the span of a request that is over: at its last byte, where it had one."""
    at = getattr(span, "_call", None)
    end(span, at if type(at) is int else None)


def _look_up(said: tuple[Any, ...]) -> Caller:
    *before, server, host, agent, address = said
    key = *before, tuple(server) if server else None, host, agent
    return find_caller((*key, address), key, address, _read_first)


def _read_first(
    method: str | None, scheme: str | None, version: str | None, server: Any, host: bytes | None, agent: bytes | None
) -> tuple[str, dict[str, Any]]:
    scheme = scheme or "http"
    name, attributes = read_method(method or "GET")
    address, port = _read_host(host, server, scheme)
    attributes.update({SCHEME: scheme, ADDRESS: address, PORT: port})
    if agent:
        attributes[AGENT] = agent.decode("latin-1")
    if version:
        attributes[VERSION] = version
    return name, attributes


def _read_host(header: bytes | None, server: Any, scheme: str) -> tuple[str, int]:
    default = 443 if scheme == "https" else 80
    if header:
        return split_authority(header.decode("latin-1"), default)
    return (server[0], server[1] or default) if server else ("", default)


def _carried(scope: dict[str, Any], headers: dict[bytes, bytes]) -> tuple[Any, Any, Any]:
    """The headers traceparent, tracestate and baggage: text, or a list of texts, or None."""
    fields = scope["headers"]
    if type(fields) is list and len(fields) == len(headers):  # none comes twice
        parent, tracestate, carried = headers.get(b"traceparent"), headers.get(b"tracestate"), headers.get(b"baggage")
        return (
            parent.decode("latin-1") if parent is not None else None,
            tracestate.decode("latin-1") if tracestate is not None else None,
            carried.decode("latin-1") if carried is not None else None,
        )
    return _only(scope, b"traceparent"), _all(scope, b"tracestate"), _all(scope, b"baggage")


def _only(scope: dict[str, Any], name: bytes) -> str | None:
    """A header that may come once: twice is none (W3C trace context, 3.2)."""
    values = _all(scope, name)
    return values[0] if len(values) == 1 else None


def _all(scope: dict[str, Any], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


class _ScopeGetter:
    """Reads headers out of an ASGI scope for OpenTelemetry's propagators."""

    @staticmethod
    def get(carrier: dict[str, Any], key: str) -> list[str] | None:
        return _all(carrier, key.lower().encode("latin-1")) or None

    @staticmethod
    def keys(carrier: dict[str, Any]) -> list[str]:
        return [key.decode("latin-1") for key, _ in carrier["headers"]]


class _Headers:
    __slots__ = ("_headers",)

    def __init__(self, headers: Any) -> None:
        self._headers = headers

    def get(self, name: str) -> list[str] | None:
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self._headers if key.lower() == wanted] or None
