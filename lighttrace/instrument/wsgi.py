"""WSGI applications as servers (PEP 3333)."""

from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any

from lighttrace import guard, semconv
from lighttrace.instrument import propagate, redaction
from lighttrace.instrument.call import disguise
from lighttrace.instrument.engine import Bounded, Scope, keep, state
from lighttrace.instrument.hosts import split_authority
from lighttrace.instrument.http_server import (
    CALL,
    PATH,
    QUERY,
    SCHEME,
    SERVER,
    ServerCall,
    is_short,
    of_caller,
    read_method,
    start,
)
from lighttrace.instrument.http_span import capture
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import detach, read_current, reset_current, set_current
from lighttrace.tracing.shared import Shared
from lighttrace.tracing.span import Span

ADDRESS, PORT, CLIENT = semconv.SERVER_ADDRESS, semconv.SERVER_PORT, semconv.CLIENT_ADDRESS
AGENT, VERSION = semconv.USER_AGENT_ORIGINAL, semconv.NETWORK_PROTOCOL_VERSION

# In one step each, as nearly every request has them; where some are left out, they are read one by one.
_CALLER = "REQUEST_METHOD", "wsgi.url_scheme", "SERVER_PROTOCOL", "HTTP_HOST", "HTTP_USER_AGENT"
_read_caller = itemgetter(*_CALLER)
_PLACE = "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR"
_read_place = itemgetter(*_PLACE)
_COMPLETE = frozenset({list, tuple})  # kinds of bodies in which nothing more can happen


class WsgiPatch(Patch):
    """Trace the requests of a WSGI application: the target is its `__call__`, with (self, environ, start_response)."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.scope = Scope("", covers=False)

    def bind(self, integration: str) -> None:
        super().bind(integration)
        self.scope = Scope(integration, covers=False)

    def wrap(self, original: Any) -> Any:
        site, scope = self.site, self.scope

        # Flat, because each request pays for each step into another function.
        def wrapper(self_: Any, environ: Any, start_response: Callable[..., Any]) -> Any:
            call = None
            try:
                if (
                    site.enabled
                    and (state.exclude is None or not state.exclude[environ.get("PATH_INFO") or "/"])
                    and CALL not in environ  # else an application inside another one
                ):
                    try:
                        path, query, address = _read_place(environ)
                        name, shared = state.callers[_read_caller(environ)]
                    except KeyError:  # something is left out, or it is a caller's first request
                        path, query, address = map(environ.get, _PLACE)
                        name, shared = _look_up(environ)
                    root = environ.get("SCRIPT_NAME")
                    attributes: dict[str, Any] = {PATH: (root + path if root else path) or "/"}
                    if query:
                        attributes[QUERY] = redaction.queries[query]
                    if address:
                        attributes[CLIENT] = address
                    context = read_current()
                    # As quickly as it can be told that nothing but W3C's headers is wanted.
                    if propagate.textmap is None and (
                        propagate.watched is None or propagate.watched[propagate.place] is propagate.own
                    ):
                        chosen = None
                    else:
                        chosen = propagate.chosen()
                    found = None
                    if chosen is not None:
                        context = of_caller(*propagate.extract_with(chosen, environ, _EnvironGetter, context))
                    elif "HTTP_TRACEPARENT" in environ or "HTTP_BAGGAGE" in environ:
                        found = environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE"), environ.get("HTTP_BAGGAGE")
                    tracer = scope.tracer or scope.find()
                    if tracer is not None:
                        made = WsgiCall()
                        made.method = name
                        made.prefix = root.rstrip("/") if root else ""
                        made.site = site
                        made.status = 0
                        made.form = Stream
                        if found is None and not context and tracer.pipeline.keeps_roots:
                            made.span = made.context = span = tracer.start_root(name, SERVER, attributes, shared)
                            made.token = set_current(span)
                        else:
                            start(made, tracer, name, attributes, context, shared, found)
                        call = environ[CALL] = made
                        if state.server_request_headers:
                            capture(call.span, semconv.HTTP_REQUEST_HEADER, state.server_request_headers, _Headers(environ))
            except Exception as error:
                # The call, if there is one by now, is ended and taken off the context below.
                site.failed(error)
            if call is None:
                return original(self_, environ, start_response)
            try:
                # The call does not hold what the server gave: that holds the environ, in which the call is.
                body = original(self_, environ, partial(_hear, call, start_response))
            except BaseException as error:
                call.fail(error)
                detach(call.token)
                call.end()
                raise
            try:
                reset_current(call.token)
            except (ValueError, RuntimeError):
                guard.count("context.detached_elsewhere")
            if type(body) in _COMPLETE or ("wsgi.file_wrapper" in environ and _is_file(body, environ)):
                call.end()
                return body
            stand_in = call.form()
            stand_in._body = body
            stand_in._call = call
            return stand_in

        return disguise(wrapper, original)


class WsgiCall(ServerCall):
    """The request, and its way back: hears the status, and stands in for the body to hear the end of it."""

    __slots__ = ("form",)

    form: "type[Body]"  # what stands in for the body

    def start(self, start_response: Callable[..., Any], status: str, headers: Any, exc_info: Any = None) -> Any:
        """What the application calls in the place of the server's `start_response`."""
        try:
            self.status = _statuses[status]
            # A response whose length was known before has been computed: only its end is of interest. A spelling that is not
            # found makes the body be followed step by step, which is right in any case.
            # The last one first: that is where frameworks add it, once they know. A list, as it must be, is not always what comes.
            last = headers[-1][0] if type(headers) is list and headers else None
            known = last == "Content-Length" or "Content-Length" in dict(headers)
            self.form = Body if known else Stream
            if state.server_response_headers and type(self.span) is Span:
                capture(self.span, semconv.HTTP_RESPONSE_HEADER, state.server_response_headers, _Lower(headers))
        except Exception as error:
            self.site.failed(error)
        return start_response(status, headers) if exc_info is None else start_response(status, headers, exc_info)


