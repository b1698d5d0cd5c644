"""Several exporters at once: each gets every span, and one that fails does no harm to the others."""

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from lighttrace import guard
from lighttrace.export.exporter import ARRIVED, Exporter, Outcome

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span


class _Delivery:
    """One batch on its way: who still waits for it, and the failure for good of one who will not get it."""

    __slots__ = ("extra", "lost", "waiting")

    def __init__(self, extra: dict[str, Any] | None) -> None:
        self.extra = extra
        self.waiting: list[tuple[Exporter, Any, list[Span]]] = []  # and what each of them prepared, of which spans
        self.lost: Outcome | None = None


class SeveralExporters:
    """Sends each batch to all; a try that is repeated goes only to those that do not have it yet."""

    def __init__(self, exporters: list[Exporter]) -> None:
        self.exporters = list(exporters)
        self._site = guard.site("export.several")

    def prepare(self, batch: "list[Span]", extra: dict[str, Any] | None, broken: "list[Span] | None" = None) -> _Delivery:
        """Encode the batch for each of them."""
        delivery = _Delivery(extra)
        nobodys: list[Span] | None = None
        for exporter in self.exporters:
            without: list[Span] = []
            try:
                delivery.waiting.append((exporter, exporter.prepare(batch, extra, without), batch))
                nobodys = without if nobodys is None else [span for span in nobodys if span in without]
            except Exception as error:
                self._site.failed(error)
                delivery.lost = Outcome(f"error: {type(exporter).__name__}")
        if broken is not None and nobodys:
            broken += nobodys
        return delivery

    def send(self, payload: _Delivery, timeout: float) -> Outcome:
        """Send to all that still wait for it. The outcome is the first failure worth another try, else one for good."""
        deadline = time.monotonic() + timeout
        failed: Outcome | None = None
        rejected = repeats = 0
        unanswered = False
        waiting, payload.waiting = deque(payload.waiting), []
        while waiting:
            # A fair share each, so that one that hangs leaves the others their time.
            share = max(0.05, (deadline - time.monotonic()) / len(waiting))
            exporter, prepared, batch = waiting.popleft()
            try:
                outcome = exporter.send(prepared, share)
            except Exception as error:
                self._site.failed(error)
                outcome = Outcome(f"error: {type(exporter).__name__}")
            if outcome.too_large and len(batch) > 1:  # for this one: the others may have it by now
                guard.count("export.batch_too_large")
                for part in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                    waiting.append((exporter, exporter.prepare(part, payload.extra, []), part))
                continue
            rejected = max(rejected, outcome.rejected)
            repeats += outcome.repeats
            unanswered = unanswered or outcome.unanswered
            if outcome.reason:
                self._last(exporter)
                if outcome.retry:
                    payload.waiting.append((exporter, prepared, batch))
                    failed = failed or outcome
                else:
                    payload.lost = outcome
        last = failed or payload.lost or ARRIVED
        return Outcome(
            last.reason, retry=last.retry, retry_after=last.retry_after, rejected=rejected, unanswered=unanswered, repeats=repeats
        )

    def _last(self, exporter: Exporter) -> None:
        """Who failed comes after the others from now on."""
        self.exporters = [other for other in self.exporters if other is not exporter] + [exporter]

    def close(self) -> None:
        """Close all of them."""
        for exporter in self.exporters:
            guard.call(self._site, exporter.close)
