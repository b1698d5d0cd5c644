"""The tree of a trace and its critical path, of what nobody would call a tree."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lighttrace.analysis.critical_path import critical_path, self_times
from lighttrace.analysis.model import SpanRecord
from lighttrace.analysis.tree import Tree
from lighttrace.analysis.verdict import verdict
from tests.analysis.test_verdict_errors import check
from tests.analysis.traces import MS, Trace

KINDS = st.sampled_from(["internal", "server", "client", "producer", "consumer"])
ID = st.integers(0, 12).map(lambda number: f"{number:016x}")
SERVICE = st.sampled_from(["storefront", "checkout", "inventory", ""])


@st.composite
def any_span(draw: st.DrawFn) -> SpanRecord:
    start = draw(st.integers(0, 100))
    attributes = {"http.response.status_code": draw(st.sampled_from([200, 404, 500]))} if draw(st.booleans()) else {}
    events = []
    if draw(st.booleans()):
        events.append({"name": "exception", "time_ns": draw(st.integers(0, 200)), "attributes": {"exception.type": "ValueError"}})
    return SpanRecord(
        "1" * 32,
        draw(ID),
        draw(st.none() | ID),
        draw(st.sampled_from(["", "GET", "load"])),
        draw(KINDS),
        start,
        start + draw(st.integers(0, 100)),
        draw(st.sampled_from(["unset", "ok", "error"])),
        draw(st.sampled_from(["", "timed out", "connection refused"])),
        attributes=attributes,
        events=events,
        resource={"service.name": draw(SERVICE)},
    )


SPANS = st.lists(any_span(), min_size=1, max_size=14)


@given(SPANS)
@settings(deadline=None, max_examples=300)
def test_segments_of_the_critical_path_tile_the_root_exactly(spans: list[SpanRecord]) -> None:
    tree = Tree(spans)
    for root in tree.roots:
        segments = critical_path(tree, root)
        at = root.start_ns
        for segment in segments:
            assert segment.start_ns == at < segment.end_ns
            at = segment.end_ns
        assert at == root.end_ns
        assert sum(self_times(segments).values()) == root.duration_ns


def waited_for(tree: Tree, span: SpanRecord, moved: int, begin: int, end: int) -> list[str]:
    """For every nanosecond from `begin` to `end`, the id of the span that is waited for; as slow and as plain as can be.

    While any child went on, the one of them that was the last to finish is waited for; else the span itself.
    """
    if begin >= end:
        return []
    children = []
    for child in tree.children.get(span.span_id, []):
        shift = moved
        if (span.kind, child.kind) == ("client", "server"):
            room = span.duration_ns - child.duration_ns
            if room >= 0 and (child.start_ns < span.start_ns or child.end_ns > span.end_ns):
                shift += span.start_ns + room // 2 - child.start_ns
            elif room < 0 and not span.start_ns <= child.start_ns <= span.end_ns:
                shift += span.start_ns - child.start_ns
        first, last = child.start_ns + shift, child.end_ns + shift
        if max(first, begin) < min(last, end):
            children.append((last, first, shift, child))
    if not children:
        return [span.span_id] * (end - begin)
    last, first, shift, child = max(children, key=lambda entry: entry[:2])
    first, last = max(first, begin), min(last, end)
    before = waited_for(tree, span, moved, begin, first)
    return before + waited_for(tree, child, shift, first, last) + [span.span_id] * (end - last)


@given(SPANS)
@settings(deadline=None, max_examples=300)
def test_critical_path_is_that_of_the_plain_reference(spans: list[SpanRecord]) -> None:
    tree = Tree(spans)
    for root in tree.roots:
        found = [segment.span.span_id for segment in critical_path(tree, root) for _ in range(segment.start_ns, segment.end_ns)]
        assert found == waited_for(tree, root, 0, root.start_ns, root.end_ns)


@given(SPANS)
@settings(deadline=None, max_examples=300)
def test_every_span_stands_in_the_tree_once(spans: list[SpanRecord]) -> None:
    tree = Tree(spans)
    found = [span.span_id for root in tree.roots for span in tree.below(root)]
    assert sorted(found) == sorted({span.span_id for span in spans})
    assert tree.root in tree.roots


@given(SPANS, st.sampled_from([0, 300]))
@settings(deadline=None, max_examples=300)
def test_any_trace_has_a_verdict(spans: list[SpanRecord], slow_ms: float) -> None:
    check(verdict(spans, slow_ms), spans)


def path(trace: Trace) -> list[tuple[str, float, float]]:
    begin = trace.spans[0].start_ns
    return [
        (segment.span.name, (segment.start_ns - begin) / MS, (segment.end_ns - begin) / MS)
        for segment in critical_path(Tree(trace.spans))
    ]


def test_critical_path_goes_back_from_the_last_child_to_finish() -> None:
    trace = Trace()
    root = trace.add("a", "root", 0, 100)
    trace.add("a", "early", 10, 20, root)
    trace.add("a", "overlapping", 20, 40, root)
    last = trace.add("a", "last", 50, 40, root)
    trace.add("a", "inner", 60, 10, last)
    trace.add("a", "hidden", 55, 30, root)
    assert path(trace) == [
        ("root", 0, 10), ("early", 10, 20), ("overlapping", 20, 50), ("last", 50, 60), ("inner", 60, 70), ("last", 70, 90), ("root", 90, 100),
    ]  # fmt: skip


def test_child_that_outlives_its_parent_is_clipped() -> None:
    trace = Trace()
    root = trace.add("a", "root", 0, 100)
    trace.add("a", "background", 80, 500, root)
    assert path(trace) == [("root", 0, 80), ("background", 80, 100)]


def test_child_that_begins_after_its_parent_has_ended_is_not_on_the_path() -> None:
    trace = Trace()
    root = trace.add("a", "root", 0, 100)
    trace.add("a", "later", 200, 50, root)
    assert path(trace) == [("root", 0, 100)]


def test_server_with_a_skewed_clock_is_moved_into_its_client_with_all_that_is_below() -> None:
    trace = Trace()
    root = trace.client("a", 0, 100, None, name="client")
    server = trace.server("b", "server", 10, 80, root, skew=-5000)
    trace.add("b", "work", 20, 30, server, skew=-5000)
    assert path(trace) == [("client", 0, 10), ("server", 10, 20), ("work", 20, 50), ("server", 50, 90), ("client", 90, 100)]


def test_two_clocks_that_are_wrong_cancel_out() -> None:
    trace = Trace()
    root = trace.client("a", 0, 100, None, name="client")
    server = trace.server("b", "server", 10, 80, root, skew=700)
    client = trace.client("b", 20, 60, server, name="onward", skew=700)
    trace.server("a", "leaf", 30, 40, client)
    assert [name for name, *_ in path(trace)] == ["client", "server", "onward", "leaf", "onward", "server", "client"]
    assert path(trace)[3] == ("leaf", 30, 70)


def test_server_that_goes_on_a_moment_after_its_client_proves_no_skew() -> None:
    trace = Trace()
    root = trace.client("a", 0, 100, None)
    trace.server("b", "streams on", 2, 5000, root)
    assert Tree(trace.spans).evidence_missing == []


def test_server_on_a_busy_machine_that_is_late_at_both_ends_proves_no_skew() -> None:
    trace = Trace()
    root = trace.client("a", 0, 100, None)
    trace.server("b", "held up", 25, 95, root)
    assert Tree(trace.spans).evidence_missing == []


def test_the_more_complete_record_of_a_duplicate_is_kept() -> None:
    trace = Trace()
    trace.server("a", "GET /", 0, 10)
    trace.server("a", "GET /", 0, 50, status=500)
    trace.spans[1].span_id = trace.spans[0].span_id
    for spans in (trace.spans, trace.spans[::-1]):
        tree = Tree(spans)
        assert len(tree.spans) == 1
        assert tree.root.duration_ns == 50 * MS


def test_lost_parents_that_cannot_be_placed_are_told() -> None:
    trace = Trace()
    trace.server("a", "GET /", 0, 10)
    trace.add("z", "somewhere else", 500, 10, "f" * 16)
    trace.add("z", "somewhere else", 600, 10, "e" * 16)
    tree = Tree(trace.spans)
    assert tree.evidence_missing == ["2 spans in the middle of the trace did not arrive"]
    assert len(tree.roots) == 3
    assert not tree.complete
