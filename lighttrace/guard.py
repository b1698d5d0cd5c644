"""Containment: whatever fails inside LightTrace is counted, told once, and never reaches the traced program.

A *site* is one place where code of ours (an adapter, a hook, an exporter) runs inside somebody's program. Every site
has a name, counts its failures, and switches itself off after `LIMIT` of them, so that a broken integration costs a
program a few microseconds and one log line, not its requests.

    >>> site = Site("example.read_request")
    >>> try:
    ...     raise ValueError("broken adapter")
    ... except Exception as error:
    ...     site.failed(error)
    >>> site.failures, site.enabled
    (1, True)
"""

import time
from collections.abc import Callable
from typing import Any

LIMIT = 100  # failures after which a site switches itself off
_LOG_EVERY = 60.0  # seconds between two log lines on the same subject

counters: dict[str, int] = {}
"""Everything worth telling in `lighttrace doctor`, by name. Incremented with `count`, never reset."""

sites: "dict[str, Site]" = {}
"""Every site made so far, by name, for `lighttrace doctor`."""

sink: Callable[[str, BaseException], Any] | None = None
"""Called with (site name, error) for each contained failure. Tests put a function here that raises or collects."""

_last_logged: dict[str, float] = {}


def count(name: str, amount: int = 1) -> None:
    """Add `amount` to a counter. Two threads may lose a count between them; that is cheaper than a lock."""
    counters[name] = counters.get(name, 0) + amount


def log(subject: str, message: str, *, level: str = "warning", exc: BaseException | None = None) -> None:
    """Write one line to the `lighttrace` logger, at most once a minute for the same subject. Never raises."""
    try:
        now = time.monotonic()
        last = _last_logged.get(subject)
        if last is not None and now - last < _LOG_EVERY:
            count(f"log.suppressed.{subject}")
            return
        if len(_last_logged) > 1000:
            _last_logged.clear()
        _last_logged[subject] = now
        import logging  # not at import time: a program that never needs it should not pay for it

        logger = logging.getLogger("lighttrace")
        getattr(logger, level)("%s", message, exc_info=(type(exc), exc, exc.__traceback__) if exc is not None else None)
    except Exception:
        count("log.failed")


def log_always(message: str, *, level: str = "warning") -> None:
    """Write one line to the `lighttrace` logger, for changes of state that are rare by themselves. Never raises."""
    try:
        import logging

        getattr(logging.getLogger("lighttrace"), level)("%s", message)
    except Exception:
        count("log.failed")


class Site:
    """One guarded place. `enabled` is read on the hot path; `failed` is called only when something broke."""

    __slots__ = ("enabled", "failures", "last_error", "name", "on_disable")

    def __init__(self, name: str, on_disable: Callable[[], object] | None = None) -> None:
        self.name = name
        self.enabled = True
        self.failures = 0
        self.last_error: str | None = None
        self.on_disable = on_disable
        sites[name] = self

    def failed(self, error: BaseException) -> None:
        """Count one failure, tell it once, and switch the site off when there were too many."""
        self.failures += 1
        count(f"guard.{self.name}")
        # Text only: keeping the exception would keep its frames, and with them the program's requests, alive.
        try:
            self.last_error = f"{type(error).__name__}: {error}"[:500]
        except Exception:  # an exception whose __str__ raises
            self.last_error = type(error).__name__
        log(f"guard.{self.name}", f"{self.name} failed and was contained: {self.last_error}", exc=error)
        if self.failures >= LIMIT and self.enabled:
            self.enabled = False
            log(f"guard.off.{self.name}", f"{self.name} failed {self.failures} times and has been switched off")
            if self.on_disable is not None:
                try:
                    self.on_disable()
                except Exception:
                    count("guard.on_disable_failed")
        if sink is not None:
            sink(self.name, error)


def site(name: str) -> Site:
    """The site of that name, made on first use."""
    return sites.get(name) or Site(name)


def call(where: Site, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call something that may be broken. Gives its result, or None if it raised. For places off the hot path."""
    if not where.enabled:
        return None
    try:
        return function(*args, **kwargs)
    except Exception as error:
        where.failed(error)
        return None
