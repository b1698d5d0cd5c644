"""The queue between the program and the backend, and the worker that empties it.

The program's side is `put`: an append and a comparison, no lock, no system call. Everything else happens on the
worker's thread, which starts with the first span that ends, or while the worker is behind. Only where the queue is full
does the program's side wait, and only for another thread that is making room in it: never for the network.

Books are kept: every span that was put is exported, dropped for a stated reason, or still here (`stats`).
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lighttrace import forks, guard, semconv
from lighttrace.export.exporter import Exporter, Outcome
from lighttrace.export.sending import Sender
from lighttrace.export.shedding import Sieve, weigh

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span

_USUAL_BATCH = 512
_WAKE_AFTER = 4  # batches
_STEP = 64  # while the worker is behind, the queue is weighed every so many spans
_SHED = 16  # spans that are let go at once when the queue is full: few, so that no request pays for many
_SHED_BYTES = 64  # and one part in so many of the bytes
_CONTENDED_S = (
    0.25  # how long the program's side waits for another thread that makes room: at exit it may have been stopped there
)
_PAUSE_S = 0.5  # how long gevent's patching waits for the worker to be out of the way

_parents: list[Any] = []
"""In a forked child: exporters of its parent. Nothing may close them here, not even the collection of garbage."""


def _end_thread() -> None:
    """Let this thread end without a traceback though gevent has patched since it started: it is called by another number now."""
    active, number = getattr(threading, "_active", {}), threading.get_ident()
    if number not in active:
        active[number] = threading.current_thread()


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
        report: Callable[[dict[str, Any]], object] | None = None,
    ) -> None:
        self._make_exporter = make_exporter
        self._report = report  # is told the books when there are drops to tell
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
        self.doubtful = 0  # of those dropped: the last answer was lost, so the backend may have them
        self._told = 0  # drops that have been told on a resource
        self._closed = False
        self._exporter: Exporter | None = None
        self._reset()

    def _reset(self) -> None:
        """Everything that a forked child must not share with its parent."""
        self.wake_at = 1
        self._pending: deque[Span] = deque()
        self._sieve = Sieve()  # what the queue was full of, and must not go yet
        self._in_flight: list[Span] = []
        self._held = 0  # spans that are being looked through to make room
        self._weighed = 0  # about how many bytes the spans hold
        self._weighed_spans = 0  # how many of those in `_pending` were weighed, from the left
        self._weighings = 0
        self._behind = False
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._make_locks()
        self._flushes: list[set[int]] = []  # of each flush: the spans that it waits for, by id()
        self._shed_untold = False
        self._sender = Sender(self.export_timeout)
        self._resumed = True
        self._exporter = None

    def _make_locks(self) -> None:
        self._starting = threading.Lock()
        self._sending = threading.Lock()  # one at a time, where no worker can be started
        # Held, but for the moment between a wake-up and the worker's taking note. Unlike an Event it may be released by
        # a signal handler or a finalizer that ends a span while its own thread is in the middle of doing the same.
        self._wake = threading.Lock()
        self._wake.acquire()
        # Guards the books. Reentrant for the same reason; the program's side never waits for it.
        self._done = threading.Condition(threading.RLock())

    def in_child(self) -> None:
        """After a fork: the parent's spans are the parent's to send. Nothing is joined, closed, logged or started."""
        self.exported = 0
        self.dropped = {}
        self.doubtful = 0
        self._told = 0
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
            if self._thread is None:
                self._start()
            full = len(self._pending) + self._held + len(self._sieve) >= self.size
            if not self._done.acquire(timeout=_CONTENDED_S if full else 0):
                return  # the next span comes here again
            try:
                if not self._held:  # else a finalizer ended a span in the middle of this
                    self._make_room()
            finally:
                self._done.release()
        except Exception as error:
            guard.site("export.queue").failed(error)

    def _make_room(self) -> None:
        """Wake the worker if there is enough for it, and keep to the bounds. Under the lock."""
        waiting = len(self._pending) + len(self._sieve)
        if waiting >= self.wake_size:
            if self._wake.locked():
                self._wake_up()
            if self._behind:
                self._weigh()
            if waiting >= self.size:
                self._shed(waiting - self.size + min(_SHED, self.size // 8 + 1), 0, "queue_full")
            elif self._weighed > self.most_bytes:
                self._shed(0, self._weighed - self.most_bytes * (_SHED_BYTES - 1) // _SHED_BYTES, "queue_bytes")
        self._set_wake()

    def _set_wake(self) -> None:
        """When `put` is to look up next. Under the lock."""
        kept = len(self._sieve)
        waiting = len(self._pending) + kept
        self.wake_at = self.wake_size if waiting < self.wake_size else max(1, min(waiting + _STEP, self.size) - kept)

    def _wake_up(self) -> None:
        try:
            self._wake.release()
        except RuntimeError:  # somebody else did
            pass

    def _weigh(self) -> None:
        """Weigh what is new: all of it where bytes are scarce, else some."""
        pending = self._pending
        waiting = len(pending)
        new = waiting - self._weighed_spans
        if new > 0:
            self._weighings += 1
            step = 1 if self._weighed > self.most_bytes // 4 else 4
            some = range(waiting - 1 - self._weighings % step, max(-1, waiting - 1 - min(new, 4 * _STEP)), -step)
            if some:
                self._weighed += sum([weigh(pending[index]) for index in some]) * new // len(some)
            self._weighed_spans = waiting

    def _shed(self, wanted: int, excess: int, reason: str) -> None:
        """Let go of `wanted` spans, or of as many as hold `excess` bytes. Under the lock."""
        pending = self._pending
        before = len(pending) + len(self._sieve)
        self._held = before
        self.wake_at = max(1, wanted)  # who comes while they are looked through finds the queue as full as it was
        gone: list[Span] = []
        try:
            self._sieve.shed(pending, wanted, excess, gone)
        finally:
            self._held = 0
            light = self._weighed * len(gone) // max(1, before)
            self._weighed = max(0, self._weighed - (sum(map(weigh, gone)) if excess else light))
            self._weighed_spans = len(pending)
            if gone:
                self._shed_untold = True  # the worker tells: writing a log line may take its time
                self._count_drop(reason, len(gone))
                self._leave(gone)

    def _pop(self, most: int) -> "list[Span]":
        """The next `most` spans, or as many as there are. Under the lock."""
        taken = self._sieve.pop(most)
        pending = self._pending
        try:
            while len(taken) < most:
                taken.append(pending.popleft())
        except IndexError:
            pass
        return taken

    def _waiting(self) -> int:
        return len(self._pending) + len(self._sieve)

    def _start(self) -> None:
        if self._sender.paused:
            return
        if type(threading.Lock()) is not type(self._wake):
            # Patched by gevent or eventlet since: threads are greenlets now, and a real lock would stop all of them at once.
            self._make_locks()
            self._sender.hurry = threading.Event()
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
        pid = self._pid
        try:
            with forks.still:
                from lighttrace.export.quiet import quiet

            with quiet():
                self._work(pid)
        except Exception as error:  # the next span that ends starts another worker
            guard.site("export.worker").failed(error)
        finally:
            if pid == self._pid and not self._closed:
                with self._done:
                    self._thread = None
                    self._go_on()
        _end_thread()

    def _work(self, pid: int) -> None:
        due = time.monotonic() + self.delay
        while not self._closed or self._waiting():
            self._wake.acquire(timeout=max(0.0, due - time.monotonic()))
            if pid != self._pid:
                return
            now = time.monotonic()
            everything = now >= due or bool(self._flushes) or self._closed
            # What stays behind this time was put from now on, and goes when it has waited for `delay`.
            due = now + self.delay
            while (waiting := self._waiting()) and (everything or waiting >= self.batch_size) and not self._must_end():
                if not self._may_send():
                    break
                self._export(self._take())
                everything = everything or bool(self._flushes) or self._closed
            with self._done:
                self._set_wake()
            if self._must_end():
                break
        self.wake_at = 0
        self._close_exporter()

    def _must_end(self) -> bool:
        deadline = self._sender.deadline
        return self._sender.paused or (self._closed and deadline is not None and time.monotonic() >= deadline)

    def _may_send(self) -> bool:
        self._behind = True  # while the backend wants to be left alone, too
        if self._sender.wait(self._tell_drops):
            return True
        self._drop_all("shutdown")
        return False

    def _take(self) -> "list[Span]":
        with self._done:
            before = self._waiting()
            batch = self._in_flight = self._pop(self.batch_size)
            self._weighed = self._weighed * self._waiting() // max(1, before)
            self._weighed_spans = min(self._weighed_spans, len(self._pending))
        return batch

    def _export(self, batch: "list[Span]") -> None:
        """Send one batch, trying again within one deadline; the spans are accounted for in any case."""
        if not batch:  # shed in the meantime
            return
        outcome = Outcome("error")
        broken: list[Span] = []
        self._behind = True
        try:
            exporter = self._exporter
            if exporter is None:
                with forks.still:
                    exporter = self._exporter = self._make_exporter()
            dropped = sum(self.dropped.values())
            extra = {semconv.DROPPED_SPANS: dropped} if dropped > self._told else None
            payload = exporter.prepare(batch, extra, broken)
            outcome = self._sender.send(exporter, payload, len(batch) - len(broken), self._drops)
            if not outcome.reason and extra:
                self._told = dropped
        except (Exception, SystemExit) as error:  # somebody else's exporter must not end the worker
            guard.site("export.exporter").failed(error)
        finally:
            self._behind = False
            self._settle(batch, outcome, len(broken))
            self._tell_drops()

    def _settle(self, batch: "list[Span]", outcome: Outcome, broken: int) -> None:
        """Account for a batch that was sent, or could not be."""
        with self._done:
            if self._in_flight is not batch:  # given up by `shutdown` and counted there
                return
            self._in_flight = []
            sent = len(batch) - broken
            if self._sender.keeps(outcome):
                # Back into the queue, which says who goes if there is no room for all.
                self._pending.extendleft(reversed(batch))
                self._make_room()
                return
            if broken:
                self.dropped["unencodable"] = self.dropped.get("unencodable", 0) + broken  # guard's counters have it already
            if outcome.reason:
                self._count_drop(outcome.reason, sent)
                if outcome.unanswered:
                    self._count_doubtful(sent)
            else:
                rejected = min(outcome.rejected, sent)
                self.exported += sent - rejected
                self._count_drop("rejected", rejected)
            self._leave(batch)

    def _tell_drops(self) -> None:
        if self._shed_untold and self._sender.teller.dropped(self._drops()):
            self._shed_untold = False
            self._report_drops()

    def _report_drops(self) -> None:
        if self._report is not None and self.dropped:
            guard.call(guard.site("export.report"), self._report, self.stats())

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

    def _count_doubtful(self, count: int) -> None:
        self.doubtful += count
        guard.count("spans.dropped_unanswered", count)

    def _leave(self, spans: "list[Span]") -> None:
        """Tell those who wait for spans to leave that these did, one way or the other. Under the lock."""
        if self._flushes:
            for awaited in self._flushes:
                awaited.difference_update(map(id, spans))
            self._done.notify_all()

    def _drops(self) -> str:
        return ", ".join(f"{count} dropped: {reason}" for reason, count in self.dropped.items())

    def _drop_all(self, reason: str) -> None:
        if self._done.acquire(timeout=_CONTENDED_S):
            try:
                gone = self._pop(self._waiting())
                self._count_drop(reason, len(gone))
                self._leave(gone)
            finally:
                self._done.release()

    def waiting(self) -> "list[Span]":
        """The spans that wait to be sent, in no order."""
        with self._done:
            return [*self._sieve.all(), *self._pending]

    @property
    def repeated(self) -> int:
        """Spans that were sent again because an answer was lost: the backend may have them twice."""
        return self._sender.repeated

    def stats(self) -> dict[str, Any]:
        """Spans exported, dropped by reason, and queued (waiting or being sent): together, all that were ever put."""
        with self._done:
            return {
                "exported": self.exported,
                "dropped": dict(self.dropped),
                "queued": self._waiting() + len(self._in_flight),
            }

    # -- flushing and stopping ----------------------------------------------------------------------------------

    def flush(self, timeout: float = 5.0) -> bool:
        """Send everything that has been put. False if `timeout` seconds were not enough; the rest goes on being sent."""
        deadline = time.monotonic() + timeout
        if self._pid != os.getpid():  # forked without Python's hooks
            self.in_child()
        with self._done:
            spans = [*self.waiting(), *self._in_flight]
            if not spans:
                return True
            # By identity: under a full queue spans leave in another order than they came.
            awaited = set(map(id, spans))
            del spans
            self._flushes.append(awaited)
        try:
            if not self._working():
                return self._send_here(deadline)
            self._wake_up()
            with self._done:
                while awaited:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._done.wait(left):
                        return not awaited
            return True
        finally:
            with self._done:
                self._flushes = [other for other in self._flushes if other is not awaited]

    def pause(self) -> Callable[[], object]:
        """Have the worker end as soon as what it is doing is done, and start no other; what is not sent stays in the queue.

        Gives a function that waits a moment for it to be gone. One that waits for a backend goes when that has answered, or
        has not.
        """
        self._resumed = False
        self._sender.paused = True
        self._sender.hurry.set()
        self._wake_up()
        thread = self._thread
        return (lambda: None) if thread is None else (lambda: thread.join(_PAUSE_S))

    def resume(self) -> None:
        """Go on, with another worker, as soon as the one before is gone."""
        with self._done:
            self._resumed = True
            self._go_on()
        if self._waiting():
            self._attend()

    def _go_on(self) -> None:
        """Let another worker be started, by the next span that ends. Under the lock."""
        if self._resumed and self._thread is None:
            if self._sender.paused:
                self._sender.paused = False
                self._sender.hurry = threading.Event()
            self.wake_at = 1

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
        before, self._sender.deadline = self._sender.deadline, deadline
        try:
            with quiet():
                while self._waiting() and time.monotonic() < deadline and not self._must_end() and self._may_send():
                    self._export(self._take())
        finally:
            self._sender.deadline = before
            self._sending.release()
        return not self._waiting()

    def shutdown(self, timeout: float | None = None) -> bool:
        """Flush within `timeout` seconds and stop. What could not be sent by then is counted as dropped."""
        if self._closed:
            return True
        timeout = self.exit_timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        if self._pid != os.getpid():
            self.in_child()
        self._sender.deadline = deadline
        self._sender.hurry.set()
        done = self.flush(timeout - min(0.5, timeout / 10))  # what is left is for the interpreter's own way out
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
                given_up, self._in_flight = self._in_flight, []
                self._count_drop("shutdown", len(given_up))
                self._count_doubtful(len(given_up))
                self._leave(given_up)
        self._drop_all("shutdown")
        if thread is None:
            self._close_exporter()
        lost = self.dropped.get("shutdown", 0)
        if lost or self._shed_untold:
            self._sender.teller.ended(self._drops())
        self._report_drops()
        return done and not lost