_hear = WsgiCall.start  # a method of an object would have to be made for each request


def _is_file(body: Any, environ: dict[str, Any]) -> bool:
    """Whether the server sends the body by itself, as a file, if it gets it as it is."""
    wrapper = environ["wsgi.file_wrapper"]
    return isinstance(wrapper, type) and isinstance(body, wrapper)


class Body:
    """A response body that tells when it is closed, as the server must (PEP 3333)."""

    __slots__ = ("_body", "_call")

    _body: Any
    _call: ServerCall

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def close(self) -> None:
        """Close the application's body, then end the span."""
        call = self._call
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            call.end()

    def __del__(self) -> None:
        if not self._call.span._end:
            self._call.end()  # a server that forgot to close


class Stream(Body):
    """A body that is still being computed: each step runs in the request's context, and none of it leaks to the server."""

    __slots__ = ("_steps",)

    def __iter__(self) -> Iterator[bytes]:
        self._steps = iter(self._body)
        return self

    def __next__(self) -> bytes:
        token = set_current(self._call.context)
        try:
            return next(self._steps)  # type: ignore[no-any-return]  # the application's
        except StopIteration:
            self._call.end()
            raise
        except BaseException as error:
            self._call.fail(error)
            self._call.end()
            raise
        finally:
            detach(token)

    def close(self) -> None:
        """Close in the request's context: a generator's `finally` is code of the request."""
        token = set_current(self._call.context)
        try:
            super().close()
        finally:
            detach(token)


class _Statuses(Bounded):
    """status line: its number."""

    __slots__ = ()

    def __missing__(self, line: str) -> int:
        status = self[line] = int(line[:3])
        return status


_statuses = _Statuses()


def _look_up(environ: dict[str, Any]) -> tuple[str, Shared]:
    """The name of a caller's spans before there is a route, and the attributes that all of them have."""
    callers = state.callers
    key = tuple(map(environ.get, _CALLER))
    known = callers.get(key)
    if known is None:
        known = _read_first(environ, *key)
        if is_short(*key):
            keep(callers, key, known, 2048)
    return known


def _read_first(
    environ: dict[str, Any], method: str | None, scheme: str | None, protocol: str | None, host: str | None, agent: str | None
) -> tuple[str, Shared]:
    scheme = scheme or "http"
    name, attributes = read_method(method or "GET")
    address, port = _read_host(environ, host, scheme)
    attributes.update({SCHEME: scheme, ADDRESS: address, PORT: port})
    if agent:
        attributes[AGENT] = agent
    if protocol:
        attributes[VERSION] = protocol[5:]
    return name, Shared(attributes)


def _read_host(environ: dict[str, Any], authority: str | None, scheme: str) -> tuple[str, int]:
    default = 443 if scheme == "https" else 80
    if authority:
        return split_authority(authority, default)
    port = str(environ.get("SERVER_PORT", default))
    return environ.get("SERVER_NAME", ""), int(port) if port.isdigit() else default


class _EnvironGetter:
    """Reads headers out of a WSGI environ for OpenTelemetry's propagators."""

    @staticmethod
    def get(carrier: dict[str, Any], key: str) -> list[str] | None:
        value = carrier.get("HTTP_" + key.upper().replace("-", "_"))
        return None if value is None else [value]

    @staticmethod
    def keys(carrier: dict[str, Any]) -> list[str]:
        return [key[5:].lower().replace("_", "-") for key in carrier if key.startswith("HTTP_")]


class _Headers:
    __slots__ = ("_environ",)

    def __init__(self, environ: dict[str, Any]) -> None:
        self._environ = environ

    def get(self, name: str) -> str | None:
        return self._environ.get("HTTP_" + name.upper().replace("-", "_"))


class _Lower:
    __slots__ = ("_headers",)

    def __init__(self, headers: Any) -> None:
        self._headers = headers

    def get(self, name: str) -> list[str] | None:
        return [value for key, value in self._headers if key.lower() == name.lower()] or None
