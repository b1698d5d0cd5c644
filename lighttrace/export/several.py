"""Several exporters at once: each gets every span, and one that fails does no harm to the others."""

import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from lighttrace import guard
from lighttrace.export.exporter import ARRIVED, Exporter, Outcome

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span


_MOST_REFUSED = 16  # times in a row that a batch is halved: from any size down to one span, and some more


class _Delivery:
    """One batch on its way: who still waits for it or for a part of it, and what some will not get."""

    __slots__ = ("count", "extra", "lost", "rejected", "waiting")

    def __init__(self, count: int, extra: dict[str, Any] | None) -> None:
        self.count = count
        self.extra = extra
        self.waiting: list[tuple[Exporter, Any, list[Span]]] = []  # and what each of them prepared, of which spans
        self.lost: Outcome | None = None  # the failure for good of one who gets none of it
        self.rejected: Counter[int] = Counter()  # spans that one does not get, though it gets others; by its id


class SeveralExporters:
    """Sends each batch to all; a try that is repeated goes only to those that do not have it yet."""

    def __init__(self, exporters: list[Exporter]) -> None:
        self.exporters = list(exporters)
        self._site = guard.site("export.several")

    def prepare(self, batch: "list[Span]", extra: dict[str, Any] | None, broken: "list[Span] | None" = None) -> _Delivery:
        """Encode the batch for each of them."""
        delivery = _Delivery(len(batch), extra)
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
        repeats = 0
        unanswered = False
        refused: Counter[int] = Counter()
        waiting, payload.waiting = deque(payload.waiting), []
        while waiting:
            # A fair share each, so that one that hangs leaves the others their time.
            share = max(0.05, (deadline - time.monotonic()) / len(waiting))
            exporter, prepared, batch = waiting.popleft()
            key = id(exporter)
            try:
                outcome = exporter.send(prepared, share)
                refused[key] = refused[key] + 1 if outcome.too_large else 0
                if outcome.too_large and len(batch) > 1 and refused[key] <= _MOST_REFUSED:  # the others may have it by now
                    guard.count("export.batch_too_large")
                    half = len(batch) // 2
                    waiting.extendleft(
                        [(exporter, exporter.prepare(part, payload.extra, []), part) for part in (batch[half:], batch[:half])]
                    )
                    continue
            except Exception as error:
                self._site.failed(error)
                outcome = Outcome(f"error: {type(exporter).__name__}")
            payload.rejected[key] += outcome.rejected
            repeats += outcome.repeats
            unanswered = unanswered or outcome.unanswered
            if outcome.reason:
                self._last(exporter)
                if outcome.retry:
                    payload.waiting.append((exporter, prepared, batch))
                    failed = failed or outcome
                elif len(batch) < payload.count:
                    payload.rejected[key] += len(batch)
                else:
                    payload.lost = outcome
        last = failed or payload.lost or ARRIVED
        rejected = max(payload.rejected.values(), default=0)
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
