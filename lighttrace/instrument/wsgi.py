"""WSGI applications as servers (PEP 3333)."""

from collections.abc import Callable, Iterator
from typing import Any

from lighttrace import semconv
from lighttrace.instrument import propagate, redaction
from lighttrace.instrument.call import disguise
from lighttrace.instrument.engine import Bounded, Scope, state
from lighttrace.instrument.hosts import split_authority
from lighttrace.instrument.http_client import capture
from lighttrace.instrument.http_server import CALL, METHOD, PATH, QUERY, SCHEME, ServerCall, excluded, leave, start
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import current, detach

ADDRESS, PORT, CLIENT = semconv.SERVER_ADDRESS, semconv.SERVER_PORT, semconv.CLIENT_ADDRESS
AGENT, VERSION = semconv.USER_AGENT_ORIGINAL, semconv.NETWORK_PROTOCOL_VERSION
_hosts: Bounded = Bounded(1024)


class WsgiPatch(Patch):
    """Trace the requests of a WSGI application: the target is its `__call__`, with (self, environ, start_response)."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.scope = Scope("", covers=False)

    def bind(self, integration: str) -> None:
        super().bind(integration)
        self.scope = Scope(integration, covers=False)

    def wrap(self, original: Any) -> Any:
        site = self.site

        def wrapper(self_: Any, environ: Any, start_response: Callable[..., Any]) -> Any:
            call = self._begin(environ) if site.enabled else None
            if call is None:
                return original(self_, environ, start_response)
            response = Response(call, start_response)
            try:
                body = original(self_, environ, response.start)
            except BaseException as error:
                call.fail(error)
                leave(call)
                call.end()
                raise
            leave(call)
            return response.around(body, environ)

        return disguise(wrapper, original)

    def _begin(self, environ: dict[str, Any]) -> ServerCall | None:
        call = None
        try:
            get = environ.get
            path = get("PATH_INFO") or "/"
            if state.exclude is not None and excluded(path):
                return None
            if CALL in environ:
                return None  # an application inside another one
            root = get("SCRIPT_NAME")
            method = get("REQUEST_METHOD", "GET")
            scheme = get("wsgi.url_scheme", "http")
            authority = get("HTTP_HOST")
            host = _hosts.get((authority, scheme))
            if host is None:
                host = _hosts[authority, scheme] = _read_host(environ, authority, scheme)
            attributes: dict[str, Any] = {
                METHOD: method,
                PATH: root + path if root else path,
                SCHEME: scheme,
                ADDRESS: host[0],
                PORT: host[1],
            }
            query = get("QUERY_STRING")
            if query:
                attributes[QUERY] = redaction.query(query)
            address = get("REMOTE_ADDR")
            if address:
                attributes[CLIENT] = address
            agent = get("HTTP_USER_AGENT")
            if agent:
                attributes[AGENT] = agent
            protocol = get("SERVER_PROTOCOL")
            if protocol:
                attributes[VERSION] = protocol[5:]
            context = current.get()
            chosen = propagate.chosen()
            if chosen is None:
                parent, members = get("HTTP_TRACEPARENT"), get("HTTP_BAGGAGE")
                found = None
                if parent is not None or members is not None:
                    context, found = propagate.extract(context, parent, get("HTTP_TRACESTATE"), members)
            else:
                context, found = propagate.extract_with(chosen, environ, _EnvironGetter, context)
            call = start(self.scope, self.site, method, attributes, context, found)
            if call is not None:
                environ[CALL] = call
                if root:
                    call.prefix = root.rstrip("/")
                if state.server_request_headers:
                    capture(call.span, semconv.HTTP_REQUEST_HEADER, state.server_request_headers, _Headers(environ))
            return call
        except Exception as error:
            self.site.failed(error)
            # The call, if there is one by now, must be ended and taken off the context.
            return call


class Response:
    """The way back: hears the status, and follows the body to its last byte."""

    __slots__ = ("call", "known_length", "start_response")

    def __init__(self, call: ServerCall, start_response: Callable[..., Any]) -> None:
        self.call = call
        self.start_response = start_response
        self.known_length = False

    def start(self, status: str, headers: Any, *exc_info: Any) -> Any:
        """What the application calls in the place of the server's `start_response`."""
        try:
            self.call.status = int(status[:3])
            for name, _ in headers:
                if name == "Content-Length" or name.lower() == "content-length":
                    self.known_length = True
                    break
            if state.server_response_headers and type(self.call.span).__name__ == "Span":
                capture(self.call.span, semconv.HTTP_RESPONSE_HEADER, state.server_response_headers, _Lower(headers))
        except Exception as error:
            self.call.site.failed(error)
        return self.start_response(status, headers, *exc_info)

    def around(self, body: Any, environ: dict[str, Any]) -> Any:
        """The body as the server gets it: as it is where nothing more can happen in it, else followed to its end."""
        kind = type(body)
        wrapper = environ.get("wsgi.file_wrapper")
        if kind is list or kind is tuple or (isinstance(wrapper, type) and isinstance(body, wrapper)):
            self.call.end()
            return body
        # A response whose length was known before has been computed: only its end is of interest.
        return Body(body, self.call) if self.known_length else Stream(body, self.call)


class Body:
    """A response body that tells when it is closed, as the server must (PEP 3333)."""

    __slots__ = ("_body", "_call")

    def __init__(self, body: Any, call: ServerCall) -> None:
        self._body = body
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def close(self) -> None:
        """Close the application's body, then end the span."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                close()
        except BaseException as error:
            self._call.fail(error)
            raise
        finally:
            self._call.end()

    def __del__(self) -> None:
        self._call.end()  # a server that forgot to close


class Stream(Body):
    """A body that is still being computed: each step runs in the request's context, and none of it leaks to the server."""

    __slots__ = ("_steps",)

    def __iter__(self) -> Iterator[bytes]:
        self._steps = iter(self._body)
        return self

    def __next__(self) -> bytes:
        token = current.set(self._call.context)
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
        token = current.set(self._call.context)
        try:
            super().close()
        finally:
            detach(token)


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
