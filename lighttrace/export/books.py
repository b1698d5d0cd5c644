"""The books of a queue: how many spans were exported, and how many dropped, by reason. Whoever writes them holds the queue's lock."""

from typing import Any

from lighttrace import guard
from lighttrace.export.exporter import Outcome


class Books:
    """Every span that was put is exported, dropped for a stated reason, or still in the queue.

    >>> books = Books()
    >>> books.settle(Outcome(rejected=1), sent=5, broken=0)
    >>> books.drop("status_400: no such path", 2)
    >>> books.stats(queued=3)
    {'exported': 4, 'dropped': {'rejected': 1, 'status_400': 2}, 'queued': 3}
    >>> books.text()
    '1 dropped: rejected, 2 dropped: status_400'
    """

    __slots__ = ("_told", "doubtful", "dropped", "exported")

    def __init__(self) -> None:
        self.exported = 0
        self.dropped: dict[str, int] = {}
        self.doubtful = 0  # of those dropped: the last answer was lost, so the backend may have them
        self._told = 0  # drops that have been told on a resource

    def drop(self, reason: str, count: int) -> None:
        """Count drops by what stands before the colon of `reason`."""
        if count:
            key = reason.split(":", 1)[0].strip()
            self.dropped[key] = self.dropped.get(key, 0) + count
            guard.count(f"spans.dropped.{key}", count)

    def doubt(self, count: int) -> None:
        """Note that so many of those dropped may have arrived."""
        self.doubtful += count
        guard.count("spans.dropped_unanswered", count)

    def settle(self, outcome: Outcome, sent: int, broken: int) -> None:
        """Account for a batch: what came of the `sent` spans, and `broken` that could not be encoded."""
        if broken:
            self.dropped["unencodable"] = self.dropped.get("unencodable", 0) + broken  # guard's counters have it already
        if outcome.reason:
            self.drop(outcome.reason, sent)
            if outcome.unanswered:
                self.doubt(sent)
        else:
            rejected = min(outcome.rejected, sent)
            self.exported += sent - rejected
            self.drop("rejected", rejected)

    def untold(self) -> int:
        """How many spans were dropped altogether, if the backend has not been told yet; else 0."""
        dropped = sum(self.dropped.values())
        return dropped if dropped > self._told else 0

    def told(self, dropped: int) -> None:
        """Note that the backend has been told of that many. Only the worker does this, and needs no lock."""
        self._told = dropped

    def text(self) -> str:
        """The drops, for a line in the log. Needs no lock."""
        return ", ".join(f"{count} dropped: {reason}" for reason, count in self.dropped.copy().items())

    def stats(self, queued: int) -> dict[str, Any]:
        """The books as they are shown, with what is still there."""
        return {"exported": self.exported, "dropped": self.dropped.copy(), "queued": queued}
