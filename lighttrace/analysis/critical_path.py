"""The critical path: for each moment of the root, the span that it was waiting for.

Walked back from the last child to finish. Children are clipped to their parent, a child that lies wholly outside it (a
skewed clock) is moved into it first, and the segments tile the root exactly.
"""

from typing import NamedTuple

from lighttrace.analysis.model import SpanRecord
from lighttrace.analysis.tree import Tree, clock_shift


class Segment(NamedTuple):
    """A stretch of time in which the root waited for this span itself, and not for a child of it."""

    span: SpanRecord
    start_ns: int
    end_ns: int


def critical_path(tree: Tree, root: SpanRecord | None = None) -> list[Segment]:
    """The segments, in order of time; together they cover the root from its start to its end, without overlap."""
    root = root or tree.root
    segments: list[Segment] = []
    # (span, how far its clock is moved, from, to, whether its children are still to be looked at); the latest on top.
    stack: list[tuple[SpanRecord, int, int, int, bool]] = [(root, 0, root.start_ns, root.end_ns, True)]
    while stack:
        span, moved, start, end, deeper = stack.pop()
        if not deeper:
            segments.append(Segment(span, start, end))
            continue
        pieces: list[tuple[SpanRecord, int, int, int, bool]] = []
        placed = []
        for child in tree.children.get(span.span_id, ()):
            shift = moved + clock_shift(span, child)
            placed.append((child.end_ns + shift, child.start_ns + shift, shift, child))
        placed.sort(key=lambda entry: entry[:2], reverse=True)
        at = end
        for child_end, child_start, shift, child in placed:
            if at <= start:
                break
            child_end, child_start = min(child_end, at), max(child_start, start)
            if child_end <= child_start:
                continue
            if child_end < at:
                pieces.append((span, moved, child_end, at, False))
            pieces.append((child, shift, child_start, child_end, True))
            at = child_start
        if at > start:
            pieces.append((span, moved, start, at, False))
        stack.extend(reversed(pieces))
    segments.reverse()
    return segments


def self_times(segments: list[Segment]) -> dict[str, int]:
    """Nanoseconds on the critical path by span id."""
    times: dict[str, int] = {}
    for segment in segments:
        times[segment.span.span_id] = times.get(segment.span.span_id, 0) + segment.end_ns - segment.start_ns
    return times
