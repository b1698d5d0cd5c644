"""What the whole engine shares while it is switched on: the provider, the resolver, and what the configuration says.

One mutable object, filled by `lighttrace.runtime` when tracing starts and read through module attributes by the
patches. Patches made before a change see the change, because they hold `state`, never a copy of what is in it.
"""

import sys
from collections.abc import Callable
from typing import Any
from weakref import ref

from lighttrace.tracing.shared import Shared
from lighttrace.tracing.tracer import Tracer
from lighttrace.tracing.transaction import Settings


class Bounded(dict[Any, Any]):
    """A cache that empties itself when it is full: simple, bounded, and as fast to read as a dict."""

    __slots__ = ("most",)

    def __init__(self, most: int = 1024) -> None:
        self.most = most

    def __setitem__(self, key: Any, value: Any) -> None:
        if len(self) >= self.most:
            self.clear()
        super().__setitem__(key, value)


class Patient(dict[Any, Any]):
    """A cache of what saves a little each time: full, it takes nothing in until that was missed for a long while.

    Emptied whenever it is full, as a `Bounded`, it would cost more than it saves as soon as a little more is asked for than it holds.
    Read it with `get`, and write only what there `has_room` for.
    """

    __slots__ = ("missed", "most")

    def __init__(self, most: int = 1024) -> None:
        self.most = most
        self.missed = 0

    def has_room(self) -> bool:
        """Whether something more is worth keeping."""
        if len(self) < self.most:
            return True
        self.missed += 1
        if self.missed < _PATIENCE * self.most:
            return False
        self.missed = 0
        self.clear()
        return True


_PATIENCE = 16  # times as many questions in vain as there are answers


def keep(cache: dict[Any, Any], key: Any, value: Any, most: int) -> Any:
    """Put `value` into a cache and give it back; full, it is emptied as a `Bounded` is.

    For what each request looks up: a plain dict is found in without a step into its class.
    """
    if len(cache) >= most:
        cache.clear()
    cache[key] = value
    return value


def tie(owner: Any, let_go: Callable[[Any], object]) -> Any:
    """What is to be held as long as something with the number of `owner` is remembered: it calls `let_go` when `owner` ceases to be.

    The next object that has its number is another one.
    """
    try:
        return ref(owner, let_go)
    except TypeError:  # of a kind that cannot be watched: then it lives as long as this is held
        return owner


class Routes(Patient):
    """What requests have in common once a framework has found their route, by what they had in common before.

    It is looked up there (`Shared.routes`), in as few steps as can be, and counted here.
    """

    __slots__ = ()

    def keep(self, shared: Shared, number: Any, value: tuple[Any, ...], found: Any) -> None:
        """Remember `value` by the `number` of `found` for as long as that lives. Only where there `has_room`, and if `shared.lasts`."""
        routes: Any = shared.routes

        def forget(_: Any) -> None:
            self.pop((shared, number), None)
            routes.pop(number, None)

        self[shared, number] = routes[number] = (*value, tie(found, forget))

    def clear(self) -> None:
        for shared, _ in list(self):
            shared.routes.clear()
        super().clear()


