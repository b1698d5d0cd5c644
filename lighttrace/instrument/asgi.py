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
    CALL,
    EXPLICIT,
    PATH,
    QUERY,
    ROUTE,
    SCHEME,
    SERVER,
    STATUS,
    ServerCall,
    is_short,
    now,
    of_caller,
    read_method,
    start,
)
from lighttrace.instrument.http_span import capture
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import SPAN_KEY, detach, read_current, readers, reset_current, set_current
from lighttrace.tracing.owner import Owner
from lighttrace.tracing.shared import Shared

ADDRESS, PORT, CLIENT = semconv.SERVER_ADDRESS, semconv.SERVER_PORT, semconv.CLIENT_ADDRESS
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
            if CALL in scope:  # an application inside another one has its span: the outer one's
                return await original(self_, scope, receive, send)
            call = None
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
                        try:
                            name, shared = state.callers[_read_caller(scope), headers.get(b"host"), headers.get(b"user-agent")]
                        except (KeyError, TypeError):  # something is left out, or a list; or it is a caller's first request
                            name, shared = _look_up(scope, headers)
                        attributes: dict[str, Any] = {PATH: path or "/"}
                        if query:
                            attributes[QUERY] = redaction.queries[query]
                        if client:
                            attributes[CLIENT] = client[0]
                        context = read_current()
                        # As quickly as it can be told that nothing but W3C's headers is wanted.
                        if propagate.textmap is None and (
                            propagate.watched is None or propagate.watched[propagate.place] is propagate.own
                        ):
                            chosen = None
                        else:
                            chosen = propagate.chosen()
                        found = None
                        if chosen is None:
                            if b"traceparent" in headers or b"baggage" in headers:
                                found = _carried(scope, headers)
                        else:
                            context = of_caller(*propagate.extract_with(chosen, scope, _ScopeGetter, context))
                        made = AsgiCall()
                        made.method = name
                        made.prefix = root.rstrip("/") if root else ""
                        made.site = site
                        made.status = 0
                        made.ended = made.matched = None
                        if found is None and not context and tracer.pipeline.keeps_roots:
                            made.span = span = tracer.start_root(name, SERVER, attributes, shared)
                            made.token = set_current(Context({SPAN_KEY: span}) if readers else span)
                        else:
                            start(made, tracer, name, attributes, context, shared, found)
                        call = scope[CALL] = made
                        if state.server_request_headers:
                            capture(
                                call.span, semconv.HTTP_REQUEST_HEADER, state.server_request_headers, _Headers(scope["headers"])
                            )
            except Exception as error:
                # The call, if there is one by now, is ended and taken off the context below.
                site.failed(error)
            if call is None:
                return await original(self_, scope, receive, send)
            try:
                # The call does not hold what the server gave: that holds the scope, in which the call is.
                result = await original(self_, scope, receive, partial(_hear, call, send))
            except BaseException as error:
                call.fail(error)
                detach(call.token)
                call.end(call.ended)
                raise
            try:
                reset_current(call.token)
            except (ValueError, RuntimeError):
                guard.count("context.detached_elsewhere")
            if not call.span._end:
                call.end(call.ended)
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
                call = scope.get(CALL)
                if call is not None and call.matched is not route and site.enabled:
                    call.matched = route
                    span = call.span
                    if not span._end:
                        if within in scope and self.read_within is not None:
                            template, handler = self.read_within(route, scope)
                        else:
                            read_route = self.read_route
                            template, handler = read_route(route)
                        if call.prefix and template is not None:
                            template = call.prefix + template
                        try:
                            # By its code and not itself: a handler made for one request must not be kept. And by its number: the
                            # hash of code is made of all constants in it, anew each time.
                            name, found, _ = state.routed[call.method, template, id(handler.__code__)]
                        except (AttributeError, KeyError):
                            name, found, _ = call.look_up(template, handler)
                        if name is not None:
                            span._name = name
                            span._own[ROUTE] = template
                        if found is not None and span._owner.source not in EXPLICIT:
                            span._owner = found
            except Exception as error:
                site.failed(error)
            return original(route, scope, receive, send)

        return stand_in(before, original)


class AsgiCall(ServerCall):
    """The request, and its way back: hears the status and the last byte."""

    __slots__ = ("ended", "matched")

    ended: int | None  # when the last byte of a failed request went out
    matched: Any  # the route that was told last: a seam is heard twice where a framework's class of routes calls its base class's

    def look_up(self, route: str | None, handler: Any) -> tuple[str | None, Owner | None, Any]:
        """The same as `read`, remembered, and with it what has the number that it is remembered by."""
        routed = state.routed
        kept = getattr(handler, "__code__", handler)
        key = self.method, route, id(kept)
        known = routed.get(key)
        if known is None:
            # Another object cannot have that number while this one is kept here.
            known = keep(routed, key, (*self.read(route, handler), kept), 4096)
        return known  # type: ignore[no-any-return]  # a cache of anything

    def send(self, send: Callable[[Any], Awaitable[Any]], message: Any) -> Awaitable[Any]:
        """What the application calls in the place of the server's `send`. Adds no coroutine: it hands on the one it was given."""
        try:
            kind = message["type"]
            if kind == "http.response.start":
                self.status = message["status"]
                if state.server_response_headers:
                    capture(self.span, semconv.HTTP_RESPONSE_HEADER, state.server_response_headers, _Headers(message["headers"]))
            elif kind == "http.response.body" and not message.get("more_body"):
                status = self.status
                span: Any = self.span
                if status >= 500:
                    # The exception behind a 500 comes up only after the response has gone out: wait for it.
                    self.ended = now()
                elif status and not span._end:  # flat, as nearly every response comes here
                    span._own[STATUS] = status
                    span.end()
                else:
                    self.end()
        except Exception as error:
            self.site.failed(error)
        return send(message)


_hear = AsgiCall.send  # a method of an object would have to be made for each request


def _look_up(scope: dict[str, Any], headers: dict[bytes, bytes]) -> tuple[str, Shared]:
    """The name of a caller's spans before there is a route, and the attributes that all of them have."""
    callers = state.callers
    method, scheme, version, server = map(scope.get, _CALLER)
    server = tuple(server) if server else None  # the specification lets it be a list
    host, agent = headers.get(b"host"), headers.get(b"user-agent")
    key = (method, scheme, version, server), host, agent
    known = callers.get(key)
    if known is None:
        known = _read_first(method, scheme, version, server, host, agent)
        if is_short(method, host, agent):
            keep(callers, key, known, 2048)
    return known


def _read_first(
    method: str | None, scheme: str | None, version: str | None, server: Any, host: bytes | None, agent: bytes | None
) -> tuple[str, Shared]:
    scheme = scheme or "http"
    name, attributes = read_method(method or "GET")
    address, port = _read_host(host, server, scheme)
    attributes.update({SCHEME: scheme, ADDRESS: address, PORT: port})
    if agent:
        attributes[AGENT] = agent.decode("latin-1")
    if version:
        attributes[VERSION] = version
    return name, Shared(attributes)


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
