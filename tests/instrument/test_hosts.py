"""Who is on the other side, and what they may learn."""

import pytest

from lighttrace.instrument import hosts
from lighttrace.instrument.engine import state
from lighttrace.testing import capture


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        ("example.com", ("example.com", 443)),
        ("Example.COM:8443", ("example.com", 8443)),
        ("[::1]:80", ("::1", 80)),
        ("[2001:db8::1]", ("2001:db8::1", 443)),
        ("example.com:", ("example.com", 443)),
        ("example.com:http", ("example.com", 443)),
        ("example.com:99999999999", ("example.com", 443)),
        ("", ("", 443)),
        (":", ("", 443)),
        ("[", ("", 443)),
    ],
)
def test_authorities_are_split(authority, expected):
    assert hosts.split_authority(authority, 443) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.com", ("example.com", 80)),
        ("https://bob:secret@example.com/a?b=@c#d", ("example.com", 443)),
        ("https://example.com?a=b", ("example.com", 443)),
        ("HTTPS://example.com:444/", ("example.com", 444)),
        ("http://[::1]:9/a:b", ("::1", 9)),
    ],
)
def test_hosts_of_urls(url, expected):
    host = hosts.host_of(url)
    assert (host.address, host.port) == expected


@pytest.mark.parametrize(
    "address",
    ["localhost", "127.0.0.1", "127.8.8.8", "::1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "172.31.255.1", "169.254.1.1", "fd00::1",
     "orders", "orders-db", "orders.svc", "a.b.svc.cluster.local", "x.internal", "printer.local", "A.INTERNAL"],
)  # fmt: skip
def test_our_own_baggage_travels_among_ourselves(address):
    assert hosts.is_internal(address)


@pytest.mark.parametrize(
    "address",
    ["example.com", "8.8.8.8", "172.32.0.1", "172.15.0.1", "11.0.0.1", "2001:db8::1", "fe.example.com", "localhost.example.com",
     "internal.example.com", "10.0.0.1.example.com", "192.168.0.1.nip.io", "evil.com.", "", "127.0.0.1.evil.com",
     "134744072", "0x08080808"],
)  # fmt: skip
def test_our_own_baggage_never_travels_to_strangers(address):
    assert not hosts.is_internal(address)


def test_configuration_names_more_hosts_of_ours(monkeypatch):
    monkeypatch.setattr(state, "baggage_hosts", ("*.Example.com",))
    assert hosts.is_internal("orders.example.com")
    assert not hosts.is_internal("example.org")


def test_another_configuration_resolves_hosts_anew():
    def internal(**options):
        with capture(resolver=None, patch=False, **options):
            return hosts.host_of("https://orders.example.com/").internal, hosts.host("orders.example.com", 443).internal

    assert internal(baggage_hosts="*.example.com") == (True, True)
    assert internal() == (False, False)


def test_peers_come_from_the_table_and_are_asked_for_once(monkeypatch):
    asked = []

    class Table:
        def peer(self, address, port):
            asked.append((address, port))
            return ("stripe", "payments") if address.endswith("stripe.com") else None

    monkeypatch.setattr(state, "resolver", Table())
    for _ in range(3):
        assert hosts.host_of("https://api.stripe.com/v1/x").peer == {
            "service.peer.name": "stripe",
            "lighttrace.peer.team": "payments",
        }
        assert hosts.host("other.example.com", 5432).peer is None
    assert asked == [("api.stripe.com", 443), ("other.example.com", 5432)]
