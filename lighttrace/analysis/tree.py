"""The tree of a trace, made of whatever arrived: duplicates, orphans, several roots, cycles and skewed clocks included."""

from collections.abc import Iterable

from lighttrace.analysis.model import SpanRecord

SKEW_NS = 1_000_000  # a server may begin this much before its client, or after it had its answer, before clocks are suspected
LATE_NS = 40_000_000  # a server may end this much after its client: it goes on for a moment after it has answered, on a busy machine longer
_PLACING = 2_000_000  # comparisons that placing orphans by their time may take


class Tree:
    """Spans by id, children in the order of their start, and the root from which everything is judged.

    `complete` tells whether the root and every parent are there; `evidence_missing` says in words what is not.
    """

    __slots__ = ("children", "complete", "evidence_missing", "has_root", "parent", "root", "roots", "skewed_ns", "spans")

    def __init__(self, spans: Iterable[SpanRecord]) -> None:
        self.spans: dict[str, SpanRecord] = {}
        for span in spans:
            known = self.spans.get(span.span_id)
            # Sent twice: the later end is the more complete record.
            if known is None or span.end_ns > known.end_ns or (span.failed and not known.failed):
                self.spans[span.span_id] = span
        if not self.spans:
            raise ValueError("a trace without spans says nothing")
        self.evidence_missing: list[str] = []
        self.children: dict[str, list[SpanRecord]] = {}
        self.parent: dict[str, SpanRecord] = {}
        self.roots: list[SpanRecord] = []
        orphans = []
        for span in self.spans.values():
            parent = self.spans.get(span.parent_id or "")
            if parent is None or parent is span:
                self.roots.append(span)
                if parent is None and span.parent_id is not None:
                    orphans.append(span)
            else:
                self._attach(span, parent)
        self._cut_cycles()
        whole = [span for span in self.roots if span.parent_id is None]
        self.has_root = bool(whole)
        self.complete = bool(whole) and not orphans
        if not whole:
            self.evidence_missing.append("the root span has not arrived")
        elif orphans:
            lost = len({span.parent_id for span in orphans})
            placed = " (their children are placed by their time)" if self._place(orphans) else ""
            self.evidence_missing.append(f"{_count(lost, 'span')} in the middle of the trace did not arrive{placed}")
        for siblings in self.children.values():
            siblings.sort(key=lambda span: (span.start_ns, span.end_ns))
        # Of several, the one that everything else happened in; a real root before an orphan.
        self.root = max(whole or self.roots, key=lambda span: (span.duration_ns, -span.start_ns))
        self.skewed_ns = self._note_skew()

    def _attach(self, span: SpanRecord, parent: SpanRecord) -> None:
        self.children.setdefault(parent.span_id, []).append(span)
        self.parent[span.span_id] = parent

    def _cut_cycles(self) -> None:
        """Make a root of the first span of every ring of parents."""
        reached: set[str] = set()
        self._reach(self.roots, reached)
        if len(reached) == len(self.spans):
            return
        left = sorted((span for span in self.spans.values() if span.span_id not in reached), key=lambda span: span.start_ns)
        # Below a ring hang spans that are in none: walk up from each until the ring is found, then cut it there.
        for span in left:
            if span.span_id in reached:
                continue
            on_way, above = {span.span_id}, self.parent[span.span_id]
            while above.span_id not in on_way:
                on_way.add(above.span_id)
                above = self.parent[above.span_id]
            ring, member = [above], self.parent[above.span_id]
            while member is not above:
                ring.append(member)
                member = self.parent[member.span_id]
            first = min(ring, key=lambda one: one.start_ns)
            siblings = self.children[self.parent.pop(first.span_id).span_id]
            siblings[:] = [one for one in siblings if one is not first]
            self.roots.append(first)
            self._reach([first], reached)
        self.evidence_missing.append("some spans name each other as parents")

    def _reach(self, start: list[SpanRecord], reached: set[str]) -> None:
        stack = list(start)
        while stack:
            span = stack.pop()
            reached.add(span.span_id)
            stack.extend(self.children.get(span.span_id, ()))

    def _place(self, orphans: list[SpanRecord]) -> bool:
        """Hang spans whose parent was lost where their time and their service say that the lost one was."""
        groups: dict[str, list[SpanRecord]] = {}
        for span in orphans:
            groups.setdefault(span.parent_id or "", []).append(span)
        if len(groups) * len(self.spans) > _PLACING:
            return False
        placed = set()
        rooted: set[str] = set()
        self._reach([span for span in self.roots if span.parent_id is None], rooted)
        for group in sorted(groups.values(), key=lambda group: min(span.start_ns for span in group)):
            host = self._host(group, [self.spans[span_id] for span_id in rooted])
            if host is None:
                continue
            for span in group:
                self._attach(span, host)
                placed.add(span.span_id)
            self._reach(group, rooted)
        self.roots = [span for span in self.roots if span.span_id not in placed]
        return bool(placed)

    def _host(self, group: list[SpanRecord], known: list[SpanRecord]) -> SpanRecord | None:
        """The span in which the lost parent of `group` must have happened."""
        begin, end = min(span.start_ns for span in group), max(span.end_ns for span in group)
        service, lost_client = group[0].service, group[0].kind == "server"
        same: list[SpanRecord] = []
        callers: list[SpanRecord] = []
        other: list[SpanRecord] = []
        for span in known:
            if not span.start_ns - SKEW_NS <= begin <= span.end_ns:
                continue
            if span.kind == "client":
                # The lost one was the server's entry; a caller that gave up does not see its end.
                waiting = end <= span.end_ns + SKEW_NS or span.failed
                if waiting and not lost_client and span.service != service and span.span_id not in self.children:
                    callers.append(span)
            elif end <= span.end_ns + SKEW_NS:
                (same if span.service == service else other).append(span)
        # A lost client span: its server hangs under whoever was at work then. Else the service's own spans come first.
        for candidates in (other, same) if lost_client else (same, callers):
            if candidates:
                return min(candidates, key=lambda span: (span.duration_ns, span.span_id))
        return None

    def _note_skew(self) -> int:
        """The farthest that two services' clocks seem apart, in nanoseconds; 0 if nothing is seen of it."""
        worst, between = 0, ("", "")
        for span in self.spans.values():
            parent = self.parent.get(span.span_id)
            if parent is None or parent.kind != "client" or span.kind != "server":
                continue
            late = span.end_ns - parent.end_ns if span.duration_ns <= parent.duration_ns else 0
            outside = max(parent.start_ns - span.start_ns, span.start_ns - parent.end_ns)
            if outside > SKEW_NS or late > LATE_NS:
                apart = abs(clock_shift(parent, span))
                if apart > worst:
                    worst, between = apart, (parent.service or "the caller", span.service or "the server")
        if worst:
            self.evidence_missing.append(f"the clocks of {between[0]} and {between[1]} differ by about {_time(worst)}")
        return worst

    def below(self, span: SpanRecord) -> list[SpanRecord]:
        """`span` and everything under it."""
        found, stack = [], [span]
        while stack:
            current = stack.pop()
            found.append(current)
            stack.extend(self.children.get(current.span_id, ()))
        return found


def clock_shift(parent: SpanRecord, child: SpanRecord) -> int:
    """Nanoseconds by which to move a server whose clock puts it outside the client that waited for it.

    One that fits goes into the client's middle, as if both ways took as long; one that went on after the client gave up
    begins with it.
    """
    if parent.kind != "client" or child.kind != "server":
        return 0
    room = parent.duration_ns - child.duration_ns
    if room >= 0:
        inside = child.start_ns >= parent.start_ns and child.end_ns <= parent.end_ns
        return 0 if inside else parent.start_ns + room // 2 - child.start_ns
    inside = parent.start_ns <= child.start_ns <= parent.end_ns
    return 0 if inside else parent.start_ns - child.start_ns


def _count(number: int, what: str) -> str:
    return f"one {what}" if number == 1 else f"{number} {what}s"


def _time(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:.1f} s" if nanoseconds >= 1_000_000_000 else f"{nanoseconds / 1e6:.0f} ms"
