"""What made a request slow that succeeded: each case a trace, and what an engineer would say of it."""

from collections.abc import Callable
from typing import Any

import pytest

from lighttrace.analysis import SpanRecord, verdict
from tests.analysis.test_verdict_errors import check
from tests.analysis.traces import Trace, as_received

CASES: dict[str, tuple[Callable[[], list[SpanRecord]], dict[str, Any]]] = {}


def case(**expected: Any) -> Callable[[Callable[[Trace], list[SpanRecord] | None]], Any]:
    def register(build: Callable[[Trace], list[SpanRecord] | None]) -> Any:
        def built() -> list[SpanRecord]:
            trace = Trace()
            return build(trace) or trace.spans

        CASES[build.__name__] = built, expected
        return build

    return register


@case(kind="none", team=None, confidence="high", words="succeeded in 100 ms")
def fast_and_unremarkable(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 100)
    trace.call("storefront", "inventory", 5, 60, root)


@case(
    kind="latency",
    team="discovery",
    service="recommendations",
    span="GET /similar",
    confidence="high",
    percent=("discovery", 79.6),
)
def slow_child_on_the_critical_path(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 1000)
    trace.call("storefront", "inventory", 5, 100, root)
    trace.call("storefront", "recommendations", 150, 798, root, name="GET /similar")


@case(kind="latency", team="payments", service="checkout", span="charge")
def slow_off_the_critical_path(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 1500)
    trace.call("storefront", "recommendations", 5, 1200, root, name="GET /similar")
    server = trace.call("storefront", "checkout", 5, 1490, root, name="POST /payments")
    trace.add("checkout", "charge", 10, 1480, server)


@case(kind="latency", team="logistics", span="branch 3", confidence="high")
def fan_out_with_one_slow_branch(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 900)
    for number in range(5):
        trace.call("storefront", "inventory", 5, 890 if number == 3 else 50, root, name=f"branch {number}")


@case(kind="latency", team="web", span="second")
def async_siblings(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 1000)
    trace.add("checkout", "first", 0, 400, root)
    trace.add("storefront", "second", 300, 650, root)
    trace.add("recommendations", "third", 350, 500, root)


@case(kind="latency", team="web", span="GET /", words="by itself")
def work_of_the_handler_itself(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 1000)
    trace.call("storefront", "inventory", 5, 100, root)


@case(
    kind="latency", team="banking", service="bank", words="bank kept checkout (team payments) waiting", missing="no span of bank"
)
def remote_that_sends_no_spans(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 1000)
    trace.client("checkout", 5, 900, root, service__peer__name="bank", lighttrace__peer__team="banking")


@case(kind="latency", team="payments", words="somewhere kept", missing="no span of somewhere")
def remote_of_nobody_known(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 1000)
    trace.client("checkout", 5, 900, root)


@case(kind="latency", team="payments", span="SELECT orders", words="by itself")
def one_slow_query(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 1000)
    trace.query("checkout", "SELECT orders", 5, 900, root)


@case(
    kind="latency",
    team="web",
    span="GET",
    confidence="low",
    words="network, or a queue",
    missing="between storefront and inventory",
)
def time_lost_between_two_services(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 1000)
    client = trace.client("storefront", 5, 900, root)
    trace.server("inventory", "GET /stock", 450, 20, client)


@case(
    kind="latency",
    team="logistics",
    service="inventory",
    span="GET /bundles",
    n_plus_one=("SELECT stock", 20, 200.0),
    confidence="high",
)
def n_plus_one(trace: Trace) -> None:
    root = trace.server("storefront", "GET /bundles", 0, 400)
    server = trace.call("storefront", "inventory", 5, 390, root, name="GET /bundles")
    for number in range(20):
        trace.query("inventory", "SELECT stock", 10 + number * 15, 10, server)


@case(kind="latency", team="logistics", n_plus_one=("SELECT stock", 12, 120.0))
def n_plus_one_in_a_request_that_is_not_slow(trace: Trace) -> None:
    root = trace.server("inventory", "GET /bundles", 0, 150)
    for number in range(12):
        trace.query("inventory", "SELECT stock", 2 + number * 12, 10, root)


@case(kind="none", team=None)
def repeated_queries_that_take_next_to_nothing(trace: Trace) -> None:
    root = trace.server("inventory", "GET /bundles", 0, 150)
    for number in range(12):
        trace.query("inventory", "SELECT stock", 2 + number * 12, 1, root)


