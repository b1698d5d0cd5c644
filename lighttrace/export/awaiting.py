"""What a flush waits for."""

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lighttrace.tracing.span import Span


class Awaited:
    """The spans that were in the queue when a flush began. Whoever calls holds the queue's lock.

    Spans leave in the order in which they came, so that it is enough to count them, until some are shed.
    """

    __slots__ = ("_ids", "left")

    def __init__(self, count: int) -> None:
        self.left = count
        self._ids: set[int] | None = None

    def tell_apart(self, spans: "Iterable[Span]") -> None:
        """From now on they may leave in any order: `spans` are all that are here, the oldest first."""
        if self._ids is None:
            self._ids = set(map(id, islice(spans, self.left)))

    def gone(self, spans: "list[Span]") -> None:
        """These left, one way or the other."""
        if self._ids is None:
            self.left = max(0, self.left - len(spans))
        else:
            self._ids.difference_update(map(id, spans))
            self.left = len(self._ids)
