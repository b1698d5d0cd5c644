"""Which attempt a request is, where the library's call for the one before has returned by then.

What stands for the next attempt (the request that a redirect made, the state of the retries) is noted for as long as it lives.
"""

import weakref
from collections.abc import Callable
from typing import Any

from lighttrace.instrument.call import around
from lighttrace.instrument.patching import Patch

noted: dict[int, tuple["weakref.ref[Any]", int]] = {}
"""By id(): what stands for an attempt, and how many there were before. Empty in most programs, and that is all they pay for it."""


def note(attempt: Any, *before: Any) -> None:
    """`attempt` stands for the one that follows those that stood for the ones `before`; of several, most counts."""
    key = id(attempt)
    noted[key] = weakref.ref(attempt, lambda _: noted.pop(key, None)), max(map(count, before), default=0) + 1


def count(attempt: Any) -> int:
    """How many attempts there were before this one, as far as was noted.

    >>> class Request: ...
    >>> first, second, third = Request(), Request(), Request()
    >>> note(second, first)
    >>> note(third, second)
    >>> count(first), count(second), count(third)
    (0, 1, 2)
    """
    found = noted.get(id(attempt))
    return 0 if found is None else found[1]


class FollowPatch(Patch):
    """The seam at which a client library makes what stands for the next attempt, and gives it back.

    `read_attempts` has the signature of the target and gives a tuple of what stood for the attempts before.
    """

    def __init__(self, target: str, read_attempts: Callable[..., tuple[Any, ...]]) -> None:
        super().__init__(target)
        self.read_attempts = read_attempts

    def wrap(self, original: Any) -> Any:
        return around(original, lambda args, kwargs: (args, kwargs), self._note, lambda call, error: None)

    def _note(self, call: tuple[tuple[Any, ...], dict[str, Any]], made: Any) -> None:
        if self.site.enabled:
            try:
                note(made, *self.read_attempts(*call[0], **call[1]))
            except Exception as error:
                self.site.failed(error)
