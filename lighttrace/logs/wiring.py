"""Switching the fields on and off. Nothing is imported that the program has not: each library is patched when it comes."""

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lighttrace import guard
from lighttrace.instrument import imports

if TYPE_CHECKING:
    from lighttrace.instrument.patching import Patch
    from lighttrace.tracing.pipeline import Pipeline

_site = guard.site("logs")


class _Library:
    """One logging library: its patches, and what else is done and undone with it."""

    def __init__(self, module: str, ours: str) -> None:
        self.module = module
        self.ours = ours
        self.there: ModuleType | None = None

    def hook(self, module: ModuleType) -> None:
        """The program has imported it."""
        from importlib import import_module

        adapter: Any = import_module(self.ours)
        self.there = module
        for patch in adapter.PATCHES:
            patch.apply()
        adapter.insert(module)

    def stop(self) -> None:
        imports.forget(self.module, self.hook)
        there, self.there = self.there, None
        if there is not None:
            from importlib import import_module

            adapter: Any = import_module(self.ours)
            for patch in reversed(adapter.PATCHES):
                patch.undo()
            guard.call(_site, adapter.remove, there)


_LIBRARIES = (_Library("structlog", "lighttrace.logs.structlog"), _Library("loguru", "lighttrace.logs.loguru"))
_export: Any = None


def _apply_fields(module: ModuleType) -> None:
    from lighttrace.logs.stdlib import FIELDS

    FIELDS.apply()


def _apply_export(module: ModuleType) -> None:
    from lighttrace.logs.stdlib import EXPORT

    EXPORT.apply()


def start(config: Any, pipeline: "Pipeline") -> None:
    """Do what the settings `logs` and `exceptions` ask for."""
    global _export
    mode = config.logs
    if mode == "off":
        return
    imports.when_imported("logging", _apply_fields)
    if mode == "logging":
        return
    for library in _LIBRARIES:
        imports.when_imported(library.module, library.hook)
    if mode == "otlp" and config.exporters != ("none",):
        from lighttrace.logs.otlp import LogExport
        from lighttrace.logs.stdlib import EXPORT

        _export = LogExport(config, lambda: pipeline.resource)
        EXPORT.export = _export.export
        if config.exceptions != "events":
            from lighttrace.logs.exceptions import teller

            pipeline.tell_exception = teller(_export, config.exceptions)
        imports.when_imported("logging", _apply_export)


def in_child() -> None:
    """A fork has made another instance of the service."""
    if _export is not None:
        _export.in_child()


def flush() -> Callable[[float], bool]:
    """Begin to send the records that are there; gives `wait(timeout)`."""
    return _export.flush() if _export is not None else _nothing


def stop() -> Callable[[float], bool]:
    """Undo `start`, and begin to send the records that are there; gives `wait(timeout)`."""
    global _export
    wait = _nothing
    for name, hook in (("logging", _apply_fields), ("logging", _apply_export)):
        imports.forget(name, hook)
    for library in _LIBRARIES:
        library.stop()
    import sys

    module: Any = sys.modules.get("lighttrace.logs.stdlib")
    if module is not None:
        patches: tuple[Patch, ...] = (module.EXPORT, module.FIELDS)
        for patch in patches:
            patch.undo()
        module.EXPORT.export = None
    if _export is not None:
        wait, _export = _export.shutdown(), None
    return wait


def _nothing(timeout: float) -> bool:
    return True
