"""What the worker sleeps on."""

import threading


class Alarm:
    """Wakes one sleeper, who may come later than the call.

    Its lock is held, but for the moment between a call and the sleeper's taking note. Unlike an Event it may be rung by a
    signal handler or a finalizer that ends a span while its own thread is in the middle of doing the same.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the sleeper, or spare the next one its sleep."""
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:  # somebody else did
                pass

    def sleep(self, seconds: float) -> None:
        """Sleep until the alarm is rung, and at most for so long."""
        self._lock.acquire(timeout=max(0.0, seconds))

    def fits(self) -> bool:
        """Whether threads are still what they were when this was made: gevent and eventlet patch them."""
        return type(threading.Lock()) is type(self._lock)
