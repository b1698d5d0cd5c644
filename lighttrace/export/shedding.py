"""What a full queue lets go of: what says least first, and of that the oldest."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lighttrace.tracing.span import Span


def weigh(span: "Span") -> int:
    """About how many bytes a span holds."""
    size = 600
    for value in span._attributes.values():
        kind = type(value)
        size += 80 + (len(value) if kind is str or kind is bytes else 0)
        if kind is tuple or kind is dict:
            size += len(repr(value))
    if span._rare is not None:
        for _, _, attributes, _ in span._rare.events:
            size += 200 + sum(len(value) for value in attributes.values() if type(value) is str)
        size += 300 * len(span._rare.links)
    return size


def precedence(span: "Span") -> int:
    """What is let go first: 0 a call that succeeded, 1 anything else that did, 2 errors and the entries of requests."""
    kind = span._kind._value_
    if span._status == 2 or not span._parent_id or (kind == 1 and span._trace.remote is not None):
        return 2
    return 0 if kind == 2 or kind == 3 else 1


def choose(spans: "Sequence[Span]", wanted: int, most_bytes: int) -> set[int]:
    """The indices of `wanted` of them, or of as many as hold what is more than `most_bytes` in all."""
    excess = sum(map(weigh, spans)) - most_bytes if most_bytes else 0
    levels = list(map(precedence, spans))
    gone: set[int] = set()
    for level in (0, 1, 2):
        for index, found in enumerate(levels):
            if wanted <= 0 and excess <= 0:
                return gone
            if found == level:
                gone.add(index)
                wanted -= 1
                if most_bytes:
                    excess -= weigh(spans[index])
    return gone
