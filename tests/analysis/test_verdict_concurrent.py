"""What went on at once, and what gave up: who is to blame where several things end together."""

from typing import Any

import pytest

from lighttrace.analysis import SpanRecord, verdict
from tests.analysis.test_verdict_errors import REFUSED, TIMED_OUT, Case, check
from tests.analysis.traces import Trace

CASES: dict[str, Case] = {}
CANCELLED = ("asyncio.exceptions.CancelledError", "")


def case(**expected: Any) -> Any:
    def register(build: Any) -> Any:
        def built() -> list[SpanRecord]:
            trace = Trace()
            return build(trace) or trace.spans

        CASES[build.__name__] = Case(built, expected)
        return build

    return register


@case(kind="error", team="discovery", service="recommendations", also=0, confidence="high")
def async_siblings_of_which_one_failed_and_the_others_were_cancelled(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 60, status=500)
    trace.call("storefront", "recommendations", 5, 50, root, 503, name="GET /similar")
    trace.client("storefront", 5, 50.5, root, None)
    trace.client("storefront", 5, 50.5, root, None)


@case(kind="error", team="discovery", service="recommendations", also=0, confidence="high")
def async_siblings_that_another_tracer_calls_failed_when_they_were_cancelled(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 60, status=500)
    trace.client("storefront", 5, 49.9, root, None, error=CANCELLED, url__full="http://inventory/stock")
    trace.call("storefront", "recommendations", 5, 50, root, 503, name="GET /similar")
    trace.client("storefront", 5, 50.5, root, None, error=CANCELLED, url__full="http://ledger/rates")


@case(kind="error", team="web", service="storefront", also=0)
def request_that_was_cancelled_from_within(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 60, status=500, error=("ValueError", "no such page"))
    trace.client("storefront", 5, 50.5, root, None, error=CANCELLED)


@case(kind="error", team="payments", span="settle")
def error_whose_name_only_sounds_like_a_cancellation(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 60, status=500)
    trace.add("checkout", "settle", 5, 50, root, error=("shop.OrderCancelled", "by the customer"))


@case(kind="error", team="logistics", span="branch 2", confidence="high", also=0)
def fan_out_with_one_failing_branch(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 100, status=500)
    for number in range(5):
        trace.call("storefront", "inventory", 5, 50 + number, root, 500 if number == 2 else 200, name=f"branch {number}")


@case(kind="error", team="logistics", span="branch 2", words="gave up after 300 ms", confidence="medium")
def fan_out_of_which_one_branch_was_given_up(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 310, status=500)
    for number in range(5):
        gone = number == 2
        client = trace.client(
            "storefront", 5, 300 if gone else 40, root, None if gone else 200, error=TIMED_OUT if gone else None
        )
        trace.server("inventory", f"branch {number}", 6, 900 if gone else 30, client)


@case(kind="error", team="banking", service="bank", words="did not answer within 2.00 s", path=4)
def timeout_above_a_timeout_that_came_later(trace: Trace) -> None:
    root = trace.server("storefront", "POST /orders", 0, 1010, status=504)
    client = trace.client("storefront", 5, 1000, root, None, error=TIMED_OUT)
    server = trace.server("checkout", "POST /payments", 6, 2010, client, 500)
    trace.client("checkout", 7, 2000, server, None, error=TIMED_OUT, service__peer__name="bank", lighttrace__peer__team="banking")


@case(kind="error", team="banking", service="bank", words="did not answer within 300 ms", path=4)
def timeout_above_a_timeout_that_came_first(trace: Trace) -> None:
    root = trace.server("storefront", "POST /orders", 0, 1010, status=500)
    client = trace.client("storefront", 5, 320, root, 504)
    server = trace.server("checkout", "POST /payments", 6, 310, client, 504)
    trace.client("checkout", 7, 300, server, None, error=TIMED_OUT, service__peer__name="bank", lighttrace__peer__team="banking")


@case(kind="error", team="banking", service="bank", words="waiting for bank of team banking", missing="no span of bank")
def timeout_above_a_server_that_waited_for_a_silent_remote(trace: Trace) -> None:
    root = trace.server("storefront", "POST /orders", 0, 320, status=500)
    client = trace.client("storefront", 5, 300, root, None, error=TIMED_OUT)
    server = trace.server("checkout", "POST /payments", 6, 900, client, 200)
    trace.client("checkout", 7, 880, server, 200, service__peer__name="bank", lighttrace__peer__team="banking")


@case(kind="error", team="logistics", span="SELECT stock", words="gave up")
def timeout_of_a_caller_whose_server_waited_for_its_database(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 520, status=500)
    client = trace.client("storefront", 5, 500, root, None, error=TIMED_OUT)
    server = trace.server("inventory", "GET /stock", 6, 1200, client)
    trace.query("inventory", "SELECT stock", 8, 1190, server)


@case(kind="error", team="logistics", span="SELECT stock", words="orders-db", confidence="low")
def timeout_of_a_query(trace: Trace) -> None:
    root = trace.server("inventory", "GET /stock", 0, 520, status=500)
    trace.query(
        "inventory", "SELECT stock", 8, 500, root, error=("psycopg.errors.ConnectionTimeout", "connection timeout expired")
    )


@case(kind="none", team=None, handled=1)
def refused_connection_that_a_fallback_made_good(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 50)
    trace.client("storefront", 5, 2, root, None, error=REFUSED, server__address="a.cache")
    trace.client("storefront", 10, 5, root, 200, server__address="b.cache")


@case(kind="latency", team="logistics", span="count", percent=89.8)
def duplicate_spans_of_a_slow_request(trace: Trace) -> list[SpanRecord]:
    root = trace.server("storefront", "GET /", 0, 1000)
    server = trace.call("storefront", "inventory", 5, 900, root)
    trace.add("inventory", "count", 10, 800, server)
    return trace.spans + trace.spans[::-1]


@case(kind="latency", team="logistics", span="count", missing="the root span has not arrived", confidence="medium")
def lost_root_of_a_slow_request(trace: Trace) -> list[SpanRecord]:
    root = trace.server("storefront", "GET /", 0, 1000)
    server = trace.call("storefront", "inventory", 5, 900, root)
    trace.add("inventory", "count", 10, 800, server)
    return trace.without(root)


@case(kind="latency", team="payments", span="two", missing="name each other as parents")
def cycle_of_parents_in_a_slow_request(trace: Trace) -> None:
    first = trace.add("checkout", "one", 0, 900, "2".rjust(16, "0"))
    trace.add("checkout", "two", 1, 880, first)


@case(kind="latency", team="discovery", n_plus_one=None, percent=99.0)
def async_siblings_count_only_where_they_are_waited_for(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 1010)
    trace.add("inventory", "stock", 5, 400, root)
    trace.add("recommendations", "similar", 5, 1000, root)
    trace.add("checkout", "price", 605, 390, root)


@pytest.mark.parametrize("name", CASES)
def test_what_goes_on_at_once_is_judged_as_an_engineer_would(name: str) -> None:
    spans = CASES[name].build()
    found = verdict(spans)
    for key, known in CASES[name].expected.items():
        if key == "words":
            assert known in found.why
        elif key == "missing":
            assert known in "; ".join(found.evidence_missing)
        elif key == "percent":
            assert found.shares[0] == (found.team, known)
        elif key in ("path", "handled", "also"):
            assert len(getattr(found, key)) == known, (key, found)
        else:
            assert getattr(found, key) == known, (key, found)
    check(found, spans)
