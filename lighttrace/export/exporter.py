"""What the queue asks of an exporter, and what it is told."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span


class Outcome:
    """What became of one try. With an empty `reason` the spans arrived; else `retry` says whether another try may help."""

    __slots__ = ("reason", "rejected", "repeats", "retry", "retry_after", "too_large", "unanswered")

    def __init__(
        self,
        reason: str = "",
        *,
        retry: bool = False,
        retry_after: float | None = None,
        rejected: int = 0,
        unanswered: bool = False,
        repeats: int = 0,
        too_large: bool = False,
    ) -> None:
        self.reason = reason  # empty: it arrived
        self.retry = retry
        self.retry_after = retry_after  # seconds that the backend asked for
        self.rejected = rejected  # spans that the backend took and refused
        self.unanswered = unanswered  # all was sent, and what the backend said to it is not known: it may have the spans
        self.repeats = repeats  # how many times, within this try, all was sent again after an answer was lost
        self.too_large = too_large  # fewer spans at once may be taken


ARRIVED = Outcome()


class Exporter(Protocol):
    """What the worker sends through. Called by one thread at a time, never by the program's."""

    def prepare(self, batch: "list[Span]", extra: dict[str, Any] | None, broken: "list[Span] | None" = None) -> Any:
        """Encode a batch; what it gives is passed to `send`, once per try. Spans that cannot be are left out, and go to `broken`."""

    def send(self, payload: Any, timeout: float) -> Outcome:
        """One try, within `timeout` seconds."""

    def close(self) -> None:
        """Let connections and files go."""
