"""The queue between the program and the backend, and the worker that empties it.

The program's side is `put`: an append and a comparison, no lock, no system call. Everything else happens on the
worker's thread, which starts with the first span that ends, or while the worker is behind. Only where the queue is full
does the program's side wait, and only for another thread that is making room in it: never for the network.

Books are kept: every span that was put is exported, dropped for a stated reason, or still here (`stats`).
"""

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lighttrace import forks, guard
from lighttrace.export.alarm import Alarm
from lighttrace.export.awaiting import Awaited
from lighttrace.export.books import Books
from lighttrace.export.exporter import Exporter, Outcome
from lighttrace.export.sending import Sender
from lighttrace.export.store import Store
from lighttrace.tracing.spare import reuse

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span

_CONTENDED_S = (
    0.25  # how long the program's side waits for another thread that makes room: at exit it may have been stopped there
)
_PAUSE_S = 0.5  # how long gevent's patching waits for the worker to be out of the way


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
        batch_size: int = 2048,
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
        self.delay = max(delay, 0.01)  # zero would keep a processor busy
        self.export_timeout = export_timeout or 3600.0
        self.exit_timeout = exit_timeout
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        """Everything that a forked child must not share with its parent."""
        self.wake_at = 1
        self._store = Store(self.size, self.most_bytes, self.batch_size)
        self.pending = self._store.pending  # for `put` and `Span.end`, which save a look-up
        self._in_flight: list[Span] = []
        self._books = Books()
        self._behind = False
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._make_locks()
        self._flushes: list[Awaited] = []
        self._shed_untold = False
        self._sender = Sender(self._make_exporter, self.export_timeout)
        self._resumed = True

    def _make_locks(self) -> None:
        self._starting = threading.Lock()
        self._sending = threading.Lock()  # one at a time, where no worker can be started
        self._alarm = Alarm()
        # Guards the store and the books. Reentrant, because a signal handler or a finalizer may end a span while its own
        # thread is in the middle of this; the program's side never waits for it.
        self._done = threading.Condition(threading.RLock())

    def in_child(self) -> None:
        """After a fork: the parent's spans are the parent's to send. Nothing is joined, closed, logged or started."""
        self._sender.leave_to_parent()
        self._reset()

    # -- the program's side -------------------------------------------------------------------------------------

    def put(self, span: "Span") -> None:
        """Take a span that has ended. `Span.end` does the same by itself."""
        pending = self.pending
        pending.append(span)
        if len(pending) >= self.wake_at:
            self.attend()

    def attend(self) -> None:
        """Start or wake the worker; weigh and shed while it is behind. Runs when `wake_at` says so."""
        try:
            if self._pid != os.getpid():  # forked without Python's hooks
                last = self.pending[-1] if self.pending else None
                self.in_child()
                if last is not None:
                    self.pending.append(last)
            if self._closed:
                self._drop_all("after_shutdown")
                return
            if self._thread is None:
                self._start()
            if not self._done.acquire(timeout=_CONTENDED_S if self._store.full else 0):
                return  # the next span comes here again
            try:
                if not self._store.held:  # else a finalizer ended a span in the middle of this
                    self._make_room()
            finally:
                self._done.release()
        except Exception as error:
            guard.site("export.queue").failed(error)

    def _make_room(self) -> None:
        """Wake the worker if there is enough for it, and keep to the bounds. Under the lock."""
        store = self._store
        waiting = len(store)
        if waiting >= store.wake_size:
            self._alarm.ring()
            if self._behind:
                store.weigh()
            wanted, excess, reason = store.too_much(waiting)
            if reason:
                self._shed(wanted, excess, reason)
        self.wake_at = store.look_up_after()

    def _shed(self, wanted: int, excess: int, reason: str) -> None:
        """Let go of what is too much. Under the lock."""
        self.wake_at = max(1, wanted)  # who comes while the spans are looked through finds the queue as full as it was
        gone: list[Span] = []
        self._tell_apart()
        try:
            self._store.shed(wanted, excess, gone)
        finally:
            if gone:
                self._shed_untold = True  # the worker tells: writing a log line may take its time
                self._drop(reason, gone)

    def _start(self) -> None:
        if self._sender.paused:
            return
        if not self._alarm.fits():  # threads are greenlets now, and a real lock would stop all of them at once
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
        while not self._closed or len(self._store):
            self._alarm.sleep(due - time.monotonic())
            if pid != self._pid:
                return
            now = time.monotonic()
            everything = now >= due or bool(self._flushes) or self._closed
            # What stays behind this time was put from now on, and goes when it has waited for `delay`.
            due = now + self.delay
            while (waiting := len(self._store)) and (everything or waiting >= self._store.enough) and not self._must_end():
                if not self._may_send():
                    break
                self._export(self._take())
                everything = everything or bool(self._flushes) or self._closed
            with self._done:
                self.wake_at = self._store.look_up_after()
            if self._must_end():
                break
        self.wake_at = 0
        self._sender.close()

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
            batch = self._in_flight = self._store.take(self._sender.most(self.batch_size))
        return batch

    def _export(self, batch: "list[Span]") -> None:
        """Send one batch, trying again within one deadline; the spans are accounted for in any case."""
        try:
            going = bool(batch)  # else it was shed in the meantime
            while going:
                part = batch[: self._sender.most(len(batch))]
                outcome, broken = self._deliver(part)
                if not outcome.too_large:  # else there will be less next time
                    going = self._settle(batch, part, outcome, broken)
                    if self._sender.encodes:  # else somebody may hold the list, and with it what nobody seems to hold
                        reuse(part)
                    self._tell_drops()
        finally:
            if batch:  # by an exception that is not ours to stop, or settled already: it is asked there
                self._settle(batch, batch.copy(), Outcome("error"), 0)

    def _deliver(self, part: "list[Span]") -> tuple[Outcome, int]:
        """What became of some spans, and how many of them could not be encoded."""
        broken: list[Span] = []
        self._behind = True
        try:
            return self._sender.deliver(part, broken, self._books), len(broken)
        except (Exception, SystemExit) as error:  # somebody else's exporter must not end the worker
            guard.site("export.exporter").failed(error)
            return Outcome("error"), len(broken)
        finally:
            self._behind = False

    def _settle(self, batch: "list[Span]", part: "list[Span]", outcome: Outcome, broken: int) -> bool:
        """Account for what a batch begins with, which was sent or could not be. False if nothing is left of it to be sent now."""
        with self._done:
            if self._in_flight is not batch:  # given up by `shutdown` and counted there
                return False
            if self._sender.keeps(outcome):
                self._in_flight = []
                self._store.put_back(batch)
                self._make_room()  # this says who goes if there is no room for all
                return False
            del batch[: len(part)]
            if not batch:
                self._in_flight = []
            self._books.settle(outcome, len(part) - broken, broken)
            self._leave(part)
            return bool(batch)

    def _tell_drops(self) -> None:
        if self._shed_untold and self._sender.teller.dropped(self._books.text()):
            self._shed_untold = False
            self._report_drops()

    def _report_drops(self) -> None:
        if self._report is not None and self.dropped:
            guard.call(guard.site("export.report"), self._report, self.stats())

    # -- accounts -----------------------------------------------------------------------------------------------

    def _leave(self, spans: "list[Span]") -> None:
        """Tell those who wait for spans to leave that these did, one way or the other. Under the lock."""
        if self._flushes:
            for awaited in self._flushes:
                awaited.gone(spans)
            if any(not awaited.left for awaited in self._flushes):
                self._done.notify_all()

    def _tell_apart(self) -> None:
        """Before spans leave that are not the oldest. Under the lock."""
        for awaited in self._flushes:
            awaited.tell_apart([*self._in_flight, *self._store.all()])

    def _drop(self, reason: str, spans: "list[Span]") -> None:
        self._books.drop(reason, len(spans))
        self._leave(spans)

    def _drop_all(self, reason: str) -> None:
        if self._done.acquire(timeout=_CONTENDED_S):
            try:
                self._tell_apart()
                self._drop(reason, self._store.take(len(self._store)))
            finally:
                self._done.release()

    def waiting(self) -> "list[Span]":
        """The spans that wait to be sent, in no order."""
        with self._done:
            return self._store.all()

    @property
    def exported(self) -> int:
        """Spans that arrived, as far as an answer tells."""
        return self._books.exported

    @property
    def dropped(self) -> dict[str, int]:
        """Spans that are lost, by reason."""
        return self._books.dropped

    @property
    def doubtful(self) -> int:
        """Of those dropped: the last answer was lost, so the backend may have them."""
        return self._books.doubtful

    @property
    def repeated(self) -> int:
        """Spans that were sent again because an answer was lost: the backend may have them twice."""
        return self._sender.repeated

    def stats(self) -> dict[str, Any]:
        """Spans exported, dropped by reason, and queued (waiting or being sent): together, all that were ever put."""
        with self._done:
            return self._books.stats(len(self._store) + len(self._in_flight))

    # -- flushing and stopping ----------------------------------------------------------------------------------

    def flush(self, timeout: float = 5.0) -> bool:
        """Send everything that has been put. False if `timeout` seconds were not enough; the rest goes on being sent."""
        deadline = time.monotonic() + timeout
        if self._pid != os.getpid():  # forked without Python's hooks
            self.in_child()
        with self._done:
            awaited = Awaited(len(self._store) + len(self._in_flight))
            if not awaited.left:
                return True
            self._flushes.append(awaited)
        try:
            if not self._working():
                return self._send_here(deadline)
            self._alarm.ring()
            with self._done:
                while awaited.left:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._done.wait(left):
                        return not awaited.left
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
        self._alarm.ring()
        thread = self._thread
        return (lambda: None) if thread is None else (lambda: thread.join(_PAUSE_S))

    def resume(self) -> None:
        """Go on, with another worker, as soon as the one before is gone."""
        with self._done:
            self._resumed = True
            self._go_on()
        if len(self._store):
            self.attend()

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
                while len(self._store) and time.monotonic() < deadline and not self._must_end() and self._may_send():
                    self._export(self._take())
        finally:
            self._sender.deadline = before
            self._sending.release()
        return not len(self._store)

    def shutdown(self, timeout: float | None = None) -> bool:
        """Flush within `timeout` seconds and stop. What could not be sent by then is counted as dropped."""
        if self._closed:
            return True
        timeout = self.exit_timeout if timeout is None else timeout
        if self._pid != os.getpid():
            self.in_child()
        deadline = time.monotonic() + timeout
        if self._sender.deadline is not None:  # a signal handler, while the same thread is in the middle of this
            deadline = min(deadline, self._sender.deadline)
            timeout = max(0.0, deadline - time.monotonic())
        self._sender.deadline = deadline
        self._sender.hurry.set()
        done = self.flush(timeout - min(0.5, timeout / 10))  # what is left is for the interpreter's own way out
        self._closed = True
        self.wake_at = 0
        self._alarm.ring()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            # What was put while the rest was flushed goes too, if there is time.
            thread.join(max(0.05, deadline - time.monotonic()) if done else 0.0)
        with self._done:
            if self._in_flight:
                # Abandoned while it was being sent: whether it arrives after all cannot be known from here.
                given_up, self._in_flight = self._in_flight, []
                self._books.doubt(len(given_up))
                self._drop("shutdown", given_up)
        self._drop_all("shutdown")
        if thread is None:
            self._sender.close()
        lost = self.dropped.get("shutdown", 0)
        if lost or self._shed_untold:
            self._sender.teller.ended(self._books.text())
        self._report_drops()
        return done and not lost
