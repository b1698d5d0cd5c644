"""The standard library's `logging`: the fields on each record, and records to the exporter where that was asked for.

Not by a record factory: `extra={"team": ...}` raises KeyError for a name that the factory has set, and a factory that the
program sets later would take the fields away again. `Logger.handle` is where every record passes once it is complete.
"""

from collections.abc import Callable
from typing import Any

from lighttrace.instrument.call import disguise
from lighttrace.instrument.patching import Patch
from lighttrace.logs.fields import fill


class _FieldsPatch(Patch):
    """`Logger.handle(self, record)`: before the logger's own filters see it."""

    def wrap(self, original: Any) -> Any:
        site = self.site

        def handle(self: Any, record: Any) -> Any:
            if site.enabled:
                try:
                    fill(record.__dict__)
                except Exception as error:
                    site.failed(error)
            return original(self, record)

        return disguise(handle, original)


class _ExportPatch(Patch):
    """`Logger.callHandlers(self, record)`: behind the logger's level and filters, and whatever handlers there are.

    A handler on the root logger would turn the program's own `logging.basicConfig()` into nothing, would be removed by
    `dictConfig`, and would not hear of loggers that do not propagate.
    """

    export: Callable[[Any], None] | None = None

    def wrap(self, original: Any) -> Any:
        site = self.site

        def call_handlers(logger: Any, record: Any) -> Any:
            export = self.export
            if site.enabled and export is not None:
                export(record)
            return original(logger, record)

        return disguise(call_handlers, original)


FIELDS = _FieldsPatch("logging:Logger.handle")
EXPORT = _ExportPatch("logging:Logger.callHandlers")
for _patch in (FIELDS, EXPORT):
    _patch.bind("logging")
