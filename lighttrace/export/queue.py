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
from typing import TYPE_CHECKING, Any

from lighttrace import guard, semconv
from lighttrace.export.exporter import Exporter, Outcome
from lighttrace.export.shedding import choose, weigh

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span

_USUAL_BATCH = 512
_WAKE_AFTER = 4  # batches
_STEP = 64  # while the worker is behind, the queue is weighed every so many spans
_SHED = 8  # one part in so many is let go at once when the queue is full
_BACKOFF = (0.25, 5.0)  # seconds: the first pause between tries, and the longest
_LAST_TRIES = 3  # for a batch on the way out: a program that ends waits for no backend to come up

_parents: list[Any] = []
"""In a forked child: exporters of its parent. Nothing may close them here, not even the collection of garbage."""


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
        # A worker that wants to run while the program computes gets its turn at a system call of the program's, loses it
        # at the next one, and each such change costs microseconds: few wake-ups with much to do are cheaper than many.
        # Whoever asks for small batches wants spans to arrive soon.
        batches = _WAKE_AFTER * self.batch_size if self.batch_size >= _USUAL_BATCH else self.batch_size
        self.wake_size = max(self.batch_size, min(size // 2, batches))
        self.delay = max(delay, 0.01)  # zero would keep a processor busy
        self.export_timeout = export_timeout or 3600.0
        self.exit_timeout = exit_timeout
        self.exported = 0
        self.dropped: dict[str, int] = {}
        self._told = 0  # drops that have been told on a resource
        self._closed = False
        self._down = False
        self._exporter: Exporter | None = None
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
        self._sending = threading.Lock()  # one at a time, where no worker can be started
        # Held, but for the moment between a wake-up and the worker's taking note. Unlike an Event it may be released by
        # a signal handler or a finalizer that ends a span while its own thread is in the middle of doing the same.
        self._wake = threading.Lock()
        self._wake.acquire()
        self._hurry = threading.Event()  # shutting down: stop pausing between tries
        # Guards the books. Reentrant for the same reason; the program's side never waits for it.
        self._done = threading.Condition(threading.RLock())
        self._flushing = 0
        self._shed_untold = False
        self._finished = 0  # spans that left, one way or the other
        self._exporter = None
        self._deadline: float | None = None

    def in_child(self) -> None:
        """After a fork: the parent's spans are the parent's to send. Nothing is joined, closed, logged or started."""
        self.exported = 0
        self.dropped = {}
        self._told = 0
        self._down = False
        if self._exporter is not None:
            _parents.append(self._exporter)
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
            if waiting < self.wake_size:
                self.wake_at = self.wake_size
                return
            if self._wake.locked():
                self._wake_up()
            if self._behind:
                self._weigh(waiting)
            if waiting >= self.size:
                self._shed(waiting - self.size + max(1, self.size // _SHED), 0, "queue_full")
            elif self._weighed > self.most_bytes:
                self._shed(0, self.most_bytes * (_SHED - 1) // _SHED, "queue_bytes")
            self.wake_at = min(len(self._pending) + _STEP, self.size)
            if len(self._pending) < self.wake_size:  # the worker caught up meanwhile, and said so before this
                self.wake_at = self.wake_size
        except Exception as error:
            guard.site("export.queue").failed(error)

    def _wake_up(self) -> None:
        try:
            self._wake.release()
        except RuntimeError:  # somebody else did
            pass

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
        """Let go of `wanted` spans, or of as many as hold more than `most_bytes`."""
        if not self._done.acquire(blocking=False):
            return  # another thread is at it, or the worker is taking some; the next span comes here again
        try:
            pending = self._pending
            taken = self._pop(len(pending))
            gone = choose(taken, wanted, most_bytes)
            kept = [span for index, span in enumerate(taken) if index not in gone]
            pending.extendleft(reversed(kept))
            self._weighed = sum(map(weigh, kept)) if most_bytes else self._weighed * len(kept) // max(1, len(taken))
            self._weighed_spans = len(kept)
            if gone:
                self._shed_untold = True  # the worker tells: writing a log line may take its time
                self._count_drop(reason, len(gone))
                self._finished += len(gone)
                self._done.notify_all()
        finally:
            self._done.release()

    def _pop(self, most: int) -> "list[Span]":
        taken = []
        pending = self._pending
        try:
            for _ in range(most):
                taken.append(pending.popleft())  # noqa: PERF401  # what was taken before an IndexError must be kept
        except IndexError:
            pass
        return taken

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
        due = time.monotonic() + self.delay
        with quiet():
            while not self._closed or self._pending:
                self._wake.acquire(timeout=max(0.0, due - time.monotonic()))
                if pid != self._pid:
                    return
                now = time.monotonic()
                everything = now >= due or bool(self._flushing) or self._closed
                # What stays behind this time was put from now on, and goes when it has waited for `delay`.
                due = now + self.delay
                while self._pending and (everything or len(self._pending) >= self.batch_size):
                    self._export(self._take())
                    everything = everything or bool(self._flushing) or self._closed
                    if self._out_of_time():
                        break
                self.wake_at = self.wake_size
                if self._out_of_time():
                    break
            self.wake_at = 0
            self._close_exporter()

    def _out_of_time(self) -> bool:
        return self._closed and self._deadline is not None and time.monotonic() >= self._deadline

    def _take(self) -> "list[Span]":
        with self._done:
            batch = self._pop(self.batch_size)
            self._in_flight = len(batch)
            self._weighed = max(0, self._weighed - 600 * len(batch)) if self._pending else 0
            self._weighed_spans = len(self._pending)
        return batch

    def _export(self, batch: "list[Span]") -> None:
        """Send one batch, trying again within one deadline; the spans are accounted for in any case."""
        if not batch:  # shed in the meantime
            return
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
        except (Exception, SystemExit) as error:  # somebody else's exporter must not end the worker
            guard.site("export.exporter").failed(error)
        finally:
            self._behind = False
            self._settle(len(batch), reason, min(rejected, len(batch)))
            self._tell_drops()

    def _try(self, exporter: Exporter, payload: Any) -> Outcome:
        deadline = time.monotonic() + self.export_timeout
        pause = _BACKOFF[0]
        last_tries = 1 if self._down else _LAST_TRIES
        while True:
            outcome = exporter.send(payload, max(0.05, self._until(deadline) - time.monotonic()))
            self._tell(outcome)
            if not outcome.reason or not outcome.retry:
                return outcome
            hurried = self._hurry.is_set()
            if hurried:
                last_tries -= 1
                if last_tries <= 0:
                    return outcome
            # Jitter, so that a hundred services do not come back at the same moment.
            jitter = 0.5 + int.from_bytes(os.urandom(2), "big") / 65536
            wait = outcome.retry_after if outcome.retry_after is not None else pause * jitter
            pause = min(pause * 2, _BACKOFF[1])
            again = time.monotonic() + wait
            if again >= self._until(deadline):
                return outcome
            if hurried:
                time.sleep(wait)
            elif self._hurry.wait(wait):
                pause = _BACKOFF[0]
                if outcome.retry_after is not None:  # the program ends, and the backend has said when: then, or not at all
                    if again >= self._until(deadline):
                        return outcome
                    time.sleep(max(0.0, again - time.monotonic()))

    def _until(self, deadline: float) -> float:
        return deadline if self._deadline is None else min(deadline, self._deadline)

    def _settle(self, count: int, reason: str, rejected: int) -> None:
        with self._done:
            if not self._in_flight:  # given up by `shutdown` and counted there
                return
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

    def _tell_drops(self) -> None:
        if self._shed_untold:
            self._shed_untold = False
            guard.log("export.dropping", f"the queue was full and spans were dropped ({self._drops()}); see lighttrace doctor")

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
        with self._done:
            count = len(self._pop(len(self._pending)))
            self._count_drop(reason, count)
            self._finished += count
            self._done.notify_all()

    def stats(self) -> dict[str, Any]:
        """Spans exported, dropped by reason, and queued (waiting or being sent): together, all that were ever put."""
        with self._done:
            return {"exported": self.exported, "dropped": dict(self.dropped), "queued": len(self._pending) + self._in_flight}

    # -- flushing and stopping ----------------------------------------------------------------------------------

    def flush(self, timeout: float = 5.0) -> bool:
        """Send everything that has been put. False if `timeout` seconds were not enough; the rest goes on being sent."""
        deadline = time.monotonic() + timeout
        if self._pid != os.getpid():  # forked without Python's hooks
            self.in_child()
        with self._done:
            target = self._finished + self._in_flight + len(self._pending)
            if target <= self._finished:
                return True
            self._flushing += 1
        try:
            if not self._working():
                return self._send_here(deadline)
            self._wake_up()
            with self._done:
                while self._finished < target:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._done.wait(left):
                        return self._finished >= target
            return True
        finally:
            with self._done:
                self._flushing -= 1

    def _working(self) -> bool:
        """Whether a worker is there, or could be started."""
        with self._done:
            thread = self._thread
            if thread is not None and thread.ident is not None and not thread.is_alive():
                self._thread = None  # it died with the interpreter's threads, or a fork took it
            if self._thread is None:
                self._start()
            return self._thread is not None

    def _send_here(self, deadline: float) -> bool:
        """Send from the calling thread, where no other can be started any more."""
        from lighttrace.export.quiet import quiet

        if not self._sending.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return False
        before, self._deadline = self._deadline, deadline
        try:
            with quiet():
                while self._pending and time.monotonic() < deadline:
                    self._export(self._take())
        finally:
            self._deadline = before
            self._sending.release()
        return not self._pending

    def shutdown(self, timeout: float | None = None) -> bool:
        """Flush within `timeout` seconds and stop. What could not be sent by then is counted as dropped."""
        if self._closed:
            return True
        timeout = self.exit_timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        if self._pid != os.getpid():
            self.in_child()
        self._deadline = deadline
        self._hurry.set()
        done = self.flush(timeout * 0.95)  # what is left is for the interpreter's own way out
        self._closed = True
        self.wake_at = 0
        self._wake_up()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            # What was put while the rest was flushed goes too, if there is time.
            thread.join(max(0.05, deadline - time.monotonic()) if done else 0.0)
        with self._done:
            if self._in_flight:
                # Abandoned while it was being sent: whether it arrives after all cannot be known from here.
                self._count_drop("shutdown", self._in_flight)
                self._finished += self._in_flight
                self._in_flight = 0
        self._drop_all("shutdown")
        if thread is None:
            self._close_exporter()
        self._tell_drops()
        return done
