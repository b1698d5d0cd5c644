"""The queue between the program and the backend, and the worker that empties it.

The program's side is `put`: an append and a comparison, no lock, no system call. Everything else happens on the
worker's thread, which starts with the first span that ends, or while the worker is behind.

Books are kept: every span that was put is exported, dropped for a stated reason, or still here (`stats`).
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from lighttrace import guard, semconv

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span

_STEP = 64  # while the worker is behind, the queue is weighed every so many spans
_SHED = 8  # one part in so many is let go at once when the queue is full
_BACKOFF = (0.25, 5.0)  # seconds: the first pause between tries, and the longest


class Outcome:
    """What became of one try: `sent` spans arrived; else `retry_after` says whether and when to try again."""

    __slots__ = ("reason", "rejected", "retry", "retry_after")

    def __init__(self, reason: str = "", *, retry: bool = False, retry_after: float | None = None, rejected: int = 0) -> None:
        self.reason = reason  # empty: it arrived
        self.retry = retry
        self.retry_after = retry_after  # seconds that the backend asked for
        self.rejected = rejected  # spans that the backend took and refused


ARRIVED = Outcome()


class Exporter(Protocol):
    """What the worker sends through. Called by one thread at a time, never by the program's."""

    def prepare(self, batch: "list[Span]", extra: dict[str, Any] | None) -> Any:
        """Encode a batch; what it gives is passed to `send`, once per try."""

    def send(self, payload: Any, timeout: float) -> Outcome:
        """One try, within `timeout` seconds."""

    def close(self) -> None:
        """Let connections and files go."""


def weigh(span: "Span") -> int:
    """About how many bytes a span holds."""
    size = 600
    for value in span._attributes.values():
        kind = type(value)
        size += 80 + (len(value) if kind is str or kind is bytes else 0)
        if kind is tuple or kind is dict:
            size += len(repr(value))
    if span._rare is not None:
        for _, _, attributes, _ in span._rare.events:
            size += 200 + sum(len(value) for value in attributes.values() if type(value) is str)
        size += 300 * len(span._rare.links)
    return size


def _precedence(span: "Span") -> int:
    """What is let go first: 0 a call that succeeded, 1 anything else that did, 2 errors and the entries of requests."""
    kind = span._kind._value_
    if span._status == 2 or not span._parent_id or (kind == 1 and span._trace.remote is not None):
        return 2
    return 0 if kind == 2 or kind == 3 else 1


