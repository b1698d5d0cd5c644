"""What the configuration says outright: rules (route, module, peer or span name to team) and the table of peers.

Globs are those of the shell: `*` any characters, `?` one, `[ab]` one of these; case counts, except in host names.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import Any

MATCHERS = ("name", "route", "module", "peer")
"""What a rule can look at; with several, all must match."""

_MISSING: Any = object()
_MOST = 4096


class Rules:
    """Explicit rules. The last that matches wins.

    >>> rules = Rules([{"route": "/pay/*", "team": "payments"}, {"module": "shop.fraud*", "team": "risk"}])
    >>> rules.find(None, "/pay/card", "shop.fraud.score", None), rules.find("SELECT", None, None, "db")
    ('risk', None)
    """

    __slots__ = ("_known", "_rules", "modules")

    def __init__(self, rules: Iterable[Mapping[str, str]]) -> None:
        made = []
        for number, rule in enumerate(rules):
            globs = tuple([(index, _glob(rule[key])) for index, key in enumerate(MATCHERS) if key in rule])
            if globs and rule.get("team"):
                made.append((number, globs, rule["team"]))
        self._rules = made[::-1]
        self._known: dict[Any, tuple[int, str] | None] = {}
        self.modules = Modules(self._rules)

    def find(self, name: str | None, route: str | None, module: str | None, peer: str | None) -> str | None:
        """The team, or None."""
        key = name, route, module, peer
        found = self._known.get(key, _MISSING)
        if found is _MISSING:
            found = self._keep(key)
        return found[1] if found is not None else None

    def number(self, name: str | None, route: str | None, module: str | None, peer: str | None) -> int | None:
        """Which rule decides, counted from 0."""
        found = self._keep((name, route, module, peer))
        return found[0] if found is not None else None

    def _keep(self, key: tuple[str | None, ...]) -> tuple[int, str] | None:
        found = None
        for number, globs, team in self._rules:
            for index, glob in globs:
                value = key[index]
                if value is None or glob.match(value) is None:
                    break
            else:
                found = number, team
                break
        if len(self._known) > _MOST:  # names and routes are few in a sound program; an unsound one must not grow
            self._known.clear()
        self._known[key] = found
        return found


class Modules:
    """The rules that look at nothing but the module."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Iterable[tuple[int, tuple[tuple[int, re.Pattern[str]], ...], str]]) -> None:
        module = MATCHERS.index("module")
        self._rules = [(number, globs[0][1], team) for number, globs, team in rules if [index for index, _ in globs] == [module]]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def find(self, modules: Iterable[str]) -> tuple[int, str] | None:
        """Number and team of the last rule that matches one of a module's names."""
        names = list(modules)
        for number, glob, team in self._rules:
            if any(glob.match(name) for name in names):
                return number, team
        return None


class Peers:
    """Who is on the other side. An exact name wins over a glob, and a longer glob over a shorter.

    >>> peers = Peers({"*.stripe.com": {"service": "stripe", "team": "payments"}, "orders-db*": {"team": "orders"}})
    >>> peers.find("api.stripe.com", 443), peers.find("orders-db-2", 5432), peers.find("example.com", 80)
    (('stripe', 'payments'), (None, 'orders'), None)
    """

    __slots__ = ("_exact", "_globs")

    def __init__(self, table: Mapping[str, Mapping[str, str]]) -> None:
        self._exact: dict[str, tuple[str | None, str | None]] = {}
        globs = []
        for label, entry in table.items():
            key = label.strip().lower()
            side = entry.get("service") or None, entry.get("team") or None
            self._exact[key] = side  # also a glob may be somebody's literal name, such as a logical one
            if "*" in key or "?" in key:
                # `[` stands for itself: it is how an IPv6 address is written.
                globs.append((-len(key.replace("*", "")), _glob(key.replace("[", "[[]")), side))
        self._globs = sorted(globs, key=lambda entry: entry[0])

    def find(self, address: str, port: int | None) -> tuple[str | None, str | None] | None:
        """Service and team of a host, with or without its port; None where the table does not know it."""
        host = address.lower().strip("[]")
        names = [host] if port is None else [f"{host}:{port}", f"[{host}]:{port}", host]
        for name in names:
            if name in self._exact:
                return self._exact[name]
        for _, glob, side in self._globs:
            if any(glob.match(name) for name in names):
                return side
        return None


def _glob(text: str) -> re.Pattern[str]:
    return re.compile(translate(text))
