"""Trace and span ids, from the operating system's entropy.

One private generator, seeded by the system and seeded again in every forked child: `random.seed(0)` in the program
changes nothing here, and two processes never make the same ids. `getrandbits` is one C call, so it needs no lock.
"""

import os
import random

from lighttrace import forks

_random = random.Random(int.from_bytes(os.urandom(64), "big"))
getrandbits = _random.getrandbits


def _reseed() -> None:
    _random.seed(int.from_bytes(os.urandom(64), "big"))


forks.after_in_child(_reseed)


def new_trace_id() -> int:
    """A random id of 128 bits that is not zero, every bit of it random (W3C trace context, level 2)."""
    return getrandbits(128) or new_trace_id()


def new_span_id() -> int:
    """A random id of 64 bits that is not zero."""
    return getrandbits(64) or new_span_id()
