"""WSGI applications as servers (PEP 3333)."""

from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any

from lighttrace import guard, semconv
from lighttrace.instrument import propagate, redaction
from lighttrace.instrument.call import disguise
from lighttrace.instrument.engine import Bounded, Scope, state
from lighttrace.instrument.hosts import split_authority
from lighttrace.instrument.http_server import (
    CLIENT,
    PREFIX,
    SCHEME,
    SERVER,
    SPAN,
    Caller,
    end,
    fail,
    find_caller,
    note_status,
    of_caller,
    read_method,
    start,
)
from lighttrace.instrument.http_span import capture
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import detach, read_current, reset_current, set_current
from lighttrace.tracing.shared import NOTHING_OWN

ADDRESS, PORT = semconv.SERVER_ADDRESS, semconv.SERVER_PORT
AGENT, VERSION = semconv.USER_AGENT_ORIGINAL, semconv.NETWORK_PROTOCOL_VERSION

# In one step each, as nearly every request has them; where some are left out, they are read one by one.
_CALLER = "REQUEST_METHOD", "wsgi.url_scheme", "SERVER_PROTOCOL", "HTTP_HOST", "HTTP_USER_AGENT", "REMOTE_ADDR"
_read_caller = itemgetter(*_CALLER)
_PLACE = "PATH_INFO", "QUERY_STRING"
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
            span: Any = None
            started: Any
            try:
                if (
                    site.enabled
                    and (state.exclude is None or not state.exclude[environ.get("PATH_INFO") or "/"])
                    and SPAN not in environ  # else an application inside another one
                ):
                    try:
                        path, query = _read_place(environ)
                        known = state.callers.get(_read_caller(environ))
                    except KeyError:  # something is left out
                        path, query = map(environ.get, _PLACE)
                        known = None
                    if known is None:
                        known = _look_up(environ)
                    root = environ.get("SCRIPT_NAME")
                    path = (root + path if root else path) or "/"
                    query = redaction.queries[query] if query else None
                    context = read_current()
                    found = None
                    if propagate.watched[propagate.place] is not propagate.plain:
                        context = of_caller(*propagate.extract_with(propagate.chosen(), environ, _EnvironGetter, context))
                    elif "HTTP_TRACEPARENT" in environ or "HTTP_BAGGAGE" in environ:
                        found = environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE"), environ.get("HTTP_BAGGAGE")
                    tracer = scope.tracer or scope.find()
                    if tracer is not None:
                        if found is None and not context and tracer.pipeline.keeps_roots:
                            name, shared, address = known
                            entered = started = tracer.start_root(name, SERVER, NOTHING_OWN, shared)
                            started._path = path
                            started._query = query
                            if address is not None:
                                started.own()[CLIENT] = address
                            token = set_current(started)
                        else:
                            started, entered, token = start(tracer, known, path, query, context, found)
                        span = environ[SPAN] = started
                        if root:
                            environ[PREFIX] = root.rstrip("/")
                        if state.server_request_headers:
                            capture(span, semconv.HTTP_REQUEST_HEADER, state.server_request_headers, _Headers(environ))
            except Exception as error:
                # The span, if there is one by now, is ended and taken off the context below.
                site.failed(error)
            if span is None:
                return original(self_, environ, start_response)
            try:
                body = original(self_, environ, partial(_hear, span, site, start_response))
            except BaseException as error:
                fail(span, error)
                detach(token)
                end(span)
                raise
            try:
                reset_current(token)
            except (ValueError, RuntimeError):
                guard.count("context.detached_elsewhere")
            if type(body) in _COMPLETE or ("wsgi.file_wrapper" in environ and _is_file(body, environ)):
                end(span)
                return body
            stand_in: Any
            if getattr(span, "_call", None) is Body:
                stand_in = Body()
            else:
                stand_in = Stream()
                stand_in._context = entered
            stand_in._body = body
            stand_in._span = span
            return stand_in

        return disguise(wrapper, original)


def _hear(
    span: Any, site: guard.Site, start_response: Callable[..., Any], status: str, headers: Any, exc_info: Any = None
) -> Any:
    """What the application calls in the place of the server's `start_response`."""
    try:
        if not span._end:  # else it is not sampled, or was ended already
            number = _statuses[status]
            more = span._shared.further.get(number)
            if more is not None and exc_info is None:  # else it may have said another one before
                span._shared = more
            else:
                note_status(span, number)
            if state.server_response_headers:
                capture(span, semconv.HTTP_RESPONSE_HEADER, state.server_response_headers, _Lower(headers))
        # A response whose length was known before has been computed: only its end is of interest. A spelling that is not
        # found makes the body be followed step by step, which is right in any case.
        # The last one first: that is where frameworks add it, once they know. A list, as it must be, is not always what comes.
        if (type(headers) is list and headers and headers[-1][0] == "Content-Length") or "Content-Length" in dict(headers):
            span._call = Body
    except Exception as error:
        site.failed(error)
    return start_response(status, headers) if exc_info is None else start_response(status, headers, exc_info)


def _is_file(body: Any, environ: dict[str, Any]) -> bool:
    """Whether the server sends the body by itself, as a file, if it gets it as it is."""
    wrapper = environ["wsgi.file_wrapper"]
    return isinstance(wrapper, type) and isinstance(body, wrapper)


class Body:
    """A response body that tells when it is closed, as the server must (PEP 3333)."""

    __slots__ = ("_body", "_span")

    _body: Any
    _span: Any  # Span or UnsampledSpan

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def close(self) -> None:
        """Close the application's body, then end the span."""
        span = self._span
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            fail(span, error)
            raise
        finally:
            if not span._end and span._own is NOTHING_OWN:
                span.end()  # what `end` does then: one step less, for nearly every request
            else:
                end(span)

    def __del__(self) -> None:
        if not self._span._end:
            end(self._span)  # a server that forgot to close


class Stream(Body):
    """A body that is still being computed: each step runs in the request's context, and none of it leaks to the server."""

    __slots__ = ("_context", "_steps")

    _context: Any  # in which the application ran, as it stood in `current`

    def __iter__(self) -> Iterator[bytes]:
        self._steps = iter(self._body)
        return self

    def __next__(self) -> bytes:
        token = set_current(self._context)
        try:
            return next(self._steps)  # type: ignore[no-any-return]  # the application's
        except StopIteration:
            end(self._span)
            raise
        except BaseException as error:
            fail(self._span, error)
            end(self._span)
            raise
        finally:
            detach(token)

    def close(self) -> None:
        """Close in the request's context: a generator's `finally` is code of the request."""
        token = set_current(self._context)
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


def _look_up(environ: dict[str, Any]) -> Caller:
    key = tuple(map(environ.get, _CALLER))
    return find_caller(key, key[:-1], key[-1], partial(_read_first, environ))


def _read_first(
    environ: dict[str, Any], method: str | None, scheme: str | None, protocol: str | None, host: str | None, agent: str | None
) -> tuple[str, dict[str, Any]]:
    scheme = scheme or "http"
    name, attributes = read_method(method or "GET")
    address, port = _read_host(environ, host, scheme)
    attributes.update({SCHEME: scheme, ADDRESS: address, PORT: port})
    if agent:
        attributes[AGENT] = agent
    if protocol:
        attributes[VERSION] = protocol[5:]
    return name, attributes


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
