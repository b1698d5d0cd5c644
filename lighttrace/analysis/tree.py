"""The tree of a trace, made of whatever arrived: duplicates, orphans, several roots, cycles and skewed clocks included."""

from collections.abc import Iterable

from lighttrace.analysis.model import SpanRecord

SKEW_NS = 1_000_000  # a child may lie this far outside its parent before clocks are suspected


class Tree:
    """Spans by id, children in the order of their start, and the root from which everything is judged."""

    __slots__ = ("children", "complete", "evidence_missing", "parent", "root", "roots", "skewed_ns", "spans")

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
        orphans = 0
        for span in self.spans.values():
            parent = self.spans.get(span.parent_id or "")
            if parent is None or parent is span:
                self.roots.append(span)
                orphans += span.parent_id is not None and parent is None
                continue
            self.children.setdefault(parent.span_id, []).append(span)
            self.parent[span.span_id] = parent
        self._cut_cycles()
        for siblings in self.children.values():
            siblings.sort(key=lambda span: (span.start_ns, span.end_ns))
        whole = [span for span in self.roots if span.parent_id is None]
        self.complete = bool(whole) and not orphans
        if not whole:
            self.evidence_missing.append("the root span has not arrived")
        elif orphans:
            self.evidence_missing.append(f"the parents of {orphans} spans have not arrived")
        # Of several, the one that everything else happened in; a real root before an orphan.
        self.root = max(whole or self.roots, key=lambda span: (span.duration_ns, -span.start_ns))
        self.skewed_ns = self._skew()
        if self.skewed_ns:
            self.evidence_missing.append(f"clocks differ by about {self.skewed_ns / 1e6:.0f} ms between services")

    def _cut_cycles(self) -> None:
        """Make a root of one span of every ring of parents."""
        reached: set[str] = set()
        stack = list(self.roots)
        while True:
            while stack:
                span = stack.pop()
                if span.span_id in reached:
                    continue
                reached.add(span.span_id)
                stack.extend(self.children.get(span.span_id, ()))
            if len(reached) == len(self.spans):
                return
            left = min((span for span in self.spans.values() if span.span_id not in reached), key=lambda span: span.start_ns)
            parent = self.parent.pop(left.span_id)
            self.children[parent.span_id].remove(left)
            self.roots.append(left)
            stack.append(left)
            self.evidence_missing.append("some spans name each other as parents")

    def _skew(self) -> int:
        """How far clocks seem apart: the farthest that a server begins before its client, or only after it had its answer.

        A server that ends late proves nothing: it may go on after its last byte.
        """
        worst = 0
        for span in self.spans.values():
            parent = self.parent.get(span.span_id)
            if parent is None or parent.kind != "client" or span.kind != "server" or span.duration_ns > parent.duration_ns:
                continue
            worst = max(worst, parent.start_ns - span.start_ns, span.start_ns - parent.end_ns)
        return worst if worst > SKEW_NS else 0

    def below(self, span: SpanRecord) -> list[SpanRecord]:
        """`span` and everything under it."""
        found, stack = [], [span]
        while stack:
            current = stack.pop()
            found.append(current)
            stack.extend(self.children.get(current.span_id, ()))
        return found
