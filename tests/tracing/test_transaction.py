"""`lighttrace.transaction`: what it puts into the baggage, and which spans carry it."""

import asyncio
import hmac
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from opentelemetry import baggage as otel
from opentelemetry import context as otel_context

import lighttrace
from lighttrace import semconv
from lighttrace.propagation import baggage
from lighttrace.testing import capture
from lighttrace.tracing.context import current
from lighttrace.tracing.transaction import pseudonym

plain = {"resolver": None, "patch": False}


def said(span):
    return {key: span.attributes[key] for key in baggage.OURS if key in span.attributes}


def test_spans_inside_carry_it_and_those_outside_do_not():
    with capture(**plain, strict=True) as spans:
        with lighttrace.span("outer"):
            with lighttrace.span("before"):
                pass
            with lighttrace.transaction("checkout"), lighttrace.span("inside"), lighttrace.span("deep"):
                pass
            with lighttrace.span("after"):
                pass
        found = {span.name: said(span) for span in spans.take(5)}
        assert len({span.trace_id for span in spans.everything}) == 1
    mine = {semconv.TRANSACTION: "checkout"}
    assert found == {"before": {}, "deep": mine, "inside": mine, "after": {}, "outer": {}}


def test_customer_is_a_pseudonym_unless_it_is_told_otherwise():
    with capture(**plain, customer_salt="pepper", strict=True) as spans:
        with lighttrace.transaction("a", customer="alice@example.com"), lighttrace.span("hashed"):
            assert otel.get_baggage(semconv.CUSTOMER) == pseudonym("alice@example.com")
        with lighttrace.transaction("a", 4711, hashed=False), lighttrace.span("plain"):
            pass
        hashed, as_it_is = spans.take(2)
    # What the documentation tells support to compute.
    assert hashed.attributes[semconv.CUSTOMER] == hmac.digest(b"pepper", b"alice@example.com", "sha256").hex()[:32]
    assert as_it_is.attributes[semconv.CUSTOMER] == "4711"


def test_salt_makes_another_pseudonym():
    def of(salt):
        with capture(**plain, customer_salt=salt):
            return pseudonym("alice")

    assert len({of("a"), of("b"), of(None)}) == 3
    assert of("a") == of("a")


def test_inner_one_replaces_the_name_and_keeps_the_customer():
    with capture(**plain, strict=True) as spans:
        with lighttrace.transaction("outer", customer="alice", hashed=False), lighttrace.span("1"):
            with lighttrace.transaction("inner"), lighttrace.span("2"):
                pass
            with lighttrace.span("3"):
                pass
        found = {span.name: said(span) for span in spans.take(3)}
    alice = {semconv.CUSTOMER: "alice"}
    outer = {semconv.TRANSACTION: "outer", **alice}
    assert found == {"2": {semconv.TRANSACTION: "inner", **alice}, "3": outer, "1": outer}


def test_values_have_at_most_64_bytes():
    with capture(**plain, strict=True) as spans:
        with lighttrace.transaction("€" * 100, customer="x" * 100, hashed=False), lighttrace.span("long"):
            pass
        (span,) = spans.take()
    assert span.attributes[semconv.TRANSACTION] == "€" * 21
    assert span.attributes[semconv.CUSTOMER] == "x" * 64


def test_baggage_of_the_program_stays():
    with capture(**plain):
        token = otel_context.attach(otel.set_baggage("user", "alice"))
        with lighttrace.transaction("checkout"):
            assert otel.get_all() == {"user": "alice", semconv.TRANSACTION: "checkout"}
        assert otel.get_all() == {"user": "alice"}
        otel_context.detach(token)


async def test_coroutines_keep_their_own():
    async def work(number):
        async with lighttrace.transaction(f"number {number}"):
            await asyncio.sleep(0)
            with lighttrace.span("inside", number=number):
                await asyncio.sleep(0)

    with capture(**plain, strict=True) as spans:
        await asyncio.gather(*(work(number) for number in range(10)))
        for span in spans.take(10):
            assert span.attributes[semconv.TRANSACTION] == f"number {span.attributes['number']}"


def test_it_decorates_every_kind_of_function():
    @lighttrace.transaction("decorated")
    def plainly():
        return otel.get_baggage(semconv.TRANSACTION)

    @lighttrace.transaction("decorated")
    async def coroutine():
        return otel.get_baggage(semconv.TRANSACTION)

    @lighttrace.transaction("decorated")
    def generator():
        yield otel.get_baggage(semconv.TRANSACTION)
        yield otel.get_baggage(semconv.TRANSACTION)

    with capture(**plain):
        assert plainly() == "decorated"
        assert asyncio.run(coroutine()) == "decorated"
        for value in generator():
            assert value == "decorated"
            assert otel.get_baggage(semconv.TRANSACTION) is None
    assert plainly.__name__ == "plainly"
    assert asyncio.iscoroutinefunction(coroutine)


def test_threads_and_pools_carry_it():
    def work():
        with lighttrace.span("inside"):
            pass

    with capture(resolver=None, strict=True) as spans:
        with lighttrace.transaction("checkout"), ThreadPoolExecutor(1) as pool:
            pool.submit(work).result()
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            copy_context().run(work)
        assert [span.attributes[semconv.TRANSACTION] for span in spans.take(3)] == ["checkout"] * 3


def test_span_that_asks_for_none_costs_no_context():
    with capture(**plain), lighttrace.span("no transaction") as span:
        assert current.get() is span


def test_switched_off_it_does_nothing():
    before = current.get()
    with lighttrace.transaction("checkout", customer="alice"):
        assert current.get() is before
        assert not otel.get_all()


def test_sampler_of_the_programs_own_sees_the_same_trace():
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    with capture(**plain, sampler=ALWAYS_ON, strict=True) as spans:
        with lighttrace.span("outer"), lighttrace.transaction("checkout"), lighttrace.span("inner"):
            pass
        inner, outer = spans.take(2)
    assert inner.trace_id == outer.trace_id
    assert (said(inner), said(outer)) == ({semconv.TRANSACTION: "checkout"}, {})


def test_attribute_of_the_same_name_is_not_said_twice():
    with capture(**plain, strict=True) as spans:
        with lighttrace.transaction("checkout"), lighttrace.span("inside") as span:
            span.set_attribute(semconv.TRANSACTION, "mine")
        assert spans.take()[0].attributes[semconv.TRANSACTION] == "checkout"


class Hostile:
    __hash__ = None

    def __str__(self):
        raise RuntimeError("no")


@pytest.mark.contained
@pytest.mark.parametrize("hashed", [True, False])
def test_broken_customer_never_breaks_the_host(hashed):
    with capture(**plain, contained=True), lighttrace.transaction("checkout", Hostile(), hashed), lighttrace.span("inside"):
        pass


def test_odd_values_in_the_programs_baggage_are_borne():
    with capture(**plain, strict=True) as spans:
        token = otel_context.attach(otel.set_baggage(semconv.CUSTOMER, ["no", "hash"]))
        with lighttrace.transaction("checkout"), lighttrace.span("inside"):
            pass
        otel_context.detach(token)
        assert said(spans.take()[0]) == {semconv.TRANSACTION: "checkout", semconv.CUSTOMER: "['no', 'hash']"}


def test_many_customers_do_not_fill_the_memory():
    from lighttrace.tracing import transaction

    for number in range(transaction._MOST_HANDED + 10):
        assert transaction.handed_down({semconv.CUSTOMER: str(number)}) is not None
    assert len(transaction._handed) <= transaction._MOST_HANDED
    assert transaction.handed_down({"user": "alice"}) is None
