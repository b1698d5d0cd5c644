"""Objects of spans that have been sent, used again for others.

The garbage collector runs when so many objects that it follows have been made and not freed, and spans that wait to be sent are
just that: in a program that leaves none of its own behind, they alone set it off, it moves them from one generation to the
next, and after some thousands it looks through all that the program has. A FastAPI service at full load paid 2.2 us a request
for it. An object that is used again is not made.

Only one that nobody else holds: not the program, a context, an exporter, nor a weak reference. That can be told by its count of
references where one thread runs at a time; elsewhere nothing is kept.
"""

import sys
from typing import Any

from lighttrace.tracing.span import Span

_MOST = 8192  # as many as wait for the worker at most before it is woken

spare: list[Span] = []
"""Whoever starts a span looks here first: `take() if spare else fresh()`, and another thread may have been quicker."""
take = spare.pop


def fresh() -> Span:
    """A new one, as `take` gives those that were used before: without a parent, a status, or anything that few spans have.

    These are set here, and by the worker for many spans one after the other, because the program's thread pays ten times as
    much for each step that it makes once per request.
    """
    span = Span()
    span._rare = span._local = span._call = span._path = span._query = None
    span._parent_id = span._status = 0
    return span


_count: Any = getattr(sys, "getrefcount", None)


def _with(spans: list[Span], references: int) -> list[Span]:
    # In this order: where no weak reference leads to it and nobody holds it, nobody can come by it any more.
    return [span for span in spans if type(span) is Span and span.__weakref__ is None and _count(span) == references]  # type: ignore[attr-defined]  # one of its slots


def _fewest() -> int:
    """What the count says in `_with` where nothing but a list holds a span; 0 where it cannot be relied on.

    It differs from version to version, and from one place in the code to another: so it is asked in that very place.
    """
    if _count is None or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return 0
    fewest = next((references for references in range(1, 10) if _with([Span()], references)), 0)
    held = Span()
    return 0 if _with([held], fewest) else fewest


_alone = _fewest()


def reuse(spans: list[Span]) -> None:
    """Keep those of `spans`, which have ended and been dealt with, that nothing but this list holds."""
    room = _MOST - len(spare)
    if room <= 0 or not _alone:
        return
    for span in _with(spans, _alone)[:room]:
        # What it said must not outlive it, nor what it belonged to.
        span._name = span._own = span._shared = span._owner = span._tracer = None  # type: ignore[assignment]
        span._rare = span._local = span._call = span._path = span._query = None
        span._parent_id = span._status = 0
        # Its times and ids stay until others take their place: a thousand numbers that are given back at once lie where the
        # program's next thousand objects are put then, and none of that is in its processor's cache.
        spare.append(span)
