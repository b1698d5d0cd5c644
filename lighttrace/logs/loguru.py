"""loguru: the fields in `record["extra"]`, by a patcher chained behind the program's own."""

from collections.abc import Callable
from typing import Any

from lighttrace import guard
from lighttrace.instrument.call import disguise
from lighttrace.instrument.patching import Patch
from lighttrace.logs.fields import fill

_site = guard.site("logs.loguru")


def add_to_record(record: Any) -> None:
    """A loguru patcher: adds `trace_id`, `span_id`, `service` and `team` to `record["extra"]` where they are not there yet.

    `init(logs=True)` chains it behind the program's own; by hand it is `logger.configure(patcher=lighttrace.logs.add_to_record)`.
    """
    try:
        fill(record["extra"])
    except Exception as error:
        _site.failed(error)


class _Chained:
    """The program's patcher, if it has one, and then ours."""

    __slots__ = ("theirs",)

    def __init__(self, theirs: Callable[[Any], object] | None) -> None:
        self.theirs = theirs

    def __call__(self, record: Any) -> None:
        if self.theirs is not None:
            self.theirs(record)
        add_to_record(record)


def insert(loguru: Any) -> None:
    """Chain ours behind what is configured now. `_core.patcher` is private (read in loguru 0.6 and 0.7): `configure` takes a
    patcher and nothing tells which there is, nor can it be taken away.
    """
    core = loguru.logger._core
    if not isinstance(core.patcher, _Chained):
        core.patcher = _Chained(core.patcher)


def remove(loguru: Any) -> None:
    """Undo `insert`."""
    core = loguru.logger._core
    if isinstance(core.patcher, _Chained):
        core.patcher = core.patcher.theirs


class _ConfigurePatch(Patch):
    """`logger.configure(patcher=...)`, which replaces what is there."""

    def wrap(self, original: Any) -> Any:
        site = self.site

        def configure(self: Any, *args: Any, **kwargs: Any) -> Any:
            if site.enabled and kwargs.get("patcher") is not None:
                kwargs["patcher"] = _Chained(kwargs["patcher"])
            return original(self, *args, **kwargs)

        return disguise(configure, original)


PATCHES = (_ConfigurePatch("loguru._logger:Logger.configure"),)
for _patch in PATCHES:
    _patch.bind("loguru")
