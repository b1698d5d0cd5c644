"""What a full queue lets go of: what says least first, and of that the oldest."""

from collections import deque
from typing import TYPE_CHECKING

from lighttrace.tracing.weight import weigh

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span


def precedence(span: "Span") -> int:
    """What is let go first: 0 a call that succeeded, 1 anything else that did, 2 errors and the entries of requests."""
    kind = span._kind._value_
    local = span._local
    far = local.far if local is not None else None
    if span._status == 2 or not span._parent_id or (kind == 1 and far is not None and far.parent_id):
        return 2
    return 0 if kind == 2 or kind == 3 else 1


class Sieve:
    """What was kept when room was made, by precedence. Each span is looked at once, however long the queue stays full."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: tuple[deque[Span], deque[Span]] = (deque(), deque())  # of precedence 1 and 2

    def __len__(self) -> int:
        return len(self._kept[0]) + len(self._kept[1])

    def pop(self, most: int) -> "list[Span]":
        """As many as `most`, what says more first."""
        taken: list[Span] = []
        for kept in reversed(self._kept):
            while kept and len(taken) < most:
                taken.append(kept.popleft())
        return taken

    def all(self) -> "list[Span]":
        """Everything that was kept."""
        return [*self._kept[1], *self._kept[0]]

    def shed(self, pending: "deque[Span]", wanted: int, excess: int, gone: "list[Span]") -> None:
        """Let go of `wanted` spans, or of as many as hold `excess` bytes: of `pending` from the left, then of what was kept.

        They are added to `gone`. What must not go yet moves from `pending`, to which others may append meanwhile, into the sieve.
        """
        weighing = excess > 0
        for _ in range(len(pending)):
            if len(gone) >= wanted and excess <= 0:
                return
            span = pending.popleft()
            level = precedence(span)
            if level:
                self._kept[level - 1].append(span)
            else:
                gone.append(span)
                if weighing:
                    excess -= weigh(span)
        for kept in self._kept:
            while kept and (len(gone) < wanted or excess > 0):
                span = kept.popleft()
                gone.append(span)
                if weighing:
                    excess -= weigh(span)
