"""Explicit rules and the table of peers."""

from typing import Any

import pytest

from lighttrace.config import load
from lighttrace.ownership import Resolver
from lighttrace.ownership.rules import Peers, Rules


@pytest.mark.parametrize(
    ("rule", "name", "route", "module", "peer", "matches"),
    [
        ({"route": "/pay/*"}, "GET /pay/card", "/pay/card", None, None, True),
        ({"route": "/pay/*"}, "GET /pay/card", "/pay/a/b", None, None, True),
        ({"route": "/pay/*"}, "GET /pay", "/pay", None, None, False),
        ({"route": "/Pay"}, "GET /pay", "/pay", None, None, False),
        ({"route": "/users/{id}"}, "GET /users/{id}", "/users/{id}", None, None, True),
        ({"module": "shop.fraud"}, "x", None, "shop.fraud", None, True),
        ({"module": "shop.fraud"}, "x", None, "shop.fraud.score", None, False),
        ({"module": "shop.fraud*"}, "x", None, "shop.fraud.score", None, True),
        ({"module": "shop.*.api"}, "x", None, "shop.cart.api", None, True),
        ({"name": "SELECT *"}, "SELECT orders", None, None, None, True),
        ({"name": "GET"}, "GET /x", None, None, None, False),
        ({"peer": "*.stripe.com"}, "POST", None, None, "api.stripe.com", True),
        ({"peer": "orders-db?"}, "SELECT", None, None, "orders-db1", True),
        ({"peer": "orders-db[12]"}, "SELECT", None, None, "orders-db3", False),
        ({"route": "/a", "name": "GET *"}, "GET /a", "/a", None, None, True),
        ({"route": "/a", "name": "GET *"}, "POST /a", "/a", None, None, False),
        ({"route": "/a", "peer": "*"}, "GET /a", "/a", None, None, False),
    ],
)
def test_rule_matches(
    rule: dict[str, str], name: str, route: str | None, module: str | None, peer: str | None, matches: bool
) -> None:
    found = Rules([{**rule, "team": "t"}]).find(name, route, module, peer)
    assert found == ("t" if matches else None)


def test_last_rule_that_matches_wins() -> None:
    rules = Rules([{"route": "/*", "team": "web"}, {"route": "/pay*", "team": "payments"}, {"name": "GET*", "team": "reads"}])
    assert rules.find("POST /pay", "/pay", None, None) == "payments"
    assert rules.find("GET /pay", "/pay", None, None) == "reads"
    assert rules.find("POST /x", "/x", None, None) == "web"


def test_modules_rules_are_those_about_modules_alone() -> None:
    rules = Rules([{"module": "a.*", "team": "one"}, {"module": "a.b*", "route": "/x", "team": "two"}])
    assert rules.modules.find(["a.b.c"]) == (0, "one")
    assert rules.modules.find(["b", "a.b"]) == (0, "one")
    assert rules.modules.find(["b"]) is None
    assert not Rules([{"route": "/x", "team": "t"}]).modules


def test_names_made_up_without_end_do_not_grow_the_table() -> None:
    rules = Rules([{"name": "x*", "team": "t"}])
    for number in range(10_000):
        rules.find(f"x{number}", None, None, None)
    assert len(rules._known) <= 4097


TABLE = {
    "*.stripe.com": {"service": "stripe", "team": "payments"},
    "api.stripe.com": {"service": "stripe-api", "team": "risk"},
    "*": {"service": "somebody"},
    "orders-db*": {"team": "orders"},
    "orders-db-*:5433": {"team": "archive"},
    "[::1]:6379": {"service": "cache", "team": "platform"},
    "Legacy.Example.COM": {"service": "legacy"},
    "ledger": {"service": "ledger", "team": "finance"},
}


@pytest.mark.parametrize(
    ("address", "port", "side"),
    [
        ("eu.stripe.com", 443, ("stripe", "payments")),
        ("api.stripe.com", 443, ("stripe-api", "risk")),
        ("API.Stripe.com", None, ("stripe-api", "risk")),
        ("orders-db-2.internal", 5432, (None, "orders")),
        ("orders-db-2", 5433, (None, "archive")),
        ("::1", 6379, ("cache", "platform")),
        ("legacy.example.com", 80, ("legacy", None)),
        ("ledger", None, ("ledger", "finance")),
        ("example.org", 80, ("somebody", None)),
    ],
)
def test_peer(address: str, port: int | None, side: tuple[str | None, str | None]) -> None:
    assert Peers(TABLE).find(address, port) == side


def test_unknown_peer_is_nobody() -> None:
    assert Peers({"a": {"team": "x"}}).find("b", 1) is None
    assert Peers({}).find("b", 1) is None


def resolver(**arguments: Any) -> Resolver:
    return Resolver(load(environ={}, **arguments))


def test_resolver_answers_rules_with_their_source(tmp_path: Any) -> None:
    made = resolver(directory=str(tmp_path), rules=[{"span": "SELECT*", "team": "orders"}, {"module": "shop.*", "team": "web"}])
    assert made.has_rules
    assert made.team_for_span("SELECT x", None, None, None) == ("orders", "rule")
    assert made.team_for_span("INSERT x", None, None, None) is None
    assert made.team_for_code(None, "shop.cart") == ("web", "rule")
    assert not resolver(directory=str(tmp_path)).has_rules


def test_resolver_keeps_peers_within_bounds(tmp_path: Any) -> None:
    made = resolver(directory=str(tmp_path), peers={"*.com": {"team": "web"}})
    for number in range(12_000):
        assert made.peer(f"h{number}.com", number) == (None, "web")
    assert len(made._peers) <= 10_001


def test_contacts_of_teams(tmp_path: Any) -> None:
    made = resolver(directory=str(tmp_path), teams={"payments": {"contact": "#payments", "url": "https://run"}, "web": "#web"})
    assert made.contact("payments") == ("#payments", "https://run")
    assert made.contact("web") == ("#web", None)
    assert made.contact("nobody") == (None, None)