@case(
    kind="latency",
    team="web",
    service="storefront",
    span="GET /wishlist",
    n_plus_one=("GET /stock/{sku}", 12, 240.0),
    words="sent the request 'GET /stock/{sku}' to inventory 12 times under GET /wishlist: 240 ms of 250 ms",
    asks="can GET /wishlist ask inventory for all 12 at once, or side by side, and not 'GET /stock/{sku}' one by one?",
)
def n_plus_one_over_http(trace: Trace) -> None:
    root = trace.server("storefront", "GET /wishlist", 0, 250)
    for number in range(12):
        trace.call("storefront", "inventory", 2 + number * 20, 20, root, name="GET /stock/{sku}")


@case(kind="latency", team="web", n_plus_one=("GET /rates/{id}", 12, 240.0), words="to rates.example:443")
def n_plus_one_over_http_to_what_sends_no_spans(trace: Trace) -> None:
    root = trace.server("storefront", "GET /wishlist", 0, 250)
    there = {"server__address": "rates.example", "server__port": 443, "url__template": "GET /rates/{id}"}
    for number in range(12):
        trace.client("storefront", 2 + number * 20, 20, root, **there)


@case(kind="none", team=None)
def many_requests_at_once(trace: Trace) -> None:
    root = trace.server("storefront", "GET /wishlist", 0, 250)
    for number in range(12):
        trace.call("storefront", "inventory", 2 + number / 10, 240, root, name="GET /stock/{sku}")


@case(kind="none", team=None)
def many_queries_at_once(trace: Trace) -> None:
    root = trace.server("inventory", "GET /bundles", 0, 250)
    for number in range(12):
        trace.query("inventory", "SELECT stock", 2 + number / 10, 240, root)


@case(
    kind="latency",
    team="logistics",
    service="inventory",
    span="GET /stock/{sku}",
    n_plus_one=None,
    words="took 10.80 s of 12.00 s (90 %) by itself, in 12 spans",
)
def many_requests_each_of_which_is_slow_by_itself(trace: Trace) -> None:
    root = trace.server("storefront", "GET /wishlist", 0, 12_000)
    for number in range(12):
        trace.call("storefront", "inventory", 2 + number * 900, 900 + number, root, name="GET /stock/{sku}")


@case(kind="none", team=None)
def few_repeated_queries(trace: Trace) -> None:
    root = trace.server("inventory", "GET /bundles", 0, 150)
    for number in range(9):
        trace.query("inventory", "SELECT stock", 2 + number * 15, 14, root)


@case(kind="latency", team="payments", n_plus_one=None)
def n_plus_one_off_the_critical_path(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 1000)
    trace.call("storefront", "checkout", 5, 990, root)
    server = trace.call("storefront", "inventory", 5, 600, root)
    for number in range(20):
        trace.query("inventory", "SELECT stock", 10 + number * 20, 19, server)


@case(kind="latency", team="discovery", n_plus_one=None)
def n_plus_one_beside_something_slower(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 2000)
    trace.call("storefront", "recommendations", 5, 1500, root)
    for number in range(20):
        trace.query("storefront", "SELECT stock", 1600 + number * 15, 10, root)


@case(kind="latency", team="logistics", n_plus_one=("SELECT n FROM stock WHERE sku = ?", 15, 150.0))
def n_plus_one_by_the_old_names(trace: Trace) -> None:
    root = trace.server("inventory", "GET /bundles", 0, 200)
    old = {"db__system__name": None, "db__query__summary": None, "server__address": None, "db__system": "mysql"}
    for number in range(15):
        query = f"SELECT n FROM stock WHERE sku = {number if number % 2 else repr(str(number))}"
        trace.query("inventory", "SELECT", 2 + number * 13, 10, root, db__statement=query, **old)


@case(kind="none", team=None)
def different_queries_by_the_old_names(trace: Trace) -> None:
    root = trace.server("inventory", "GET /bundles", 0, 200)
    for number in range(15):
        old = {"db__system__name": None, "db__query__summary": None, "db__system": "mysql"}
        trace.query(
            "inventory", "SELECT", 2 + number * 13, 10, root, db__statement=f"SELECT * FROM {'abcdefghijklmno'[number]}", **old
        )


@case(kind="latency", team="logistics", span="count", missing="inventory differ by about 50 ms")
def clock_skew_of_50_ms(trace: Trace) -> None:
    _skewed(trace, -50)


