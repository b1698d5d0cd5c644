"""What a request is about, for everybody it passes through: `with lighttrace.transaction("checkout", customer="4711")`.

The name, and the customer under a pseudonym, go into the baggage, and from there to every service of ours that is called.
Spans started inside carry both as attributes, and so do the spans of a request that arrived with them.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from opentelemetry.context.context import Context

from lighttrace import guard, semconv
from lighttrace.propagation import baggage
from lighttrace.tracing import manual
from lighttrace.tracing.context import HANDED_KEY, SPAN_KEY, detach, now, set_current
from lighttrace.tracing.local_trace import LocalTrace
from lighttrace.tracing.owner import NOBODY, Owner

F = TypeVar("F", bound=Callable[..., Any])

_put = dict.__setitem__
_site = guard.site("tracing.transaction")

_MOST_HANDED = 4096
_handed: dict[tuple[object, ...], Owner] = {}


class Settings:
    """What the configuration says of customers; filled when tracing is switched on."""

    salt: bytes = b""


def handed_down(members: Mapping[str, object]) -> Owner | None:
    """The attributes that spans carry because of this baggage: exactly our four keys, each value clipped. None for none.

    It stands in the place of an owner because it is encoded like one, once; it owns nothing.
    """
    get = members.get
    key: tuple[object, ...] = (
        get(semconv.CALLER_SERVICE),
        get(semconv.CALLER_TEAM),
        get(semconv.TRANSACTION),
        get(semconv.CUSTOMER),
    )
    if not any(key):
        return None
    try:
        found = _handed.get(key)
    except TypeError:  # something of the program's own that it put into the baggage, and that has no hash
        found, key = None, ()
    if found is None:
        found = Owner(None, NOBODY.source)
        found.attributes = {name: text for name in baggage.OURS if (text := baggage.clipped(members.get(name) or ""))}
        if key:
            if len(_handed) >= _MOST_HANDED:
                _handed.clear()
            _handed[key] = found
    return found


def pseudonym(customer: object) -> str:
    """The same 32 hexadecimal digits for the same customer, wherever the same salt is configured.

    They are the beginning of HMAC-SHA256 with the salt as its key, so that support can find a customer's traces without us.

    >>> pseudonym("4711") == pseudonym(4711), len(pseudonym("4711"))
    (True, 32)
    """
    import hmac  # 2 ms, for those who name customers

    return hmac.digest(Settings.salt, str(customer).encode("utf-8", "replace"), "sha256").hex()[:32]


def _handed_to(span: Any) -> Mapping[str, str]:
    trace = getattr(span, "_trace", None)
    inherited = trace.inherited if type(trace) is LocalTrace else None
    return inherited.attributes if inherited is not None else {}


class TransactionScope:
    """`with lighttrace.transaction(...)`: sync, async, or as a decorator. While tracing is off it does nothing."""

    __slots__ = ("_customer", "_hashed", "_name", "_tokens")

    def __init__(self, name: str, customer: object, hashed: bool) -> None:
        self._name = name
        self._customer = customer
        self._hashed = hashed
        self._tokens: list[Any] = []

    def __enter__(self) -> None:
        token = None
        # Off, nothing of ours would keep the members from leaving through a propagator of the program's.
        if _site.enabled and manual.tracer() is not None:
            try:
                token = set_current(self._inside(now()))
            except Exception as error:  # a customer whose __str__ raises
                _site.failed(error)
        self._tokens.append(token)

    def _inside(self, context: Context) -> Context:
        # Who called this service: on its spans, and beside what is said here in the baggage.
        members = dict(_handed_to(context.get(SPAN_KEY)))
        members[semconv.TRANSACTION] = baggage.clipped(self._name)
        if self._customer is not None:
            members[semconv.CUSTOMER] = pseudonym(self._customer) if self._hashed else baggage.clipped(self._customer)
        made = baggage.with_all(members, context)
        _put(made, HANDED_KEY, handed_down(baggage.get_all(made)))
        return made

    def __exit__(self, *exc: object) -> None:
        token = self._tokens.pop()
        if token is not None:
            detach(token)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__()

    def __call__(self, function: F) -> F:
        """As a decorator: a transaction of its own around each call of `function`."""
        from lighttrace.tracing.stepping import in_scope

        made: F = in_scope(function, lambda: TransactionScope(self._name, self._customer, self._hashed))
        return made
