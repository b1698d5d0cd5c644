"""ASGI applications as servers (ASGI specification 3.0, HTTP). Websockets and lifespan pass untouched."""

from collections.abc import Awaitable, Callable
from typing import Any

from lighttrace import semconv
from lighttrace.instrument import propagate, redaction
from lighttrace.instrument.call import disguise
from lighttrace.instrument.engine import Bounded, Scope, state
from lighttrace.instrument.hosts import split_authority
from lighttrace.instrument.http_client import capture
from lighttrace.instrument.http_server import CALL, METHOD, PATH, QUERY, SCHEME, ServerCall, excluded, leave, now, start
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import current

ADDRESS, PORT, CLIENT = semconv.SERVER_ADDRESS, semconv.SERVER_PORT, semconv.CLIENT_ADDRESS
AGENT, VERSION = semconv.USER_AGENT_ORIGINAL, semconv.NETWORK_PROTOCOL_VERSION
_hosts: Bounded = Bounded(1024)
_agents: Bounded = Bounded(1024)


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
        site = self.site

        async def wrapper(self_: Any, scope: Any, receive: Any, send: Any) -> Any:
            call = self._begin(self_, scope) if site.enabled and scope.get("type") == "http" else None
            if call is None:
                return await original(self_, scope, receive, send)
            response = Response(call, send)
            try:
                result = await original(self_, scope, receive, response.send)
            except BaseException as error:
                call.fail(error)
                leave(call)
                call.end(response.ended)
                raise
            leave(call)
            call.end(response.ended)
            return result

        return disguise(wrapper, original)

    def _begin(self, application: Any, scope: dict[str, Any]) -> ServerCall | None:
        call = None
        try:
            if self.prepare is not None:
                self.prepare(application, scope)
            get = scope.get
            path = get("path") or "/"
            if state.exclude is not None and excluded(path):
                return None
            if CALL in scope:
                return None  # an application inside another one
            headers = dict(scope["headers"])
            method = get("method", "GET")
            scheme = get("scheme", "http")
            server = get("server")
            key = (headers.get(b"host"), server, scheme)
            host = _hosts.get(key)
            if host is None:
                host = _hosts[key] = _read_host(*key)
            attributes: dict[str, Any] = {METHOD: method, PATH: path, SCHEME: scheme, ADDRESS: host[0], PORT: host[1]}
            query = get("query_string")
            if query:
                attributes[QUERY] = redaction.query(query.decode("latin-1"))
            client = get("client")
            if client:
                attributes[CLIENT] = client[0]
            agent = headers.get(b"user-agent")
            if agent:
                known = _agents.get(agent)
                if known is None:
                    known = _agents[agent] = agent.decode("latin-1")
                attributes[AGENT] = known
            version = get("http_version")
            if version:
                attributes[VERSION] = version
            context = current.get()
            found = None
            chosen = propagate.chosen()
            if chosen is None:
                parent, carried = headers.get(b"traceparent"), headers.get(b"baggage")
                if parent is not None or carried is not None:
                    context, found = propagate.extract(
                        context,
                        parent.decode("latin-1") if parent is not None else None,
                        _all(scope, b"tracestate") if b"tracestate" in headers else None,
                        _all(scope, b"baggage") if carried is not None else None,
                    )
            else:
                context, found = propagate.extract_with(chosen, scope, _ScopeGetter, context)
            call = start(self.scope, self.site, method, attributes, context, found)
            if call is not None:
                scope[CALL] = call
                root = get("root_path")
                if root:
                    call.prefix = root.rstrip("/")
                if state.server_request_headers:
                    capture(call.span, semconv.HTTP_REQUEST_HEADER, state.server_request_headers, _Headers(scope["headers"]))
            return call
        except Exception as error:
            self.site.failed(error)
            # The call, if there is one by now, must be ended and taken off the context.
            return call


class Response:
    """The way back: hears the status and the last byte. `send` adds no coroutine: it hands on the one it was given."""

    __slots__ = ("_send", "call", "ended")

    def __init__(self, call: ServerCall, send: Any) -> None:
        self.call = call
        self._send = send
        self.ended: int | None = None

    def send(self, message: Any) -> Awaitable[Any]:
        """What the application calls in the place of the server's `send`."""
        try:
            kind = message["type"]
            if kind == "http.response.start":
                self.call.status = message["status"]
                if state.server_response_headers:
                    capture(
                        self.call.span, semconv.HTTP_RESPONSE_HEADER, state.server_response_headers, _Headers(message["headers"])
                    )
            elif kind == "http.response.body" and not message.get("more_body"):
                if self.call.status < 500:
                    self.call.end()
                else:
                    # The exception behind a 500 comes up only after the response has gone out: wait for it.
                    self.ended = now()
        except Exception as error:
            self.call.site.failed(error)
        return self._send(message)  # type: ignore[no-any-return]  # the server's


def _read_host(header: bytes | None, server: Any, scheme: str) -> tuple[str, int]:
    default = 443 if scheme == "https" else 80
    if header:
        return split_authority(header.decode("latin-1"), default)
    return (server[0], server[1] or default) if server else ("", default)


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
