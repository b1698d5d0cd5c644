"""What the worker says in the log: when the backend goes down, when it is back, and when spans are dropped."""

import time
from collections.abc import Callable

from lighttrace import guard

_OUTAGE_EVERY = 60.0  # seconds: a backend that comes and goes is told of no more often
_DROPS = (60.0, 3600.0)  # seconds between two lines about drops: at first, and at most


class Teller:
    """Keeps count of what was said, so that an hour of trouble is a few lines and not thousands."""

    __slots__ = ("_drops_again", "_drops_pause", "_told_at", "_told_down", "down")

    def __init__(self) -> None:
        self.down = False
        self._told_down = False
        self._told_at: float | None = None
        self._drops_again = 0.0
        self._drops_pause = _DROPS[0]

    def failed(self, reason: str) -> None:
        """A try failed: one line, unless there was one for this outage."""
        self.down = True
        now = time.monotonic()
        if self._told_down or (self._told_at is not None and now - self._told_at < _OUTAGE_EVERY):
            return
        self._told_down, self._told_at = True, now
        guard.log_always(f"spans cannot be delivered: {reason}; the program goes on, and so do the tries")

    def arrived(self, drops: Callable[[], str]) -> None:
        """A batch arrived: one line, if there was one when they no longer did."""
        self.down = False
        if self._told_down:
            self._told_down = False
            guard.log_always(f"spans are delivered again ({drops() or 'none were dropped'})")

    def dropped(self, drops: str) -> bool:
        """The queue had to let spans go: a line, and the next one after a pause that doubles while it goes on."""
        now = time.monotonic()
        if now < self._drops_again:
            return False
        calm = now > self._drops_again + self._drops_pause
        self._drops_pause = _DROPS[0] if calm else min(2 * self._drops_pause, _DROPS[1])
        self._drops_again = now + self._drops_pause
        guard.log_always(f"the queue was full and spans were dropped ({drops}); see lighttrace doctor")
        return True

    def ended(self, drops: str) -> None:
        """The program ends, and not everything could be delivered."""
        guard.log_always(f"the program ends and not every span was delivered ({drops})")