class SpanQueue:
    """Bounded in spans and in bytes. Full, it lets go of what says least, and never waits."""

    def __init__(
        self,
        make_exporter: Callable[[], Exporter],
        *,
        size: int = 2048,
        most_bytes: int = 64 << 20,
        batch_size: int = 512,
        delay: float = 5.0,
        export_timeout: float = 30.0,
        exit_timeout: float = 5.0,
    ) -> None:
        self._make_exporter = make_exporter
        self.size = max(1, size)
        self.most_bytes = most_bytes
        self.batch_size = max(1, min(batch_size, size))
        self.delay = delay
        self.export_timeout = export_timeout or 3600.0
        self.exit_timeout = exit_timeout
        self.exported = 0
        self.dropped: dict[str, int] = {}
        self._told = 0  # drops that have been told on a resource
        self._closed = False
        self._down = False
        self._reset()

    def _reset(self) -> None:
        """Everything that a forked child must not share with its parent."""
        self.wake_at = 1
        self._pending: deque[Span] = deque()
        self._in_flight = 0
        self._weighed = 0  # bytes of the spans that were weighed
        self._weighed_spans = 0
        self._behind = False
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._event = threading.Event()
        self._hurry = threading.Event()  # shutting down: stop pausing between tries
        self._done = threading.Condition(threading.Lock())
        self._flushing = 0
        self._finished = 0  # spans that left, one way or the other
        self._exporter: Exporter | None = None
        self._deadline: float | None = None

    def in_child(self) -> None:
        """After a fork: the parent's spans are the parent's to send. Nothing is joined, closed, logged or started."""
        self.exported = 0
        self.dropped = {}
        self._told = 0
        self._reset()

    # -- the program's side -------------------------------------------------------------------------------------

    def put(self, span: "Span") -> None:
        """Take a span that has ended."""
        pending = self._pending
        pending.append(span)
        if len(pending) >= self.wake_at:
            self._attend()

    def _attend(self) -> None:
        """Start or wake the worker; weigh and shed while it is behind. Runs every `batch_size` spans, or `_STEP` of them."""
        try:
            if self._pid != os.getpid():  # forked without Python's hooks
                last = self._pending[-1] if self._pending else None
                self.in_child()
                if last is not None:
                    self._pending.append(last)
            if self._closed:
                self._drop_all("after_shutdown")
                return
            waiting = len(self._pending)
            if self._thread is None:
                self._start()
            if waiting < self.batch_size:
                self.wake_at = self.batch_size
                return
            if not self._event.is_set():
                self._event.set()
            if self._behind:
                self._weigh(waiting)
            if waiting >= self.size:
                self._shed(waiting - self.size + max(1, self.size // _SHED), 0, "queue_full")
            elif self._weighed > self.most_bytes:
                self._shed(0, self.most_bytes * (_SHED - 1) // _SHED, "queue_bytes")
            self.wake_at = min(len(self._pending) + _STEP, self.size)
        except Exception as error:
            guard.site("export.queue").failed(error)

    def _weigh(self, waiting: int) -> None:
        new = waiting - self._weighed_spans
        if new > 0:
            pending = self._pending
            try:
                for index in range(-min(new, waiting, 4 * _STEP), 0):
                    self._weighed += weigh(pending[index])
            except IndexError:  # the worker took some meanwhile
                pass
            self._weighed_spans = waiting

    def _shed(self, wanted: int, most_bytes: int, reason: str) -> None:
        """Let go of `wanted` spans, or of as many as hold more than `most_bytes`: what says least first, the oldest of it first."""
        if not self._starting.acquire(blocking=False):
            return  # another thread is at it
        try:
            pending = self._pending
            taken: list[Span] = []
            try:
                for _ in range(len(pending)):
                    taken.append(pending.popleft())  # noqa: PERF401  # what was taken before an IndexError must be kept
            except IndexError:  # the worker took some meanwhile
                pass
            before = len(taken)
            excess = sum(map(weigh, taken)) - most_bytes if most_bytes else 0
            levels = list(map(_precedence, taken))
            gone: set[int] = set()
            for level in (0, 1, 2):
                if wanted <= 0 and excess <= 0:
                    break
                for index, precedence in enumerate(levels):
                    if precedence == level:
                        gone.add(index)
                        wanted -= 1
                        if most_bytes:
                            excess -= weigh(taken[index])
                        if wanted <= 0 and excess <= 0:
                            break
            self._count_drop(reason, len(gone))
            taken = [span for index, span in enumerate(taken) if index not in gone]
            pending.extendleft(reversed(taken))
            self._weighed = sum(map(weigh, taken)) if most_bytes else self._weighed * len(taken) // max(1, before)
            self._weighed_spans = len(taken)
            with self._done:
                self._finished += before - len(taken)
                self._done.notify_all()
        finally:
            self._starting.release()
        guard.log("export.dropping", f"the queue is full and spans are dropped ({self._drops()}); see lighttrace doctor")

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="lighttrace-export", daemon=True)
                # Set first: starting a thread may itself be traced.
                self._thread = thread
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is on its way out: `flush` and `shutdown` send by themselves
                    self._thread = None
                    guard.count("export.no_thread")
        finally:
            self._starting.release()

    # -- the worker's side --------------------------------------------------------------------------------------

    def _run(self) -> None:
        from lighttrace.export.quiet import quiet

        pid = self._pid
        with quiet():
            while not self._closed or self._pending:
                woken = self._event.wait(self.delay)
                if pid != self._pid:
                    return
                self._event.clear()
                everything = not woken or self._flushing or self._closed
                while self._pending and (everything or len(self._pending) >= self.batch_size):
                    self._export(self._take())
                    everything = everything or bool(self._flushing) or self._closed
                    if self._closed and self._deadline is not None and time.monotonic() >= self._deadline:
                        break
                self.wake_at = 0 if self._closed else self.batch_size
                if self._closed and self._deadline is not None and time.monotonic() >= self._deadline:
                    break
            self._close_exporter()

    def _take(self) -> "list[Span]":
        batch = []
        pending = self._pending
        try:
            for _ in range(self.batch_size):
                batch.append(pending.popleft())  # noqa: PERF401  # as above
        except IndexError:
            pass
        self._in_flight = len(batch)
        self._weighed = max(0, self._weighed - 600 * len(batch)) if pending else 0
        self._weighed_spans = len(pending)
        return batch

    def _export(self, batch: "list[Span]") -> None:
        """Send one batch, trying again within one deadline; the spans are accounted for in any case."""
        reason = "error"
        rejected = 0
        self._behind = True
        try:
            exporter = self._exporter
            if exporter is None:
                exporter = self._exporter = self._make_exporter()
            dropped = sum(self.dropped.values())
            extra = {semconv.DROPPED_SPANS: dropped} if dropped > self._told else None
            payload = exporter.prepare(batch, extra)
            outcome = self._try(exporter, payload)
            reason, rejected = outcome.reason, outcome.rejected
            if not reason and extra:
                self._told = dropped
        except Exception as error:
            guard.site("export.exporter").failed(error)
        finally:
            self._behind = False
            self._settle(len(batch), reason, rejected)

    def _try(self, exporter: Exporter, payload: Any) -> Outcome:
        deadline = time.monotonic() + self.export_timeout
        pause = _BACKOFF[0]
        while True:
            if self._deadline is not None:
                deadline = min(deadline, self._deadline)
            outcome = exporter.send(payload, max(0.05, deadline - time.monotonic()))
            self._tell(outcome)
            if not outcome.reason or not outcome.retry:
                return outcome
            # Jitter, so that a hundred services do not come back at the same moment.
            wait = (
                outcome.retry_after
                if outcome.retry_after is not None
                else pause * (0.5 + int.from_bytes(os.urandom(2), "big") / 65536)
            )
            pause = min(pause * 2, _BACKOFF[1])
            left = (self._deadline if self._deadline is not None else deadline) - time.monotonic()
            if wait >= left:
                return outcome
            if self._hurry.wait(wait) and self._deadline is not None and time.monotonic() >= self._deadline:
                return outcome

    def _settle(self, count: int, reason: str, rejected: int) -> None:
        with self._done:
            if reason:
                self._count_drop(reason, count)
            else:
                self.exported += count - rejected
                if rejected:
                    self._count_drop("rejected", rejected)
            self._in_flight = 0
            self._finished += count
            self._done.notify_all()

    def _tell(self, outcome: Outcome) -> None:
        """One line when the backend goes down, one when it is back."""
        if outcome.reason and not self._down:
            self._down = True
            guard.log_always(f"spans cannot be delivered: {outcome.reason}; the program goes on, and so do the tries")
        elif not outcome.reason and self._down:
            self._down = False
            guard.log_always(f"spans are delivered again ({self._drops() or 'none were dropped'})")

    def _close_exporter(self) -> None:
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            guard.call(guard.site("export.exporter"), exporter.close)

    # -- accounts -----------------------------------------------------------------------------------------------

    def _count_drop(self, reason: str, count: int) -> None:
        if count:
            key = reason.split(":", 1)[0].strip()
            self.dropped[key] = self.dropped.get(key, 0) + count
            guard.count(f"spans.dropped.{key}", count)

    def _drops(self) -> str:
        return ", ".join(f"{count} dropped: {reason}" for reason, count in self.dropped.items())

    def _drop_all(self, reason: str) -> None:
        count = 0
        try:
            while True:
                self._pending.popleft()
                count += 1
        except IndexError:
            pass
        with self._done:
            self._count_drop(reason, count)
            self._finished += count
            self._done.notify_all()

    def stats(self) -> dict[str, Any]:
        """Spans exported, dropped by reason, and queued (waiting or being sent)."""
        return {"exported": self.exported, "dropped": dict(self.dropped), "queued": len(self._pending) + self._in_flight}

    # -- flushing and stopping ----------------------------------------------------------------------------------

    def flush(self, timeout: float = 5.0) -> bool:
        """Send everything that has been put. False if `timeout` seconds were not enough; the rest goes on being sent."""
        deadline = time.monotonic() + timeout
        target = self._finished + self._in_flight + len(self._pending)
        if target <= self._finished:
            return True
        if self._thread is None or not self._thread.is_alive():
            self._thread = None
            self._start()
        if self._thread is None:
            return self._send_here(deadline)
        self._flushing += 1
        try:
            self._event.set()
            with self._done:
                while self._finished < target:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._done.wait(left):
                        return self._finished >= target
            return True
        finally:
            self._flushing -= 1

    def _send_here(self, deadline: float) -> bool:
        """Send from the calling thread, where no other can be started any more."""
        from lighttrace.export.quiet import quiet

        self._deadline = deadline
        with quiet():
            while self._pending and time.monotonic() < deadline:
                self._export(self._take())
        self._deadline = None
        return not self._pending

    def shutdown(self, timeout: float | None = None) -> bool:
        """Flush within `timeout` seconds and stop. What could not be sent by then is counted as dropped."""
        if self._closed:
            return True
        timeout = self.exit_timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        self._deadline = deadline
        self._hurry.set()
        done = self.flush(timeout * 0.95)  # what is left is for the interpreter's own way out
        self._closed = True
        self.wake_at = 0
        self._event.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0 if done else 0.0)
        with self._done:
            if self._in_flight and (thread is None or thread.is_alive()):
                # Abandoned while it was being sent: whether it arrives after all cannot be known from here.
                self._count_drop("shutdown", self._in_flight)
                self._finished += self._in_flight
                self._in_flight = 0
        self._drop_all("shutdown")
        return done
