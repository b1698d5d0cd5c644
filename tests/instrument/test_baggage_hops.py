"""Baggage over several hops: real services in processes of their own, and what came over the wire to each of them."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lighttrace
from lighttrace import semconv
from lighttrace.backend import Receiver
from lighttrace.propagation import baggage
from lighttrace.testing.peer import Peer
from lighttrace.testing.servers import Site
from lighttrace.tracing.transaction import Settings, pseudonym

PROGRAM = Path(__file__).with_name("baggage_service.py")
ROOT = str(Path(lighttrace.__file__).resolve().parent.parent)
ALICE = "9f5e0e6b1d2c"


@contextlib.contextmanager
def service(name: str, team: str, server: str, receiver: Receiver, *, client: str = "requests", **more: Any) -> Iterator[Site]:
    """A service that answers with what it and those behind it were sent."""
    init = {"service": name, "team": team, "endpoint": receiver.endpoint, **more.pop("init", {})}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LIGHTTRACE_"))}
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), json.dumps({"init": init, "server": server, "client": client, **more})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONPATH": ROOT},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        port = process.stdout.readline()
        assert port, f"{name} did not start"
        yield Site("127.0.0.1", int(port))
    finally:
        process.stdin.close()
        process.stdout.close()
        assert process.wait(30) == 0


def url(site: Site) -> str:
    return f"http://{site.host}:{site.port}/"


def spans_of(receiver: Receiver, name: str, count: int) -> list[Any]:
    """The spans that a service has sent, once there are so many."""

    def found(traces: Any) -> list[Any]:
        return [span for spans in traces.values() for span in spans if span.service == name]

    assert receiver.wait_for(lambda traces: len(found(traces)) >= count), found(receiver.traces())
    return found(receiver.traces())


def ours(span: Any) -> dict[str, Any]:
    return {key: span.attributes[key] for key in baggage.OURS if key in span.attributes}


@pytest.mark.slow
@pytest.mark.parametrize("client", ["requests", "httpx"])
def test_transaction_and_caller_travel_down_the_chain_and_the_edge_believes_nobody(
    client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "salt", b"pepper")
    alice = pseudonym("alice@example.com")
    lie = (
        f"{semconv.CALLER_SERVICE}=evil,{semconv.CALLER_TEAM}=evil,{semconv.TRANSACTION}=evil,{semconv.CUSTOMER}=evil,"
        "team=evil,user=a%2Cb;level=1;p,node=DF%2028"
    )
    with (
        Receiver() as receiver,
        Peer() as peer,
        service("stock", "depot", "fastapi", receiver, client=client, next=peer.url + "/") as stock,
        service("checkout", "payments", "flask", receiver, client=client, next=url(stock)) as checkout,
        service(
            "storefront",
            "web",
            "fastapi",
            receiver,
            client=client,
            next=url(checkout),
            init={"edge": True, "customer_salt": "pepper"},
            transaction={"name": "buy a pot", "customer": "alice@example.com"},
        ) as storefront,
    ):
        said = json.loads(storefront.get("/", {"baggage": lie, "team": "evil"}).body)
        (last,) = peer.take()
        foreign = "team=evil,user=a%2Cb;level=1;p,node=DF%2028"
        about = f"{semconv.TRANSACTION}=buy%20a%20pot,{semconv.CUSTOMER}={alice}"

        def caller(name: str, team: str) -> str:
            return f"{semconv.CALLER_SERVICE}={name},{semconv.CALLER_TEAM}={team}"

        assert said == [
            {"service": "storefront", "baggage": [lie]},
            {"service": "checkout", "baggage": [f"{foreign},{caller('storefront', 'web')},{about}"]},
            {"service": "stock", "baggage": [f"{foreign},{caller('checkout', 'payments')},{about}"]},
        ]
        assert last.header("baggage") == f"{foreign},{caller('stock', 'depot')},{about}"

        mine = {semconv.TRANSACTION: "buy a pot", semconv.CUSTOMER: alice}
        edge = {span.kind: span for span in spans_of(receiver, "storefront", 2)}
        assert ours(edge["server"]) == {}
        assert ours(edge["client"]) == mine
        for name, called_by in (("checkout", ("storefront", "web")), ("stock", ("checkout", "payments"))):
            spans = spans_of(receiver, name, 2)
            assert {span.kind for span in spans} == {"server", "client"}
            for span in spans:
                assert ours(span) == {semconv.CALLER_SERVICE: called_by[0], semconv.CALLER_TEAM: called_by[1], **mine}
        teams = {span.service: span.team for spans in receiver.traces().values() for span in spans}
        assert teams == {"storefront": "web", "checkout": "payments", "stock": "depot"}
        assert len(receiver.traces()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("propagators", ["tracecontext,baggage", "b3,baggage", "jaeger", "ottrace"])
def test_nothing_of_ours_reaches_a_stranger(propagators: str) -> None:
    sent = {"baggage": f"{semconv.CALLER_SERVICE}=web,{semconv.TRANSACTION}=buy,{semconv.CUSTOMER}={ALICE},user=alice"}
    if propagators == "jaeger":
        sent = {"uber-trace-id": f"{1:032x}:{2:016x}:0:1", f"uberctx-{semconv.CUSTOMER}": ALICE, "uberctx-user": "alice"}
    elif propagators == "ottrace":
        sent = {
            "ot-tracer-traceid": f"{1:016x}",
            "ot-tracer-spanid": f"{2:016x}",
            "ot-tracer-sampled": "true",
            f"ot-baggage-{semconv.CUSTOMER}": ALICE,
            "ot-baggage-user": "alice",
        }
    with (
        Receiver() as receiver,
        Peer() as peer,
        service(
            "checkout",
            "payments",
            "flask",
            receiver,
            # What a proxy is asked for is what leaves toward the host that is named.
            next="http://bank.example.com/pay",
            proxy=peer.url,
            init={"propagators": propagators},
            transaction={"name": "pay", "customer": "alice"},
        ) as checkout,
    ):
        assert checkout.get("/", sent).status == 200
        (request,) = peer.take()
        assert request.target == "http://bank.example.com/pay"
        assert b"lighttrace" not in request.raw.lower()
        assert ALICE.encode() not in request.raw and b"payments" not in request.raw
        assert b"alice" in request.raw, "what others wrote passes through"
        spans = {span.kind: span for span in spans_of(receiver, "checkout", 2)}
        assert spans["server"].attributes[semconv.CUSTOMER] == ALICE
        assert spans["client"].attributes[semconv.TRANSACTION] == "pay"


@pytest.mark.slow
def test_a_stranger_that_the_configuration_allows_is_told() -> None:
    with (
        Receiver() as receiver,
        Peer() as peer,
        service(
            "checkout",
            "payments",
            "flask",
            receiver,
            client="httpx",
            next="http://orders.example.com/",
            proxy=peer.url,
            init={"baggage_hosts": "*.example.com"},
        ) as checkout,
    ):
        checkout.get("/")
        (request,) = peer.take()
        assert request.header("baggage") == f"{semconv.CALLER_SERVICE}=checkout,{semconv.CALLER_TEAM}=payments"
