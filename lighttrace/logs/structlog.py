"""structlog: a processor, put before the last one of the chain, which is the one that renders.

There it sees what was bound, also to context variables, and takes nothing of that away.
"""

from collections.abc import MutableMapping
from typing import Any

from lighttrace import guard
from lighttrace.instrument.call import disguise
from lighttrace.instrument.patching import Patch
from lighttrace.logs.fields import fill

_site = guard.site("logs.structlog")


def add_to_event(logger: Any, method_name: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: adds `trace_id`, `span_id`, `service` and `team` where nothing of that name is there yet.

    `init(logs=True)` puts it into the configured chain by itself; loggers with processors of their own want it by hand:

        structlog.wrap_logger(logger, processors=[lighttrace.logs.add_to_event, structlog.processors.JSONRenderer()])
    """
    try:
        fill(event_dict)
    except Exception as error:
        _site.failed(error)
    return event_dict


_replaced: list[tuple[Any, Any]] = []
"""The chain that the program configured, and ours in its place."""


def insert(structlog: Any) -> None:
    """Put our processor into the chain that is configured now, unless it is there."""
    chain = structlog.get_config()["processors"]
    # While `structlog.testing.capture_logs` is at work, a test compares what it gets.
    if any(step is add_to_event or type(step).__name__ == "LogCapture" for step in chain):
        return
    if not structlog.is_configured():
        chain.insert(max(len(chain) - 1, 0), add_to_event)  # structlog's own list; configuring it would stop `configure_once`
        return
    made = [*chain[:-1], add_to_event, *chain[-1:]]
    _replaced[:] = [(chain, made)]
    structlog.configure(processors=made)


def remove(structlog: Any) -> None:
    """Undo `insert`."""
    chain = structlog.get_config()["processors"]
    if _replaced and chain is _replaced[0][1]:
        structlog.configure(processors=_replaced[0][0])
    elif isinstance(chain, list) and add_to_event in chain:
        chain.remove(add_to_event)
    _replaced.clear()


class _ConfigurePatch(Patch):
    """`structlog.configure` and `structlog.reset_defaults`, which set another chain."""

    def wrap(self, original: Any) -> Any:
        import sys

        site = self.site
        busy: list[bool] = []

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if site.enabled and not busy:
                busy.append(True)
                try:
                    insert(sys.modules["structlog"])
                except Exception as error:
                    site.failed(error)
                finally:
                    busy.clear()
            return result

        return disguise(wrapper, original)


PATCHES = (_ConfigurePatch("structlog:configure"), _ConfigurePatch("structlog:reset_defaults"))
for _patch in PATCHES:
    _patch.bind("structlog")
