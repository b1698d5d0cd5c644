"""LightTrace: traces that say which service, which line of code and which team.

    import lighttrace
    lighttrace.init(service="checkout", team="payments")

From then on every request, outgoing call and query is a span. See `docs/` for the rest; everything that a program needs
is named here, and everything else is private.
"""

from lighttrace._version import __version__

TYPE_CHECKING = False  # importing typing for its own would take longer than importing everything else here
if TYPE_CHECKING:
    from typing import Any

    from lighttrace.tracing.context import Detached, TeamScope
    from lighttrace.tracing.manual import current_span, span, trace
    from lighttrace.tracing.span import Span
    from lighttrace.tracing.transaction import TransactionScope

__all__ = ["Span", "__version__", "current_span", "detached", "flush", "init", "shutdown", "span", "team", "trace", "transaction"]

# Loaded when first used: `import lighttrace` by itself costs a program next to nothing.
_LAZY = {
    "Span": "lighttrace.tracing.span",
    "current_span": "lighttrace.tracing.manual",
    "span": "lighttrace.tracing.manual",
    "trace": "lighttrace.tracing.manual",
}


def init(service: str | None = None, team: str | None = None, **options: "Any") -> None:
    """Switch tracing on: one line at the start of a service.

    `service` is the service's name and `team` the team that owns it; both, and every other option, may come from the
    environment or a file instead (see `docs/configuration.md`). Calling it again does nothing. Nothing that is wrong
    with the configuration raises: it becomes a warning in the `lighttrace` log, and the default is used.

    >>> init(service="checkout", team="payments", exporter="none")
    """
    try:
        from lighttrace import runtime

        runtime.init(service, team, **options)
    except Exception as error:
        from lighttrace import guard

        guard.site("init").failed(error)


def flush(timeout: float = 5.0) -> bool:
    """Send everything that has ended, within `timeout` seconds. False if that was not enough.

    >>> flush()
    True
    """
    from lighttrace import runtime

    return runtime.flush(timeout)


def shutdown(timeout: float | None = None) -> None:
    """Undo every patch, send what is left within `timeout` seconds (5 by default) and stop. Runs by itself at exit."""
    from lighttrace import runtime

    runtime.shutdown(timeout)


def team(name: str) -> "TeamScope":
    """`with team("fraud"):` everything started inside, in this task and those it starts, belongs to that team.

    >>> with team("fraud"):
    ...     pass
    """
    from lighttrace.tracing.context import TeamScope

    return TeamScope(name)


def transaction(name: str, customer: "str | int | None" = None, hashed: bool = True) -> "TransactionScope":
    """`with transaction("checkout", customer=user.id):` what is done inside is part of that, here and in the services called.

    Spans started inside carry `lighttrace.transaction` and `lighttrace.customer`, and both travel in the baggage to hosts
    of ours, never to others. The customer goes under a pseudonym, 32 digits of a keyed hash (the setting `customer_salt`),
    unless `hashed` is False. A value has at most 64 bytes; longer ones are cut. Also a decorator, also for coroutines.

    >>> with transaction("checkout", customer="4711"):
    ...     pass
    """
    from lighttrace.tracing.transaction import TransactionScope

    return TransactionScope(name, customer, hashed)


def detached() -> "Detached":
    """`with detached():` spans started inside begin traces of their own, linked to the current one.

    For work that outlives the request which started it: a cache refresher, a consumer task.
    """
    from lighttrace.tracing.context import Detached

    return Detached()


def __getattr__(name: str) -> "Any":
    where = _LAZY.get(name)
    if where is None:
        raise AttributeError(f"module 'lighttrace' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(where), name)
    globals()[name] = value
    return value
