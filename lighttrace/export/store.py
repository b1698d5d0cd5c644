"""Where spans wait to be sent: bounded in spans and in bytes. It knows nothing of threads: whoever calls holds the queue's lock."""

from collections import deque
from itertools import repeat, starmap
from typing import TYPE_CHECKING

from lighttrace.export.shedding import Sieve
from lighttrace.tracing.weight import weigh

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span

_USUAL_BATCH = 512
_WAKE_AFTER = 8192  # where the queue has room for it: at full load that is every second or two
_STEP = 64  # while the worker is behind, the store is weighed every so many spans
_SHED = 16  # spans that are let go at once when the queue is full: few, so that no request pays for many
_SHED_BYTES = 64  # and one part in so many of the bytes


class Store:
    """New spans are appended to `pending`, by any thread and without the lock; everything else is done under it."""

    __slots__ = (
        "_sieve",
        "_weighed",
        "_weighed_spans",
        "_weighings",
        "enough",
        "held",
        "most_bytes",
        "pending",
        "size",
        "wake_size",
    )

    def __init__(self, size: int, most_bytes: int, batch_size: int) -> None:
        self.size = size
        self.most_bytes = most_bytes
        # A worker that wants to run while the program computes asks for its turn at every system call of the program's, and
        # each time costs both of them microseconds: few wake-ups with much to do are cheaper than many.
        # Whoever asks for small batches wants spans to arrive soon.
        self.enough = min(batch_size, _USUAL_BATCH)  # for a batch, once the worker is awake
        self.wake_size = max(self.enough, min(size // 2, _WAKE_AFTER if batch_size >= _USUAL_BATCH else batch_size))
        self.pending: deque[Span] = deque()
        self.held = 0  # spans that are being looked through to make room
        self._sieve = Sieve()  # what the store was full of, and must not go yet
        self._weighed = 0  # about how many bytes the spans hold
        self._weighed_spans = 0  # how many of those in `pending` were weighed, from the left
        self._weighings = 0

    def __len__(self) -> int:
        return len(self.pending) + len(self._sieve)

    @property
    def full(self) -> bool:
        """Whether as many spans are here as may be, also while another thread makes room."""
        return len(self.pending) + self.held + len(self._sieve) >= self.size

    def look_up_after(self) -> int:
        """With how many spans in `pending` there is something to do: when it is worth waking the worker, then every so often."""
        kept = len(self._sieve)
        waiting = len(self.pending) + kept
        return self.wake_size if waiting < self.wake_size else max(1, min(waiting + _STEP, self.size) - kept)

    def weigh(self) -> None:
        """Weigh what is new: all of it where bytes are scarce, else some."""
        pending = self.pending
        waiting = len(pending)
        new = waiting - self._weighed_spans
        if new > 0:
            self._weighings += 1
            step = 1 if self._weighed > self.most_bytes // 4 else 4
            some = range(waiting - 1 - self._weighings % step, max(-1, waiting - 1 - min(new, 4 * _STEP)), -step)
            if some:
                self._weighed += sum([weigh(pending[index]) for index in some]) * new // len(some)
            self._weighed_spans = waiting

    def too_much(self, waiting: int) -> tuple[int, int, str]:
        """How many spans or bytes must go, and why, where `waiting` spans are here. The reason is empty if none must."""
        if waiting >= self.size:
            return waiting - self.size + min(_SHED, self.size // 8 + 1), 0, "queue_full"
        if self._weighed > self.most_bytes:
            return 0, self._weighed - self.most_bytes * (_SHED_BYTES - 1) // _SHED_BYTES, "queue_bytes"
        return 0, 0, ""

    def shed(self, wanted: int, excess: int, gone: "list[Span]") -> None:
        """Let go of `wanted` spans, or of as many as hold `excess` bytes. They are added to `gone`, whatever happens on the way."""
        before = self.held = len(self)
        try:
            self._sieve.shed(self.pending, wanted, excess, gone)
        finally:
            self.held = 0
            light = self._weighed * len(gone) // max(1, before)
            self._weighed = max(0, self._weighed - (sum(map(weigh, gone)) if excess else light))
            self._weighed_spans = len(self.pending)

    def take(self, most: int) -> "list[Span]":
        """The next `most` spans, or as many as there are."""
        before = len(self)
        taken = self._sieve.pop(most)
        pending = self.pending
        # Without a step of the interpreter's in between: a list that grew one by one cost a tenth of encoding the spans.
        try:
            taken.extend(starmap(pending.popleft, repeat((), min(most - len(taken), len(pending)))))
        except IndexError:  # a fork or a finalizer took some: those that were taken here are in the list
            pass
        self._weighed = self._weighed * len(self) // max(1, before)
        self._weighed_spans = min(self._weighed_spans, len(pending))
        return taken

    def put_back(self, batch: "list[Span]") -> None:
        """Have spans again that were taken, before all others."""
        self.pending.extendleft(reversed(batch))

    def all(self) -> "list[Span]":
        """Every span that waits: those that were looked through to make room, in no order, then the others as they came."""
        return [*self._sieve.all(), *self.pending]
