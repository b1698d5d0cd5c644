"""What of our baggage leaves and is believed, whoever writes and reads the headers: our engine, contrib, or the program by hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from opentelemetry import baggage as otel
from opentelemetry import context as otel_context
from opentelemetry import propagate as otel_propagate
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator as StockBaggage
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import lighttrace
from lighttrace import semconv
from lighttrace.instrument import egress, propagate
from lighttrace.instrument.engine import state
from lighttrace.propagation import baggage
from lighttrace.testing import capture
from lighttrace.testing.peer import Peer
from lighttrace.tracing.context import current

options = {"service": "checkout", "team": "payments", "resolver": None, "patch": False}
STOCK = CompositePropagator([TraceContextTextMapPropagator(), StockBaggage()])


@pytest.fixture(params=["ours", "stock"])
def spans(request):
    with capture(**options) as captured:
        if request.param == "stock":
            otel_propagate.set_global_textmap(STOCK)
        yield captured


def injected(write=None, **arguments):
    carrier = {}
    (write or otel_propagate.inject)(carrier, **arguments)
    return {name: value for name, value in carrier.items() if name != "traceparent"}


def client(**attributes):
    tracer = trace.get_tracer("by hand")
    return tracer.start_as_current_span("call", kind=SpanKind.CLIENT, attributes=attributes)


def test_by_hand_nothing_of_ours_leaves_where_no_host_is_known(spans):
    token = otel_context.attach(otel.set_baggage("user", "alice"))
    with lighttrace.transaction("pay", customer="bob"), lighttrace.span("work"):
        assert injected() == {"baggage": "user=alice"}
        assert injected(StockBaggage().inject) == {"baggage": "user=alice"}
        assert injected(baggage.W3CBaggagePropagator().inject) == {"baggage": "user=alice"}
        assert injected(context=current.get()) == {"baggage": "user=alice"}
    otel_context.detach(token)


@pytest.mark.parametrize(
    "attributes",
    [
        {semconv.URL_FULL: "http://bank.example.com/"},
        {semconv.SERVER_ADDRESS: "bank.example.com"},
        {"http.url": "https://bank.example.com/"},
        {"net.peer.name": "8.8.8.8"},
        # One that is ours does not speak for one that is not.
        {semconv.URL_FULL: "http://bank.example.com/", semconv.SERVER_ADDRESS: "localhost"},
        {semconv.URL_FULL: 3},
        {"peer": "localhost"},
    ],
)
def test_nothing_of_ours_leaves_toward_strangers(spans, attributes):
    with lighttrace.transaction("pay", customer="bob"), client(**attributes):
        assert injected() == {}
        assert injected(StockBaggage().inject) == {}


@pytest.mark.parametrize(
    "attributes",
    [
        {semconv.URL_FULL: "http://orders.svc:8080/"},
        {semconv.SERVER_ADDRESS: "10.1.2.3"},
        {"http.url": "https://localhost/"},
        {"net.peer.name": "orders"},
    ],
)
def test_under_a_call_of_one_of_us_ours_go_along_rewritten(spans, attributes):
    token = otel_context.attach(otel.set_baggage(semconv.CALLER_SERVICE, "who called us"))
    with lighttrace.transaction("pay"), client(**attributes):
        sent = injected()["baggage"]
    assert set(sent.split(",")) == {
        f"{semconv.CALLER_SERVICE}=checkout",
        f"{semconv.CALLER_TEAM}=payments",
        f"{semconv.TRANSACTION}=pay",
    }
    otel_context.detach(token)


def test_what_the_program_sends_without_ours_is_what_it_wrote(spans):
    token = otel_context.attach(otel.set_baggage("user", "alice"))
    with client(**{semconv.SERVER_ADDRESS: "localhost"}):
        assert injected() == {"baggage": "user=alice"}
    otel_context.detach(token)


HEADERS = {"baggage": f"{semconv.CALLER_SERVICE}=web,{semconv.TRANSACTION}=pay,user=alice"}


def test_what_the_program_reads_by_hand_is_handed_down(spans):
    context = otel_propagate.extract(HEADERS)
    tracer = trace.get_tracer("by hand")
    tracer.start_span("consume", context=context, kind=SpanKind.CONSUMER).end()
    span = spans.take()[0]
    assert span.attributes[semconv.CALLER_SERVICE] == "web"
    assert span.attributes[semconv.TRANSACTION] == "pay"
    assert "user" not in span.attributes


def test_the_edge_believes_nothing_that_the_program_reads_by_hand(spans, monkeypatch):
    monkeypatch.setattr(state, "edge", True)
    context = otel_propagate.extract(HEADERS)
    assert otel.get_all(context) == {"user": "alice"}
    trace.get_tracer("by hand").start_span("consume", context=context).end()
    assert not any(key.startswith("lighttrace.caller") for key in spans.take()[0].attributes)


def test_contrib_sends_no_more_than_we_do(monkeypatch):
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.requests")
    instrumentor = instrumentation.RequestsInstrumentor()
    with capture(**options), Peer() as peer:
        instrumentor.instrument()
        try:
            with lighttrace.transaction("pay", customer="bob"):
                requests.get(peer.url + "/", timeout=5)
                requests.get("http://bank.example.com/", proxies={"http": peer.url}, timeout=5)
        finally:
            instrumentor.uninstrument()
        ours, strangers = peer.take()
    assert ours.header("traceparent") and strangers.header("traceparent")
    assert f"{semconv.TRANSACTION}=pay" in (ours.header("baggage") or "")
    assert strangers.header("baggage") is None


def test_undo_is_exact():
    before = otel_propagate.inject, otel_propagate.extract, StockBaggage.inject
    with capture(**options):
        assert otel_propagate.inject is not before[0]
        assert not egress.start(), "once is enough"
    assert (otel_propagate.inject, otel_propagate.extract, StockBaggage.inject) == before


@pytest.mark.contained
def test_what_fails_in_it_never_reaches_the_program(monkeypatch):
    with capture(**options, contained=True) as spans:
        monkeypatch.setattr(propagate, "believed", lambda context: 1 / 0)
        monkeypatch.setattr(egress, "leaves_for_one_of_us", lambda context: 1 / 0)
        with lighttrace.transaction("pay"):
            otel_propagate.inject({})
        assert otel.get_all(otel_propagate.extract(HEADERS))["user"] == "alice"
        assert len(spans.failures) >= 2
        for patch in egress._PATCHES:
            patch.site.failures = 0


# -- what the engine writes ------------------------------------------------------------------------------------------


def outgoing(internal=True, **members):
    context = baggage.with_all(members, current.get())
    with lighttrace.span("call") as span:
        return propagate.outgoing_baggage(span, context, internal)


CALLER = f"{semconv.CALLER_SERVICE}=checkout,{semconv.CALLER_TEAM}=payments"


def test_foreign_members_go_first_and_ours_stay_behind_where_the_limits_are_reached():
    with capture(**options):
        foreign = {f"key{number}": "x" for number in range(64)}
        assert outgoing(**foreign) == baggage.format(foreign)
        foreign.popitem()
        assert outgoing(**foreign) == f"{baggage.format(foreign)},{semconv.CALLER_SERVICE}=checkout"
        big = {"big": "x" * 8180}
        assert outgoing(**big) == baggage.format(big)
        assert outgoing(user="alice") == f"user=alice,{CALLER}"
        assert outgoing(internal=False, user="alice") == "user=alice"
        assert outgoing(internal=False) is None


def test_ours_have_512_bytes_at_most():
    long = "%C3%BC" * 32
    with capture(**{**options, "service": "ü" * 64}):
        sent = outgoing(**{semconv.TRANSACTION: "ü" * 64, semconv.CUSTOMER: "ü" * 64})
        assert sent == f"{semconv.CALLER_SERVICE}={long},{semconv.CALLER_TEAM}=payments,{semconv.TRANSACTION}={long}"
        assert len(sent) <= 512
    with capture(**options):
        assert len(outgoing(**{semconv.TRANSACTION: "x" * 999, semconv.CUSTOMER: "y" * 999})) <= 512


def test_many_customers_do_not_fill_the_memory():
    with capture(**options):
        for number in range(2000):
            outgoing(**{semconv.CUSTOMER: str(number)})
        assert len(state.caller) <= 1001
        assert outgoing(**{semconv.CUSTOMER: ["no hash"]}) == f"{CALLER},{semconv.CUSTOMER}=[%27no%20hash%27]".replace("%27", "'")


def test_another_configuration_decides_anew_who_is_one_of_us():
    def sent(**more):
        lighttrace.init(service="checkout", team="payments", exporter="none", **more)
        try:
            with Peer() as peer:
                requests.get("http://orders.example.com/", proxies={"http": peer.url}, timeout=5)
            return peer.take()[0].header("baggage")
        finally:
            lighttrace.shutdown()

    assert sent(baggage_hosts="*.example.com") == CALLER
    assert sent() is None


@pytest.mark.parametrize("order", ["import first", "init first"])
def test_program_that_writes_headers_itself_is_watched_whatever_comes_first(order):
    imports = "from opentelemetry.propagate import inject; from opentelemetry.baggage.propagation import W3CBaggagePropagator\n"
    init = "import lighttrace; lighttrace.init(service='a', exporter='none')\n"
    code = """
with lighttrace.transaction("pay"), lighttrace.span("work"):
    carrier = {}
    inject(carrier)
    assert list(carrier) == ["traceparent"], carrier
    carrier = {}
    W3CBaggagePropagator().inject(carrier)
    assert not carrier, carrier
lighttrace.shutdown()
import opentelemetry.propagate
assert not hasattr(opentelemetry.propagate.inject, "__wrapped__")
"""
    done = subprocess.run(
        [sys.executable, "-c", (imports + init if order == "import first" else init + imports) + code],
        env={**os.environ, "PYTHONPATH": str(Path(lighttrace.__file__).resolve().parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