@case(kind="latency", team="logistics", span="count", missing="inventory differ by about 5.0 s")
def clock_skew_of_5_s(trace: Trace) -> None:
    _skewed(trace, 5000)


def _skewed(trace: Trace, skew: float) -> None:
    root = trace.server("storefront", "GET /", 0, 1000)
    server = trace.call("storefront", "inventory", 5, 900, root, skew=skew)
    trace.add("inventory", "count", 10, 800, server, skew=skew)


@case(kind="latency", team="logistics", span="count", missing="one span in the middle", confidence="medium")
def lost_middle(trace: Trace) -> list[SpanRecord]:
    root = trace.server("storefront", "GET /", 0, 1000)
    server = trace.call("storefront", "inventory", 5, 900, root)
    trace.add("inventory", "count", 10, 880, server)
    return trace.without(server)


@case(kind="latency", team=None, service="billing", confidence="low", missing="nobody is named")
def slowness_that_nobody_owns(trace: Trace) -> None:
    trace.server("billing", "GET /", 0, 1000)


@case(kind="latency", handled=2, team="logistics")
def slow_because_of_what_came_after_a_handled_error(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 1000)
    trace.call("storefront", "recommendations", 5, 20, root, 503)
    trace.call("storefront", "inventory", 30, 900, root)


@pytest.mark.parametrize("name", CASES)
def test_slowness_is_put_where_an_engineer_would(name: str) -> None:
    build, expected = CASES[name]
    spans = build()
    found = verdict(spans)
    for key, known in expected.items():
        if key == "words":
            assert known in found.why
        elif key == "asks":
            assert found.question == known
        elif key == "missing":
            assert known in "; ".join(found.evidence_missing)
        elif key == "handled":
            assert len(found.handled) == known
        elif key == "percent":
            assert found.shares[0] == known
        elif key == "n_plus_one" and known is not None:
            assert found.n_plus_one is not None
            assert tuple(found.n_plus_one.values()) == known
        else:
            assert getattr(found, key) == known, (key, found)
    if found.kind == "latency":
        for shares in (found.shares, found.service_shares, found.span_shares):
            assert sum(percent for _, percent in shares) == pytest.approx(100, abs=0.5)
    check(found, spans)


@pytest.mark.parametrize("name", CASES)
def test_slowness_is_the_same_after_the_way_over_otlp(name: str) -> None:
    spans = CASES[name][0]()
    known = verdict(spans)
    for form, received in as_received(spans).items():
        found = verdict(received)
        assert found._replace(handled=tuple(sorted(found.handled))) == known._replace(handled=tuple(sorted(known.handled))), form


def test_shares_are_per_cent_of_the_critical_path_by_team_service_and_span() -> None:
    trace = Trace()
    root = trace.server("storefront", "GET /", 0, 1000)
    trace.add("storefront", "render", 0, 100, root)
    client = trace.client("storefront", 110, 790, root, name="GET")
    server = trace.server("checkout", "GET /cart", 150, 700, client)
    trace.add("checkout", "score", 200, 250, server, team="risk")
    trace.client("checkout", 500, 300, server, name="POST", service__peer__name="bank", lighttrace__peer__team="banking")
    trace.add("recommendations", "hidden", 200, 500, client)  # not waited for
    for spans in (trace.spans, *as_received(trace.spans).values()):
        found = verdict(spans)
        assert found.shares == (("web", 30.0), ("banking", 30.0), ("risk", 25.0), ("payments", 15.0))
        assert found.service_shares == (("checkout", 70.0), ("storefront", 30.0))
        assert found.span_shares == (
            ("POST", 30.0), ("score", 25.0), ("GET /cart", 15.0), ("GET /", 11.0), ("render", 10.0), ("GET", 9.0),
        )  # fmt: skip


def test_what_counts_as_slow_can_be_said() -> None:
    trace = Trace()
    trace.server("storefront", "GET /", 0, 100)
    assert verdict(trace.spans).kind == "none"
    assert verdict(trace.spans, slow_ms=100).kind == "latency"
    assert verdict(trace.spans, slow_ms=101).kind == "none"


def test_trace_that_took_no_time_at_all_can_be_slow() -> None:
    trace = Trace()
    trace.server("storefront", "GET /", 0, 0)
    assert verdict(trace.spans, slow_ms=0).kind == "latency"