class State:
    """The engine's configuration, in the form that the hot path wants."""

    __slots__ = (
        "_provider",
        "anywhere",
        "baggage_hosts",
        "caller",
        "callers",
        "capture_literals",
        "client_request_headers",
        "client_response_headers",
        "edge",
        "exclude",
        "known_methods",
        "matched",
        "redacted_parameters",
        "resolver",
        "routes",
        "server_request_headers",
        "server_response_headers",
        "service",
        "told",
    )

    def __init__(self) -> None:
        self._provider: Any = None
        self.resolver: Any = None
        self.service = "unknown_service"
        self.caller: dict[Any, str] = {}  # team, or team, transaction and customer: our baggage members as text
        self.exclude: Any = None  # `http_server.Excluded`: whether a path is not traced; None where all are
        self.known_methods: frozenset[str] = frozenset(
            {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
        )
        self.client_request_headers: tuple[str, ...] = ()
        self.client_response_headers: tuple[str, ...] = ()
        self.server_request_headers: tuple[str, ...] = ()
        self.server_response_headers: tuple[str, ...] = ()
        self.redacted_parameters: tuple[str, ...] | None = None
        self.capture_literals = False
        self.edge = False
        self.baggage_hosts: tuple[str, ...] = ()
        # What was learned under this configuration. Another one brings new caches: a request that is under way writes into the
        # one that it read.
        self.callers = Patient()  # what many requests have in common: the span's name and its first attributes
        self.anywhere: dict[Any, Any] = {}  # the same, whatever the caller's address is
        self.matched: dict[Any, Any] = {}  # method, prefix and what a framework found: the span's name, its owner and the route
        self.routes = Routes()  # what a caller's requests share and what was found: name, owner, and what they share then
        self.told = Bounded(1024)  # short baggage: what it says of the caller, see `propagate.read_caller`

    @property
    def provider(self) -> Any:
        """Makes the tracers; None while tracing is off."""
        return self._provider

    @provider.setter
    def provider(self, provider: Any) -> None:
        self._provider = provider
        forget_tracers()  # in this order: see `Scope.find`


_scopes: "list[Scope]" = []  # few: one for each patch, and those last as long as the program
state = State()


def forget_tracers() -> None:
    """Let every scope look for its tracer again: there is another provider."""
    for scope in _scopes.copy():  # others may be made meanwhile, by another thread or a signal's handler
        scope.tracer = None


def configure(config: Any, provider: Any, resolver: Any) -> None:
    """Fill `state` with what a `lighttrace.config.Config` says; the provider comes last, because it switches everything on."""
    from lighttrace.instrument.http_server import Excluded

    hosts = sys.modules.get("lighttrace.instrument.hosts")  # with the first library that calls others
    if hosts is not None:
        hosts.forget()
    state.service = config.service
    state.resolver = resolver
    state.caller.clear()
    state.exclude = Excluded(tuple(config.exclude)) if config.exclude else None
    state.known_methods = config.http_known_methods
    state.matched, state.routes = {}, Routes()  # after the resolver: who reads these asks that one
    # After the methods that it holds the names of, and after those: what is learned of a caller holds what is learned of routes.
    state.callers, state.anywhere = Patient(), {}
    state.client_request_headers = config.client_request_headers
    state.client_response_headers = config.client_response_headers
    state.server_request_headers = config.server_request_headers
    state.server_response_headers = config.server_response_headers
    state.redacted_parameters = config.redacted_parameters
    redaction = sys.modules.get("lighttrace.instrument.redaction")
    if redaction is not None:
        redaction.forget()
    state.capture_literals = config.capture_literals
    state.edge = config.edge
    state.told = Bounded(1024)  # after whether any of it is believed
    state.baggage_hosts = tuple(config.baggage_hosts)
    Settings.salt = config.customer_salt.encode()
    state.provider = provider


class Scope:
    """The tracer of one integration, looked up when its first span starts: patches are made before there is a provider.

    The hot path asks for `scope.tracer or scope.find()`.
    """

    __slots__ = ("covers", "name", "tracer")

    def __init__(self, name: str, covers: bool) -> None:
        self.name = name
        self.covers = covers
        self.tracer: Tracer | None = None  # None until it has been looked up, and again when the provider changes
        _scopes.append(self)

    def find(self) -> Tracer | None:
        """The tracer, or None while tracing is off."""
        provider = state.provider
        if provider is None:
            return None
        tracer = provider.get_tracer(f"lighttrace.{self.name}")
        if not isinstance(tracer, Tracer):
            return None
        tracer.covers = self.covers
        self.tracer = tracer
        if state.provider is not provider:  # changed in the meantime, by another thread
            self.tracer = None
        return tracer


_by_integration: dict[str, Scope] = {}


def scope_of(integration: str) -> Scope:
    """The one scope of an integration's client spans."""
    scope = _by_integration.get(integration)
    if scope is None:
        scope = _by_integration[integration] = Scope(integration, covers=True)
    return scope
