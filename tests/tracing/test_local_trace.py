"""What the spans of a trace share, and when it is made."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from lighttrace.tracing import local_trace
from tests.tracing.conftest import Tracing


def test_root_alone_has_none(tracing: Tracing) -> None:
    with tracing.tracer.start_as_current_span("alone") as span:
        trace_id = f"{span._trace_id:032x}"
        assert repr(span).startswith(f"<Span 'alone' trace={trace_id}")
    assert span._local is None
    assert tracing.take() is span


def test_children_share_the_one_that_the_first_asked_for(tracing: Tracing) -> None:
    with tracing.tracer.start_as_current_span("root") as root:
        assert root._local is None
        with tracing.tracer.start_as_current_span("child") as child:
            with tracing.tracer.start_as_current_span("grandchild") as grandchild:
                pass
        with tracing.tracer.start_as_current_span("sibling") as sibling:
            pass
    assert child._local is grandchild._local is sibling._local is root._local is not None
    assert {span._trace_id for span in tracing.spans} == {root._trace_id}


def test_context_of_a_root_is_the_one_that_its_children_see(tracing: Tracing) -> None:
    with tracing.tracer.start_as_current_span("root") as root:
        before = root.get_span_context()
        with tracing.tracer.start_as_current_span("child") as child:
            assert child.parent == before == root.get_span_context()
            assert child.get_span_context().trace_id == before.trace_id
    assert before.trace_flags == 3 and not before.is_remote


def test_first_children_on_several_threads_agree(tracing: Tracing) -> None:
    number = 8
    together = Barrier(number)

    def first(root: Any) -> Any:
        together.wait(30)
        return root._trace

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(number) as pool:
            for _ in range(300):
                root: Any = tracing.tracer.start_span("root")
                found = list(pool.map(first, [root] * number))
                assert all(trace is root._local for trace in found)
                root.end()
    finally:
        sys.setswitchinterval(interval)
    assert not local_trace._making


def test_who_comes_late_takes_what_is_there(tracing: Tracing, monkeypatch: Any) -> None:
    root: Any = tracing.tracer.start_span("root")
    make = local_trace.local_trace

    def interrupted(*args: Any) -> Any:
        monkeypatch.setattr(local_trace, "local_trace", make)
        seen.append(local_trace.agreed(root))  # as a signal's handler would, in the middle of it
        return make(*args)

    seen: list[Any] = []
    monkeypatch.setattr(local_trace, "local_trace", interrupted)
    assert local_trace.agreed(root) is seen[0] is root._local
    assert not local_trace._making
    root.end()
