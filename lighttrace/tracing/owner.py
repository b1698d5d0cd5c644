"""Who owns a span: an interned pair of team and the rule that decided.

There are few owners in a process and many spans, so a span holds a reference to one of these and copies nothing. What
a span says about its owner is encoded once per owner (`encoded` is filled in by the encoder on its first use).
"""

from lighttrace import semconv

DEFAULT = "service"
"""The source of an owner that is the service's own default: such a span need not say where its team came from."""


class Owner:
    """A team and how it was found. Make them with `owner()`, which interns them."""

    __slots__ = ("attributes", "child", "encoded", "source", "team")

    def __init__(self, team: str | None, source: str) -> None:
        self.team = team
        self.source = source
        self.attributes: dict[str, str] = {}
        if team is not None:
            self.attributes[semconv.TEAM] = team
            if source != DEFAULT:
                self.attributes[semconv.TEAM_SOURCE] = source
        self.encoded: bytes | None = None
        # What a span below one of this owner inherits: the same team, and that it came from its parent.
        self.child: Owner = self if source in (DEFAULT, "parent") else owner(team, "parent")

    def __repr__(self) -> str:
        return f"Owner({self.team!r}, {self.source!r})"


_LIMIT = 10_000  # teams are few; a program that makes up team names must not grow without bound
_owners: dict[tuple[str | None, str], Owner] = {}


def owner(team: str | None, source: str) -> Owner:
    """The one owner of that team and source (`span`, `scope`, `rule`, `codeowners`, `parent` or `service`)."""
    key = team, source
    found = _owners.get(key)
    if found is None:
        found = Owner(team, source)
        if len(_owners) < _LIMIT:
            _owners[key] = found
    return found


NOBODY = owner(None, DEFAULT)
