"""Filling a slot that several threads may find empty at once, so that all of them get the same, without a lock.

A lock could be held while the process forks, or by the code that a signal handler interrupts.
"""

from typing import Any

_claims: dict[tuple[int, str], Any] = {}
_ABSENT = object()


def settled(holder: Any, slot: str, made: Any, empty: Any = _ABSENT) -> Any:
    """`made`, put into a slot of `holder` that is `empty` (nothing at all, if left out), or what another thread has put there."""
    claim = id(holder), slot
    there = _claims.setdefault(claim, made)  # one step, so that all who come before the slot is filled get the same
    try:
        found = getattr(holder, slot, _ABSENT)
        if found is empty:
            setattr(holder, slot, there)
        else:
            there = found
    finally:  # whatever comes in between: the next holder with that id must not get what was meant for this one
        _claims.pop(claim, None)
    return there
