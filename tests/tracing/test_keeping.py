"""Traces are kept or not when their local root ends: together, within bounds, and counted."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

import lighttrace
from lighttrace import runtime, semconv
from lighttrace.config import load
from lighttrace.tracing.context import HANDED_KEY
from lighttrace.tracing.keeping import Keeper
from lighttrace.tracing.owner import owner
from lighttrace.tracing.sampling import named
from lighttrace.tracing.shared import NOTHING_OWN, Shared
from tests.tracing.conftest import Tracing

SECOND = 1_000_000_000


def keeping(**options: Any) -> tuple[Tracing, Keeper]:
    tracing = Tracing()
    keeper = Keeper(tracing.spans.append, **options)
    tracing.pipeline.put = keeper.put
    return tracing, keeper


def names(tracing: Tracing) -> list[str]:
    return [span.name for span in tracing.spans]


def request(tracing: Tracing, *, fails: bool = False, route: str | None = None, lasts_s: float = 0.0, children: int = 1) -> None:
    attributes = {semconv.HTTP_ROUTE: route} if route else {}
    root = tracing.tracer.start_span("root", kind=SpanKind.SERVER, attributes=attributes, start_time=SECOND)
    below = trace.set_span_in_context(root, Context())
    for _ in range(children):
        child = tracing.tracer.start_span("child", below)
        if fails:
            child.set_status(StatusCode.ERROR)
        child.end()
    root.end(SECOND + round(lasts_s * SECOND))


def reasons(tracing: Tracing) -> list[Any]:
    return [span.attributes.get(semconv.KEEP_REASON) for span in tracing.spans if span.name == "root"]


def test_what_failed_anywhere_below_the_local_root_is_kept_whole() -> None:
    tracing, keeper = keeping(ratio=0.0)
    request(tracing)
    assert not tracing.spans
    request(tracing, fails=True)
    assert names(tracing) == ["child", "root"]
    assert reasons(tracing) == ["error"]
    assert keeper.stats() == {"kept": 2, "dropped": {"not_kept_ratio": 2}, "held": 0}


def test_what_a_kept_request_says_of_itself_stays() -> None:
    tracing, _ = keeping(ratio=0.0)
    root: Any = tracing.tracer.start("GET", SpanKind.SERVER, NOTHING_OWN, None, None, Shared({"server.address": "a"}))
    root._path, root._query = "/items", "a=b"
    child = tracing.tracer.start_span("child", trace.set_span_in_context(root, Context()))
    child.set_status(StatusCode.ERROR)
    child.end()
    root.end()
    said = {"server.address": "a", "url.path": "/items", "url.query": "a=b", semconv.KEEP_REASON: "error"}
    assert dict(tracing.spans[-1].attributes) == said


def test_errors_are_kept_no_more_than_anything_where_that_is_not_wanted() -> None:
    tracing, keeper = keeping(ratio=0.0, errors=False)
    request(tracing, fails=True)
    assert not tracing.spans
    assert keeper.stats()["dropped"] == {"not_kept_ratio": 2}


def test_what_is_slow_is_kept() -> None:
    tracing, _ = keeping(ratio=0.0, slower_than=0.5)
    request(tracing, lasts_s=0.499)
    assert not tracing.spans
    request(tracing, lasts_s=0.5)
    assert reasons(tracing) == ["slow"]


def test_the_rest_is_kept_by_trace_id_as_the_sampler_of_that_ratio_would() -> None:
    tracing, _ = keeping(ratio=0.5)
    sampler = named("traceidratio", "0.5")
    for number in range(200):
        trace_id = number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128) or 1
        remote = NonRecordingSpan(SpanContext(trace_id, 7, True, TraceFlags(1)))
        tracing.tracer.start_span("root", trace.set_span_in_context(remote, Context())).end()
        assert bool(tracing.spans) is sampler.samples(trace_id, None)
        assert reasons(tracing) == ["ratio"] * len(tracing.spans)
        tracing.spans.clear()


def test_a_remote_parent_that_is_not_sampled_is_honoured() -> None:
    tracing, keeper = keeping(ratio=0.0)
    remote = NonRecordingSpan(SpanContext(5, 7, True, TraceFlags(0)))
    with tracing.tracer.start_as_current_span("root", trace.set_span_in_context(remote, Context())) as span:
        span.set_status(StatusCode.ERROR)
    assert not tracing.spans
    assert keeper.stats() == {"kept": 0, "dropped": {}, "held": 0}


@pytest.mark.parametrize("fails", [True, False])
def test_late_spans_follow_the_decision(fails: bool) -> None:
    tracing, keeper = keeping(ratio=0.0)
    root = tracing.tracer.start_span("root")
    late = tracing.tracer.start_span("late", trace.set_span_in_context(root, Context()))
    if fails:
        root.set_status(StatusCode.ERROR)
    root.end()
    late.set_status(StatusCode.ERROR)  # too late to keep what is gone
    late.end()
    assert names(tracing) == (["root", "late"] if fails else [])
    assert sum(keeper.stats()["dropped"].values()) == (0 if fails else 2)


def test_spans_with_baggage_of_their_own_share_the_local_roots_fate() -> None:
    tracing, keeper = keeping(ratio=0.0)
    root = tracing.tracer.start_span("root")
    below = trace.set_span_in_context(root, Context())
    inner = tracing.tracer.start_span("inner", Context({**below, HANDED_KEY: owner("fraud", "scope")}))
    assert inner._trace is not root._trace  # type: ignore[union-attr]  # both are recorded
    inner.set_status(StatusCode.ERROR)
    inner.end()
    assert keeper.stats()["held"] == 1
    root.end()
    assert names(tracing) == ["inner", "root"]
    assert reasons(tracing) == ["error"]


def test_two_requests_of_one_trace_in_one_process_are_decided_each_for_itself() -> None:
    tracing, _ = keeping(ratio=0.0)
    remote = trace.set_span_in_context(NonRecordingSpan(SpanContext(1 << 127, 7, True, TraceFlags(1))), Context())
    good, bad = tracing.tracer.start_span("good", remote), tracing.tracer.start_span("bad", remote)
    bad.set_status(StatusCode.ERROR)
    good.end()
    bad.end()
    assert names(tracing) == ["bad"]


def test_a_route_is_kept_so_many_times_per_second() -> None:
    tracing, keeper = keeping(rates=[{"route": "/health*", "per_second": 2.0}])
    for _ in range(50):
        request(tracing, route="/healthz")
    assert 2 <= len(reasons(tracing)) <= 4  # two at once, and what two a second allow while this runs
    assert set(reasons(tracing)) == {"rate"}
    tracing.spans.clear()
    request(tracing, route="/orders")
    request(tracing, route="/healthz", fails=True)
    assert reasons(tracing) == ["ratio", "error"]
    stats = keeper.stats()
    assert stats["kept"] + stats["dropped"]["not_kept_rate"] == 104


def test_routes_have_rates_of_their_own_in_bounded_memory() -> None:
    tracing, keeper = keeping(rates=[{"route": "/*", "per_second": 0.001}])
    for name in ("/a", "/b", "/a", "/b"):
        request(tracing, route=name)
    assert len(reasons(tracing)) == 2
    for number in range(3000):
        request(tracing, route=f"/{number}", children=0)
    assert len(keeper._rates[0]._left) <= 1025


def test_a_rate_of_zero_keeps_none() -> None:
    tracing, _ = keeping(rates=[{"route": "/health", "per_second": 0.0}])
    request(tracing, route="/health")
    assert not tracing.spans


def test_a_root_with_too_many_spans_is_decided_early_and_still_tells_its_own_failure() -> None:
    tracing, keeper = keeping(ratio=0.0, most=80)
    root = tracing.tracer.start_span("root")
    below = trace.set_span_in_context(root, Context())
    for _ in range(100):
        tracing.tracer.start_span("child", below).end()
        assert keeper.stats()["held"] <= 10
    assert keeper.stats() == {"kept": 0, "dropped": {"not_kept_overflow": 100}, "held": 0}
    assert keeper.overflows == 1
    root.set_status(StatusCode.ERROR)
    root.end()
    assert names(tracing) == ["root"]
    assert reasons(tracing) == ["error"]


def test_large_spans_are_held_within_their_bytes() -> None:
    tracing, keeper = keeping(ratio=0.0, most=100_000, most_bytes=1 << 20)
    root = tracing.tracer.start_span("root")
    below = trace.set_span_in_context(root, Context())
    for number in range(1000):
        tracing.tracer.start_span("child", below, attributes={"text": f"{number}" * 3000}).end()
        assert keeper.stats()["held"] < 40  # an eighth of a mebibyte
    others = [tracing.tracer.start_span("root") for _ in range(500)]
    most = 0
    for number, other in enumerate(others):
        for _ in range(5):
            attributes = {"text": f"{number:03}" * 1500}
            tracing.tracer.start_span("child", trace.set_span_in_context(other, Context()), attributes=attributes).end()
        most = max(most, keeper.stats()["held"])
        assert keeper.stats()["held"] < 300
    assert most > 100
    stats = keeper.stats()
    assert sum(stats["dropped"].values()) + stats["held"] == 3500
    root.set_status(StatusCode.ERROR)
    root.end()
    for other in others:
        other.end()
    assert names(tracing) == ["root"]
    assert (keeper.stats()["held"], keeper._weight) == (0, 0)


def test_many_roots_that_never_end_hold_no_more_than_the_bound() -> None:
    tracing, keeper = keeping(ratio=0.0, most=64)
    roots = [tracing.tracer.start_span("root") for _ in range(500)]
    for root in roots:
        tracing.tracer.start_span("child", trace.set_span_in_context(root, Context())).end()
        assert keeper.stats()["held"] <= 64
    assert keeper.stats() == {"kept": 0, "dropped": {"not_kept_overflow": 436}, "held": 64}
    keeper.close()
    assert keeper.stats() == {"kept": 0, "dropped": {"not_kept_overflow": 500}, "held": 0}
    roots[-1].end()
    assert names(tracing) == ["root"]  # what ends after closing is the queue's affair


def test_what_waits_is_decided_when_tracing_is_closed() -> None:
    tracing, keeper = keeping(ratio=0.0)
    below = trace.set_span_in_context(tracing.tracer.start_span("root"), Context())
    failed = tracing.tracer.start_span("failed", below)
    failed.set_status(StatusCode.ERROR)
    failed.end()
    keeper.close()
    assert names(tracing) == ["failed"]


def test_a_forked_child_sends_nothing_that_waited_in_its_parent() -> None:
    tracing, keeper = keeping(ratio=1.0)
    root = tracing.tracer.start_span("root")
    tracing.tracer.start_span("parents", trace.set_span_in_context(root, Context())).end()
    keeper.in_child()
    tracing.tracer.start_span("childs", trace.set_span_in_context(root, Context())).end()
    root.end()
    assert names(tracing) == ["childs", "root"]


def test_threads_that_end_spans_of_the_same_and_of_other_roots_lose_none() -> None:
    tracing, keeper = keeping(ratio=0.5, most=400)
    shared = tracing.tracer.start_span("shared")
    started = threading.Barrier(4)

    def work(number: int) -> None:
        started.wait(10)
        below = trace.set_span_in_context(shared, Context())
        for turn in range(500):
            request(tracing, fails=turn % 7 == number)
            tracing.tracer.start_span("of shared", below).end()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    shared.end()
    stats = keeper.stats()
    assert stats["held"] == 0
    assert stats["kept"] == len(tracing.spans) == len({span._span_id for span in tracing.spans})
    assert stats["kept"] + sum(stats["dropped"].values()) == 4 * 500 * 3 + 1
    whole = [span._trace.trace_id for span in tracing.spans if span.name == "root"]
    assert sorted(whole) == sorted(span._trace.trace_id for span in tracing.spans if span.name == "child")


def test_the_books_balance_at_every_moment_while_threads_end_spans() -> None:
    tracing, keeper = keeping(ratio=0.3, most=200)
    ended = [0] * 4
    wrong: list[tuple[int, int, int]] = []

    def work(number: int, roots: list[Any]) -> None:
        for root in roots:
            for _ in range(5):
                tracing.tracer.start_span("child", trace.set_span_in_context(root, Context())).end()
                ended[number] += 1

    def check() -> None:
        least = sum(ended)
        books = keeper.books(lambda: {"exported": len(tracing.spans), "dropped": {}, "queued": 0})
        seen = books["exported"] + sum(books["dropped"].values()) + books["queued"]
        if not least <= seen <= sum(ended) + len(threads):
            wrong.append((least, seen, sum(ended)))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(10):
            roots: list[Any] = [tracing.tracer.start_span("root", Context()) for _ in range(20)]
            threads = [threading.Thread(target=work, args=(number, roots)) for number in range(4)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                check()
            for thread in threads:
                thread.join()
            for root in roots:
                root.end()
            ended[0] += len(roots)
            check()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []
    assert keeper.stats()["held"] == 0
    assert sum(ended) == 10 * (4 * 20 * 5 + 20)


@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["start", "end", "fail", "end root"])), max_size=120),
    ratio=st.sampled_from([0.0, 0.5, 1.0]),
    most=st.integers(1, 40),
)
def test_whatever_order_spans_end_in_the_books_balance_and_the_bound_holds(
    steps: list[tuple[int, str]], ratio: float, most: int
) -> None:
    tracing, keeper = keeping(ratio=ratio, most=most)
    roots = [tracing.tracer.start_span("root") for _ in range(6)]
    open_spans: list[list[Any]] = [[] for _ in roots]
    failed: set[int] = set()
    ended: set[int] = set()
    put = 0
    for which, what in steps:
        if what == "start":
            open_spans[which].append(tracing.tracer.start_span("child", trace.set_span_in_context(roots[which], Context())))
            continue
        if what == "end root":
            put += which not in ended
            if which not in ended:
                roots[which].end()
                ended.add(which)
        elif open_spans[which]:
            span = open_spans[which].pop()
            if what == "fail":
                span.set_status(StatusCode.ERROR)
                if which not in ended:
                    failed.add(which)
            span.end()
            put += 1
        stats = keeper.stats()
        assert stats["held"] <= most
        assert stats["kept"] + sum(stats["dropped"].values()) + stats["held"] == put
        assert stats["kept"] == len(tracing.spans)
    kept_roots = {span._span_id for span in tracing.spans if span.name == "root"}
    for which in failed & ended:  # a root below which something failed in time always arrives
        assert roots[which]._span_id in kept_roots


@pytest.mark.contained
def test_a_decision_that_fails_keeps_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing, keeper = keeping(ratio=0.0, rates=[{"route": "/*", "per_second": 1.0}])

    class Broken:
        def matches(self, route: str) -> bool:
            raise RuntimeError("broken")

    monkeypatch.setattr(keeper, "_rates", (Broken(),))
    request(tracing, route="/a")
    assert names(tracing) == ["child", "root"]


# -- the configuration ----------------------------------------------------------------------------------------------


def test_nothing_stands_before_the_queue_unless_it_is_asked_for() -> None:
    lighttrace.init(service="s", exporter="none", keep_slower_than=0.5)  # nothing would be left out, so nobody decides
    try:
        active = runtime.active()
        assert active is not None and active.keeper is None
        assert active.pipeline.put == active.queue.put
    finally:
        lighttrace.shutdown()


def test_the_configuration_reaches_the_wire(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    lighttrace.init(service="s", exporter="file", file=str(file), keep_ratio=0, keep_slower_than_s=3600)
    try:
        with lighttrace.span("fine"), lighttrace.span("below fine"):
            pass
        with pytest.raises(ValueError, match="x"), lighttrace.span("broken"), lighttrace.span("below broken"):
            raise ValueError("x")
    finally:
        lighttrace.shutdown()
    text = file.read_text()
    assert '"broken"' in text and '"below broken"' in text and "lighttrace.keep.reason" in text
    assert "fine" not in text


def test_settings_are_read_from_the_file_and_what_is_wrong_is_told(tmp_path: Path) -> None:
    (tmp_path / "lighttrace.toml").write_text(
        'keep_ratio = 0.1\nkeep_slower_than = 0.5\n[[keep]]\nroute = "/health*"\nper_second = 1\n[[keep]]\nroute = "/x"\n'
    )
    config = load(environ={"LIGHTTRACE_KEEP_ERRORS": "false"}, directory=str(tmp_path))
    assert (config.keep_ratio, config.keep_slower_than_s, config.keep_errors) == (0.1, 0.5, False)
    assert config.keep == ({"route": "/health*", "per_second": 1.0},)
    assert any("per_second" in warning for warning in config.warnings)
    wrong = load(environ={"LIGHTTRACE_KEEP_RATIO": "25%"}, directory=str(tmp_path))
    assert wrong.keep_ratio == 0.1 and any("LIGHTTRACE_KEEP_RATIO" in warning for warning in wrong.warnings)
