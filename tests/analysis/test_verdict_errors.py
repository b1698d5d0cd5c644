"""Who is to blame for a request that failed: each case a trace, and what an engineer would say of it."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from lighttrace.analysis import SpanRecord, Verdict, verdict
from tests.analysis.traces import Trace, as_received


class Case(NamedTuple):
    """A trace, and the known answer."""

    build: Callable[[], list[SpanRecord]]
    expected: dict[str, Any]


CASES: dict[str, Case] = {}


def case(**expected: Any) -> Callable[[Callable[[Trace], list[SpanRecord] | None]], Any]:
    def register(build: Callable[[Trace], list[SpanRecord] | None]) -> Any:
        def built() -> list[SpanRecord]:
            trace = Trace()
            return build(trace) or trace.spans

        CASES[build.__name__] = Case(built, expected)
        return build

    return register


@case(kind="error", team="logistics", service="inventory", span="load", confidence="high", path=3, handled=0)
def failed_leaf(trace: Trace) -> None:
    root = trace.server("inventory", "GET /stock", 0, 20, status=500)
    work = trace.add("inventory", "read", 1, 18, root, error=("ValueError", "no stock"))
    trace.add("inventory", "load", 2, 5, work, error=("ValueError", "no stock"))


@case(
    kind="error",
    team="risk",
    service="ledger",
    span="score",
    code="fraud.py:7 in score",
    confidence="high",
    path=8,
    asks="why does score() in fraud.py:7 raise KeyError: 'BE'?",
)
def error_that_travelled_up_four_services(trace: Trace) -> None:
    parent: Any = trace.server("storefront", "POST /orders", 0, 100, status=500)
    services = ["storefront", "checkout", "inventory", "ledger"]
    for depth, (caller, callee) in enumerate(itertools.pairwise(services), 1):
        parent = trace.call(caller, callee, depth * 5, 90 - depth * 10, parent, 500)
    where = {"code__file__path": "fraud.py", "code__function__name": "score", "code__line__number": 7}
    trace.add("ledger", "score", 30, 5, parent, error=("KeyError", "'BE'"), lighttrace__error__team="risk", **where)


@case(kind="none", team=None, span=None, handled=2, confidence="high")
def handled_error(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 50)
    trace.call("storefront", "recommendations", 5, 20, root, 503)
    trace.add("storefront", "render", 30, 10, root)


@case(kind="none", team=None, handled=2)
def retry_that_succeeded(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 50)
    trace.call("storefront", "recommendations", 5, 10, root, 503)
    trace.call("storefront", "recommendations", 20, 10, root, 200)


@case(kind="error", team="payments", span="charge", handled=2, also=0)
def retry_that_succeeded_before_something_else_failed(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 80, status=500)
    trace.call("storefront", "recommendations", 5, 10, root, 503)
    trace.call("storefront", "recommendations", 20, 10, root, 200)
    server = trace.call("storefront", "checkout", 40, 30, root, 500, name="POST /payments")
    trace.add("checkout", "charge", 42, 5, server, error=("ValueError", "no such card"))


@case(kind="error", team="discovery", service="recommendations", also=0, handled=0, words="")
def retries_in_vain(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 80, status=500)
    for attempt in range(3):
        trace.call("storefront", "recommendations", 5 + 20 * attempt, 10, root, 503)


@case(kind="error", team="payments", also=1, words="independently")
def two_independent_errors(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 80, status=500)
    trace.call("storefront", "recommendations", 5, 20, root, 500, name="GET /similar")
    server = trace.call("storefront", "checkout", 40, 30, root, 500, name="POST /payments")
    trace.add("checkout", "charge", 42, 5, server, error=("ValueError", "no such card"))


@case(kind="error", team="discovery", also=1, confidence="medium")
def two_errors_at_once_of_which_the_first_ended_the_wait(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 80, status=500)
    trace.call("storefront", "recommendations", 5, 20, root, 500, name="GET /similar")
    trace.call("storefront", "checkout", 6, 60, root, 500, name="POST /payments")


@case(kind="error", team="payments", also=1, confidence="high")
def two_errors_at_once_of_which_the_parent_tells_one(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 80, status=500, error=("CardError", "card 17 is expired"))
    trace.add("recommendations", "rank", 5, 20, root, error=("KeyError", "'similar'"))
    trace.add("checkout", "charge", 6, 60, root, error=("CardError", "card 17 is expired"))


@case(kind="error", team="web", service="storefront", span="GET", words="refused with 422", confidence="high")
def client_error(trace: Trace) -> None:
    root = trace.server("storefront", "POST /orders", 0, 50, status=500)
    trace.call("storefront", "checkout", 5, 20, root, 422)


@case(kind="error", team="web", service="storefront", words="refused with 409")
def client_error_whose_callee_has_an_errored_query(trace: Trace) -> None:
    root = trace.server("storefront", "POST /orders", 0, 50, status=500)
    server = trace.call("storefront", "checkout", 5, 20, root, 409)
    trace.query("checkout", "INSERT orders", 7, 2, server, error=("UniqueViolation", "x"), db__response__status_code="23505")


@case(
    kind="error",
    team="web",
    service="storefront",
    code="storefront/app.py:60 in pay",
    asks="why does pay() in storefront/app.py:60 send a GET / that checkout refuses with 422?",
)
def client_error_names_the_line_in_which_it_came_up(trace: Trace) -> None:
    where = {"code__file__path": "storefront/app.py", "code__function__name": "pay", "code__line__number": 60}
    root = trace.server("storefront", "POST /orders", 0, 50, status=500, error=("HTTPStatusError", "Client error '422'"), **where)
    trace.call("storefront", "checkout", 5, 20, root, 422)


@case(kind="error", team="web", service="storefront", words="refused with 404")
def client_error_that_the_entry_echoes_as_4xx(trace: Trace) -> None:
    root = trace.server("storefront", "GET /orders", 0, 50, status=404)
    trace.call("storefront", "checkout", 5, 20, root, 404)


@case(kind="error", team="payments", service="checkout", words="refused with 400")
def server_error_because_of_a_client_error_further_down(trace: Trace) -> None:
    root = trace.server("storefront", "POST /orders", 0, 50, status=500)
    server = trace.call("storefront", "checkout", 5, 40, root, 500)
    trace.call("checkout", "ledger", 10, 20, server, 400)


@case(kind="none", team=None, words="asked wrongly")
def request_that_was_asked_wrongly(trace: Trace) -> None:
    trace.server("storefront", "GET /orders/{id}", 0, 5, status=404)


@case(kind="none", team=None, handled=2)
def request_that_was_asked_wrongly_after_an_error_was_handled(trace: Trace) -> None:
    root = trace.server("storefront", "GET /orders/{id}", 0, 50, status=404)
    trace.call("storefront", "recommendations", 5, 10, root, 503)
    trace.query("storefront", "SELECT orders", 20, 2, root)


REFUSED = ("requests.exceptions.ConnectionError", "[Errno 111] Connection refused")


@case(
    kind="error",
    team="banking",
    service="bank",
    words="refused the connection",
    missing="no span of bank",
    confidence="high",
    asks="is bank up? It refuses connections from checkout.",
)
def connection_refused_by_a_known_peer(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 50, status=500)
    peer = {"service__peer__name": "bank", "lighttrace__peer__team": "banking"}
    trace.client("checkout", 5, 2, root, None, error=REFUSED, server__address="bank.example", server__port=443, **peer)


@case(
    kind="error",
    team="payments",
    words="unknown remote bank.example:443",
    missing="peer table",
    confidence="low",
    asks='whose is bank.example:443? Answer it for next time: in [peers], "bank.example" = { service = "...", team = "..." }.',
)
def connection_refused_by_nobody_known(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 50, status=500)
    trace.client("checkout", 5, 2, root, None, error=REFUSED, server__address="bank.example", server__port=443)


@case(kind="error", team="logistics", service="inventory", words="refused the connection")
def connection_refused_by_a_peer_whose_team_other_spans_tell(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 50, status=500)
    trace.call("checkout", "inventory", 2, 10, root)
    trace.client("checkout", 20, 2, root, None, error=REFUSED, service__peer__name="inventory")


@case(kind="error", team="logistics", service="inventory", confidence="medium", missing="only known from another call")
def connection_refused_where_another_call_of_the_trace_was_answered(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 50, status=500)
    there = {"server__address": "10.0.0.7", "server__port": 7003}
    trace.server("inventory", "GET /stock", 3, 8, trace.client("checkout", 2, 10, root, **there))
    trace.client("checkout", 20, 2, root, None, error=REFUSED, **there)


@case(kind="error", team="payments", words="unknown remote gateway:80", confidence="low")
def connection_refused_by_a_gateway_before_many_services(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 50, status=500)
    there = {"server__address": "gateway", "server__port": 80}
    for number, service in enumerate(["inventory", "ledger"]):
        trace.server(service, "GET /", 3 + number * 10, 4, trace.client("checkout", 2 + number * 10, 6, root, **there))
    trace.client("checkout", 30, 2, root, None, error=REFUSED, **there)


@case(kind="error", team="payments", words="3 times", confidence="low")
def connection_refused_again_and_again(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 50, status=500)
    for attempt in range(3):
        trace.client("checkout", 5 + attempt * 10, 2, root, None, error=REFUSED)


@case(kind="error", team="data", service="orders-db:5432", words="refused the connection")
def database_that_is_down(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 50, status=500)
    down = {"error": ("OperationalError", "connection refused"), "server__port": 5432, "lighttrace__peer__team": "data"}
    trace.query("checkout", "SELECT orders", 5, 2, root, **down)


@case(kind="error", team="payments", words="UndefinedColumn", confidence="high", code="store.py:12 in load")
def statement_that_the_database_refuses(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 50, status=500)
    wrong = {"error": ("UndefinedColumn", "column x does not exist"), "db__response__status_code": "42703"}
    where = {"code__file__path": "store.py", "code__function__name": "load", "code__line__number": 12}
    trace.query("checkout", "SELECT orders", 5, 2, root, lighttrace__peer__team="data", **wrong, **where)


@case(kind="error", team="payments", words="InvalidURL", code="pay.py:3 in send")
def call_that_never_left(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 50, status=500)
    where = {"code__file__path": "pay.py", "code__function__name": "send", "code__line__number": 3}
    trace.client("checkout", 5, 2, root, None, error=("InvalidURL", "no host"), lighttrace__peer__team="banking", **where)


TIMED_OUT = ("httpx.ReadTimeout", "timed out")


@case(
    kind="error",
    team="logistics",
    service="inventory",
    span="count all",
    words="gave up after 100 ms",
    confidence="medium",
    asks="why does count all of inventory take 380 ms? checkout waits for 100 ms at most.",
)
def timeout_above_a_slow_child(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 120, status=500)
    client = trace.client("checkout", 5, 100, root, None, error=TIMED_OUT)
    server = trace.server("inventory", "GET /stock", 6, 400, client)
    trace.add("inventory", "count all", 10, 380, server)


@case(kind="error", team="logistics", service="inventory", span="GET /stock")
def timeout_above_a_child_that_then_found_nobody_to_answer(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 120, status=500)
    client = trace.client("checkout", 5, 100, root, None, error=TIMED_OUT)
    trace.server("inventory", "GET /stock", 6, 400, client, 200, error=("BrokenPipeError", "Broken pipe"))


@case(kind="error", team="logistics", span="GET /stock", words="sent 20 times")
def timeout_above_a_loop_of_queries(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 120, status=500)
    client = trace.client("checkout", 5, 100, root, None, error=TIMED_OUT)
    server = trace.server("inventory", "GET /stock", 6, 420, client)
    for number in range(20):
        trace.query("inventory", "SELECT stock", 7 + 20 * number, 19, server)


@case(
    kind="error",
    team="banking",
    service="bank",
    words="did not answer within 100 ms",
    missing="no span of bank",
    confidence="medium",
)
def timeout_above_a_missing_child(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 120, status=500)
    trace.client("checkout", 5, 100, root, None, error=TIMED_OUT, service__peer__name="bank", lighttrace__peer__team="banking")


@case(kind="error", team="payments", words="unknown remote somewhere did not answer", confidence="low")
def timeout_above_a_missing_child_of_nobody_known(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 120, status=500)
    trace.client("checkout", 5, 100, root, None, error=TIMED_OUT)


@case(kind="error", team="logistics", span="GET /stock", confidence="medium")
def timeout_that_cancelled_the_call(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 120, status=500, error=("TimeoutError", ""))
    client = trace.client("checkout", 5, 110, root, None)
    trace.server("inventory", "GET /stock", 6, 400, client)


@case(kind="error", team="banking", words="answered with status 503", confidence="medium")
def remote_that_answers_5xx_and_sends_no_spans(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 120, status=500)
    trace.client("checkout", 5, 100, root, 503, service__peer__name="bank", lighttrace__peer__team="banking")


@case(kind="error", team="logistics", span="GET /stock", words="does not say why", confidence="medium")
def server_that_seems_well_and_its_caller_got_502(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 120, status=500)
    client = trace.client("checkout", 5, 100, root, 502)
    trace.server("inventory", "GET /stock", 6, 90, client)


@case(kind="error", team="web", span="GET /", handled=2, code=None, confidence="medium")
def error_of_ones_own_after_another_was_handled(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 80, status=500, error=("ZeroDivisionError", "division by zero"))
    trace.call("storefront", "recommendations", 5, 10, root, 503)
    trace.add("storefront", "render", 40, 20, root)


@case(kind="error", team="payments", span="charge")
def error_that_passed_through_a_span_without_status(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 50, status=500)
    middle = trace.add("checkout", "in a transaction", 1, 40, root)
    trace.add("checkout", "charge", 2, 5, middle, error=("ValueError", "no such card"))


@case(kind="error", team="web", span="render", missing="the root span has not arrived", confidence="medium")
def lost_root(trace: Trace) -> list[SpanRecord]:
    root = trace.server("storefront", "GET /", 0, 100, status=500)
    trace.call("storefront", "inventory", 5, 60, root)
    trace.add("storefront", "render", 70, 5, root, error=("KeyError", "'price'"))
    return trace.without(root)


@case(kind="error", team="logistics", span="load", missing="one span in the middle", confidence="medium")
def lost_middle(trace: Trace) -> list[SpanRecord]:
    root = trace.server("storefront", "GET /", 0, 100, status=500)
    server = trace.call("storefront", "inventory", 5, 60, root, 500)
    trace.add("inventory", "load", 10, 40, server, error=("ValueError", "no stock"))
    return trace.without(server)


@case(kind="error", team="logistics", span="load", missing="one span in the middle", confidence="medium")
def lost_client_span(trace: Trace) -> list[SpanRecord]:
    root = trace.server("storefront", "GET /", 0, 100, status=500)
    server = trace.call("storefront", "inventory", 5, 60, root, 500)
    trace.add("inventory", "load", 10, 40, server, error=("ValueError", "no stock"))
    return trace.without(trace.spans[1])


@case(kind="error", team="logistics", span="load", missing="inventory differ by about 50 ms", confidence="high")
def clock_skew_of_50_ms(trace: Trace) -> None:
    _skewed(trace, -50)


@case(kind="error", team="logistics", span="load", missing="inventory differ by about 50 ms")
def clock_skew_of_50_ms_the_other_way(trace: Trace) -> None:
    _skewed(trace, 50)


@case(kind="error", team="logistics", span="load", missing="inventory differ by about 5.0 s")
def clock_skew_of_5_s(trace: Trace) -> None:
    _skewed(trace, 5000)


@case(kind="error", team="logistics", span="load", missing="inventory differ by about 5.0 s")
def clock_skew_of_5_s_the_other_way(trace: Trace) -> None:
    _skewed(trace, -5000)


def _skewed(trace: Trace, skew: float) -> None:
    root = trace.server("storefront", "GET /", 0, 100, status=500)
    server = trace.call("storefront", "inventory", 5, 60, root, 500, skew=skew)
    trace.add("inventory", "load", 10, 40, server, error=("ValueError", "no stock"), skew=skew)


@case(kind="error", team="logistics", span="load", confidence="high", spans=4)
def duplicate_spans(trace: Trace) -> list[SpanRecord]:
    root = trace.server("storefront", "GET /", 0, 100, status=500)
    server = trace.call("storefront", "inventory", 5, 60, root, 500)
    trace.add("inventory", "load", 10, 40, server, error=("ValueError", "no stock"))
    return trace.spans + trace.spans[::-1]


@case(kind="error", team="payments", span="charge", missing="name each other as parents")
def cycle_of_parents(trace: Trace) -> None:
    first = trace.add("checkout", "charge", 0, 30, "3".rjust(16, "0"), error=("ValueError", "no such card"))
    second = trace.add("checkout", "two", 1, 20, first)
    trace.add("checkout", "three", 2, 10, second)


@case(kind="error", team="logistics", span="load", service="inventory")
def old_attribute_names_only(trace: Trace) -> None:
    old = {"http__response__status_code": None, "server__address": None}
    root = trace.server("storefront", "GET /", 0, 100, http__status_code=500, http__method="GET", error=True, **old)
    client = trace.client("storefront", 5, 60, root, None, http__status_code=500, net__peer__name="inventory", error=True)
    server = trace.server("inventory", "GET /stock", 6, 58, client, http__status_code=500, error=True, **old)
    trace.add("inventory", "load", 10, 40, server, error=("ValueError", "no stock"), code__filepath="a.py", code__lineno=3)


@case(kind="error", team="web", words="refused with 404")
def client_error_by_the_old_names(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 100, status=500)
    trace.client("storefront", 5, 60, root, None, http__status_code="404", net__peer__name="inventory", error=True)


@case(kind="error", team="web", words="unknown remote bank.example:8443", confidence="low")
def connection_refused_and_the_address_is_only_in_the_old_url(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 100, status=500)
    old = {"http__url": "https://user@bank.example:8443/charges?x=1", "server__address": None}
    trace.client("storefront", 5, 6, root, None, error=REFUSED, **old)


@case(kind="error", team="web", words="ConnectionError: [Errno 111] Connection refused)")
def connection_refused_with_the_whole_pedigree_in_the_message(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 100, status=500)
    said = (
        "HTTPConnectionPool(host='bank', port=80): Max retries exceeded with url: /charges (Caused by "
        "NewConnectionError(\"HTTPConnection(host='bank', port=80): Failed to establish a new connection: [Errno 111] Connection refused\"))"
    )
    trace.client("storefront", 5, 6, root, None, error=("requests.exceptions.ConnectionError", said))


@case(kind="error", team="web", words="peer.service-bank refused", confidence="low")
def connection_refused_by_the_old_names(trace: Trace) -> None:
    root = trace.server("storefront", "GET /", 0, 100, status=500)
    trace.client("storefront", 5, 6, root, None, error=REFUSED, peer__service="peer.service-bank", server__address=None)


@case(kind="error", team="finance", span="settle", service="ledger")
def consumer_that_failed_after_its_producer_had_gone(trace: Trace) -> None:
    root = trace.server("checkout", "POST /payments", 0, 20)
    producer = trace.add("checkout", "send payments", 5, 2, root, "producer")
    consumer = trace.add("ledger", "process payments", 500, 40, producer, "consumer", error=True)
    trace.add("ledger", "settle", 510, 10, consumer, error=("ValueError", "no account"))


@case(kind="error", team=None, service="billing", confidence="low", missing="nobody is named")
def failure_that_nobody_owns(trace: Trace) -> None:
    root = trace.server("billing", "GET /", 0, 20, status=500)
    trace.add("billing", "sum", 5, 2, root, error=("ValueError", "x"))


@pytest.mark.parametrize("name", CASES)
def test_blame_is_put_where_an_engineer_would(name: str) -> None:
    spans = CASES[name].build()
    found = verdict(spans)
    for key, known in CASES[name].expected.items():
        if key == "words":
            assert known in found.why
        elif key == "asks":
            assert found.question == known
        elif key == "missing":
            assert known in "; ".join(found.evidence_missing)
        elif key == "spans":
            assert len({span.span_id for span in spans}) == known
        elif key in ("path", "handled", "also"):
            assert len(getattr(found, key)) == known, (key, found)
        else:
            assert getattr(found, key) == known, (key, found)
    check(found, spans)


def check(found: Verdict, spans: list[SpanRecord]) -> None:
    """What holds of every verdict."""
    ids = {span.span_id for span in spans}
    assert {*found.path, *found.handled, *found.also} <= ids
    assert not set(found.handled) & set(found.also)
    assert found.kind != "error" or not set(found.handled) & set(found.path)
    assert found.why.endswith(".")
    assert "\n" not in found.why
    assert found.confidence in ("high", "medium", "low")
    if found.kind == "none":
        assert (found.team, found.service, found.span, found.path) == (None, None, None, ())
    else:
        assert found.path[-1] == found.span_id


@pytest.mark.parametrize("name", CASES)
def test_blame_is_the_same_after_the_way_over_otlp(name: str) -> None:
    spans = CASES[name].build()
    known = verdict(spans)
    for form, received in as_received(spans).items():
        found = verdict(received)
        assert (sorted(found.handled), sorted(found.also)) == (sorted(known.handled), sorted(known.also)), form
        assert found._replace(handled=(), also=()) == known._replace(handled=(), also=()), form


def test_verdict_does_not_depend_on_the_order_in_which_spans_arrive() -> None:
    for name, one in CASES.items():
        spans = one.build()
        assert verdict(spans[::-1])._replace(handled=(), also=()) == verdict(spans)._replace(handled=(), also=()), name


def test_contact_of_the_team_is_found_wherever_its_service_is() -> None:
    found = verdict(CASES["error_that_travelled_up_four_services"].build())
    assert (found.team, found.contact, found.url) == ("risk", None, None)
    found = verdict(CASES["failed_leaf"].build())
    assert (found.contact, found.url) == ("#logistics-oncall", "https://runbooks/logistics")


def test_trace_without_spans_is_refused() -> None:
    with pytest.raises(ValueError, match="without spans"):
        verdict([])
