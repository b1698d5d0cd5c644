"""One batch on its way: tries within one deadline, pauses with jitter that a shutdown cuts short, and `Retry-After` obeyed."""

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lighttrace import forks, guard, semconv
from lighttrace.export.exporter import Exporter, Outcome
from lighttrace.export.telling import Teller

if TYPE_CHECKING:
    from lighttrace.export.books import Books
    from lighttrace.tracing.span import Span

_BACKOFF = (0.25, 5.0)  # seconds: the first pause between tries, and the longest
_USUAL_BATCH = 512
_USUAL_BYTES = 1_000_000  # what a request has at most where more spans than that are sent at once: proxies refuse more
_ANY = 1 << 20
_MOST_REFUSED = 16  # times in a row: from any batch down to one span, and some more
_LAST_TRIES = 3  # for a batch on the way out: a program that ends waits for no backend to come up

_parents: list[Any] = []
"""In a forked child: exporters of its parent. Nothing may close them here, not even the collection of garbage."""


class Sender:
    """How batches are tried. `deadline` and `hurry` are set by a shutdown: by then, and with no more pauses than needed.

    While `paused` is set, nothing new is begun and no pause is made: the batch is to be kept for later.
    """

    __slots__ = (
        "_bytes",
        "_limit",
        "_make_exporter",
        "_refused",
        "_timeout",
        "deadline",
        "encodes",
        "exporter",
        "hurry",
        "not_before",
        "paused",
        "repeated",
        "teller",
    )

    def __init__(self, make_exporter: Callable[[], Exporter], timeout: float) -> None:
        self._make_exporter = make_exporter
        self._timeout = timeout
        self.exporter: Exporter | None = None  # made for the first batch
        self.teller = Teller()
        self.hurry = threading.Event()
        self.deadline: float | None = None
        self.paused = False
        self.not_before = 0.0  # when the backend wants to hear of us again
        self.repeated = 0  # spans sent again because an answer was lost: the backend may have them twice
        self.encodes = False  # whether the last payload was bytes: nothing of the spans themselves was handed on
        self._bytes = 0  # that a span took in the last request, if the exporter's payloads tell
        self._limit = _ANY  # spans that the backend takes at once, as far as it has said
        self._refused = 0  # how often in a row it has said that there were too many

    def most(self, batch_size: int) -> int:
        """How many spans to send at once, where `batch_size` is allowed."""
        most = min(batch_size, self._limit)
        if most > _USUAL_BATCH:
            most = min(most, max(_USUAL_BATCH, _USUAL_BYTES // self._bytes if self._bytes else 0))
        return most

    def deliver(self, batch: "list[Span]", broken: "list[Span]", books: "Books") -> Outcome:
        """Encode a batch and send it, along with how many were dropped so far. Spans that cannot be encoded go to `broken`."""
        exporter = self.exporter
        if exporter is None:
            with forks.still:
                exporter = self.exporter = self._make_exporter()
        self.encodes = False
        dropped = books.untold()
        payload = exporter.prepare(batch, {semconv.DROPPED_SPANS: dropped} if dropped else None, broken)
        self.encodes = type(payload) is bytes
        if self.encodes:
            self._bytes = len(payload) // len(batch) + 1
        outcome = self.send(exporter, payload, len(batch) - len(broken), books.text)
        if outcome.too_large:
            self._limit = max(1, len(batch) // 2)
        elif self._refused > _MOST_REFUSED:  # whatever it means, small batches do not help: spare the backend a flood of them
            self._limit = _ANY
        elif not outcome.reason and self._limit < _ANY:
            self._limit += self._limit // 16 + 1  # slowly: it may have been one large span, or what the backend always says
        if dropped and not outcome.reason:
            books.told(dropped)
        return outcome

    def send(self, exporter: Exporter, payload: Any, count: int, drops: Callable[[], str]) -> Outcome:
        """Send `count` spans until they arrive, are refused for good, or the time for them is over.

        The outcome is that of the last try; `unanswered` if the answer to any was lost.
        """
        deadline = time.monotonic() + self._timeout
        pause = _BACKOFF[0]
        lost = False
        last_tries = 1 if self.teller.down else _LAST_TRIES
        outcome = Outcome("paused", retry=True)
        while not self._is_paused():
            outcome = exporter.send(payload, max(0.05, self._until(deadline) - time.monotonic()))
            self._again(outcome.repeats * count)
            if outcome.too_large:
                self._refused += 1
                outcome.too_large = count > 1 and self._refused <= _MOST_REFUSED
                if outcome.too_large:
                    guard.count("export.batch_too_large")
                    return outcome
            if not outcome.reason:
                self._refused = 0
                self.teller.arrived(drops)
                return outcome
            self.teller.failed(outcome.reason)
            lost_now = outcome.unanswered
            if lost or outcome.repeats:
                outcome.unanswered = True
            lost = outcome.unanswered
            if not outcome.retry:
                return outcome
            if self._is_paused():
                self._again(count if lost_now else 0)  # it will be
                return outcome
            hurried = self.hurry.is_set()
            if hurried:
                last_tries -= 1
                if last_tries <= 0:
                    return outcome
            asked = outcome.retry_after
            # Jitter, so that a hundred services do not come back at the same moment.
            jitter = 0.5 + int.from_bytes(os.urandom(2), "big") / 65536
            # A backend that says "at once", or a time that is over, is not asked a thousand times a second either.
            wait = pause * jitter if asked is None else max(asked, pause * jitter / 10)
            pause = min(pause * 2, _BACKOFF[1])
            again = time.monotonic() + wait
            if asked is not None:
                self.not_before = again
            if again >= self._until(deadline):
                return outcome
            if hurried:
                time.sleep(wait)
            elif self.hurry.wait(wait) and not self._is_paused():
                pause = _BACKOFF[0]
                if asked is not None:  # the program ends, and the backend has said when: then, or not at all
                    if again >= self._until(deadline):
                        return outcome
                    time.sleep(max(0.0, again - time.monotonic()))
            if lost_now:
                self._again(count)
        return outcome

    def wait(self, meanwhile: Callable[[], object]) -> bool:
        """Wait for as long as the backend asked to be left alone. False where the program ends before that."""
        while not self.paused and (left := self.not_before - time.monotonic()) > 0:
            if self.hurry.is_set():
                if self.deadline is not None and self.not_before >= self.deadline:
                    return False
                time.sleep(left)
            elif not self.hurry.wait(min(left, 30.0)):
                meanwhile()
        return True

    def keeps(self, outcome: Outcome) -> bool:
        """Whether a batch that did not arrive may do so later.

        The sender is paused, or the backend asked to be left alone for longer than a batch has, and there is time for it.
        """
        if not outcome.reason or not outcome.retry:
            return False
        if self.paused:
            return True
        return not outcome.unanswered and self.not_before > time.monotonic() and not self.hurry.is_set()

    def close(self) -> None:
        """Let connections go. Another batch makes another exporter."""
        exporter, self.exporter = self.exporter, None
        if exporter is not None:
            guard.call(guard.site("export.exporter"), exporter.close)

    def leave_to_parent(self) -> None:
        """In a forked child: let the exporter be, neither used nor closed."""
        if self.exporter is not None:
            _parents.append(self.exporter)
            self.exporter = None

    def _is_paused(self) -> bool:
        return self.paused  # by another thread, at any time

    def _until(self, deadline: float) -> float:
        return deadline if self.deadline is None else min(deadline, self.deadline)

    def _again(self, count: int) -> None:
        if count:
            self.repeated += count
            guard.count("spans.sent_again", count)
