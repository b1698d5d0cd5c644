"""Several exporters at once: each gets every span, and one that fails does no harm to the others."""

import time
from typing import TYPE_CHECKING, Any

from lighttrace import guard
from lighttrace.export.queue import ARRIVED, Exporter, Outcome

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span


class SeveralExporters:
    """Sends each batch to all; a try that is repeated goes only to those that do not have it yet."""

    def __init__(self, exporters: list[Exporter]) -> None:
        self.exporters = exporters
        self._site = guard.site("export.several")

    def prepare(self, batch: "list[Span]", extra: dict[str, Any] | None) -> list[tuple[Exporter, Any]]:
        """Encode the batch for each of them."""
        waiting: list[tuple[Exporter, Any]] = []
        for exporter in self.exporters:
            try:
                waiting.append((exporter, exporter.prepare(batch, extra)))
            except Exception as error:
                self._site.failed(error)
        return waiting

    def send(self, payload: list[tuple[Exporter, Any]], timeout: float) -> Outcome:
        """Send to all that still wait for it. The outcome is the first failure that is worth another try, else the last."""
        deadline = time.monotonic() + timeout
        failed: Outcome | None = None
        for entry in list(payload):
            exporter, prepared = entry
            try:
                outcome = exporter.send(prepared, max(0.05, deadline - time.monotonic()))
            except Exception as error:
                self._site.failed(error)
                outcome = Outcome(f"error: {type(exporter).__name__}")
            if not outcome.retry:
                payload.remove(entry)
            if outcome.reason and (failed is None or not failed.retry):
                failed = outcome
        return failed or ARRIVED

    def close(self) -> None:
        """Close all of them."""
        for exporter in self.exporters:
            guard.call(self._site, exporter.close)
