"""ASGI applications as servers (ASGI specification 3.0, HTTP). Websockets and lifespan pass untouched."""

from collections.abc import Awaitable, Callable
from functools import partial
from operator import itemgetter
from typing import Any

from opentelemetry.context.context import Context

from lighttrace import guard, semconv
from lighttrace.instrument import propagate, redaction
from lighttrace.instrument.call import disguise, stand_in
from lighttrace.instrument.engine import Scope, keep, state
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
    method_of,
    name_route,
    note_status,
    now,
    of_caller,
    read_handler,
    read_method,
    start,
)
from lighttrace.instrument.http_span import capture
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import SPAN_KEY, detach, read_current, readers, reset_current, set_current
from lighttrace.tracing.shared import NOTHING_OWN
from lighttrace.tracing.span import Span

ADDRESS, PORT = semconv.SERVER_ADDRESS, semconv.SERVER_PORT
AGENT, VERSION = semconv.USER_AGENT_ORIGINAL, semconv.NETWORK_PROTOCOL_VERSION
# In one step each, as nearly every server gives them; where some are left out, they are read one by one.
_CALLER = "method", "scheme", "http_version", "server"
_read_caller = itemgetter(*_CALLER)
_USUAL = "path", "client", "query_string", "root_path", "headers"
_read_usual = itemgetter(*_USUAL)


class AsgiPatch(Patch):
    """Trace the requests of an ASGI application: the target is its `__call__`, with (self, scope, receive, send)."""

    def __init__(self, target: str, prepare: Callable[[Any, dict[str, Any]], object] | None = None) -> None:
        """`prepare` is given the application and the scope before anything is read from it."""
        super().__init__(target)
        self.prepare = prepare
        self.scope = Scope("", covers=False)

    def bind(self, integration: str) -> None:
        super().bind(integration)
        self.scope = Scope(integration, covers=False)

    def wrap(self, original: Any) -> Any:
        site, tracers = self.site, self.scope

        # Flat, because each request pays for each step into another function.
        async def wrapper(self_: Any, scope: Any, receive: Any, send: Any) -> Any:
            if SPAN in scope:  # an application inside another one has its span: the outer one's
                return await original(self_, scope, receive, send)
            span: Any = None
            try:
                if site.enabled and scope["type"] == "http":
                    prepare = self.prepare
                    if prepare is not None:
                        prepare(self_, scope)
                    tracer = tracers.tracer or tracers.find()
                    try:
                        path, client, query, root, fields = _read_usual(scope)
                    except KeyError:  # something is left out
                        path, client, query, root, fields = map(scope.get, _USUAL)
                        fields = fields or ()
                    if tracer is not None and (state.exclude is None or not state.exclude[path or "/"]):
                        headers = dict(fields)
                        address = client[0] if client else None
                        try:
                            known = state.callers.get(
                                (_read_caller(scope), headers.get(b"host"), headers.get(b"user-agent"), address)
                            )
                        except (KeyError, TypeError):  # something is left out, or a list
                            known = None
                        if known is None:
                            known = _look_up(scope, headers, address)
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

        return disguise(wrapper, original)


class RoutePatch(Patch):
    """The `handle` of a class of routes, with (self, scope, receive, send): the framework has matched.

    `read_route` is given the route and gives its template (or None) and the handler (or None). Where the scope has the key `within`,
    there may be more to it, and `read_within` is asked in its place, with the scope as well.
    """

    def __init__(
        self,
        target: str,
        read_route: Callable[[Any], tuple[str | None, Any]],
        within: str = "",
        read_within: Callable[[Any, Any], tuple[str | None, Any]] | None = None,
    ) -> None:
        super().__init__(target)
        self.read_route = read_route
        self.within = within
        self.read_within = read_within

    def wrap(self, original: Any) -> Any:
        site, within = self.site, self.within

        def before(route: Any, scope: Any, receive: Any, send: Any) -> Any:
            try:
                span = scope.get(SPAN)
                # A seam is heard twice where a framework's class of routes calls its base class's.
                if span is not None and not span._end and span._call is not route and site.enabled:
                    span._call = route
                    if within in scope and self.read_within is not None:
                        template, handler = self.read_within(route, scope)
                    else:
                        read_route = self.read_route
                        template, handler = read_route(route)
                    if PREFIX in scope and template is not None:
                        template = scope[PREFIX] + template
                    # By its code and not itself: a handler made for one request must not be kept. And by its number: the
                    # hash of code is made of all constants in it, anew each time.
                    code = getattr(handler, "__code__", handler)
                    key = span._shared, template, id(code)
                    known = state.routes.get(key)
                    if known is None or (span._own is not NOTHING_OWN and ROUTE in span._own):
                        _name(span, key, handler, code)
                    else:
                        span._name, found, span._shared, _ = known
                        if found is not None and span._owner.source not in EXPLICIT:
                            span._owner = found
            except Exception as error:
                site.failed(error)
            return original(route, scope, receive, send)

        return stand_in(before, original)


def _name(span: Span, key: Any, handler: Any, kept: Any) -> None:
    _, route, number = key
    method = method_of(span)
    known = state.routed.get((method, route, number))
    if known is None:
        # Another object cannot have its number while it is kept here.
        known = keep(state.routed, (method, route, number), (*read_handler(method, route, handler), kept), 4096)
    name, found, _ = known
    name_route(span, name, route, found, key, kept)


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
                if STATUS in span._own and is_failure(span._own[STATUS]):
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


def _look_up(scope: dict[str, Any], headers: dict[bytes, bytes], address: str | None) -> Caller:
    *who, server = map(scope.get, _CALLER)
    server = tuple(server) if server else None  # the specification lets it be a list
    host, agent = headers.get(b"host"), headers.get(b"user-agent")
    return find_caller(((*who, server), host, agent, address), (*who, server, host, agent), address, _read_first)


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
