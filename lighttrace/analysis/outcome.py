"""What a verdict holds, and what every kind of verdict looks up in the same way."""

from typing import Any, NamedTuple

from lighttrace import semconv
from lighttrace.analysis.model import SpanRecord
from lighttrace.analysis.tree import Tree


class Verdict(NamedTuple):
    """The answer. `kind` is `error`, `latency` or `none`; a request that succeeded in time has no team."""

    kind: str
    team: str | None
    service: str | None
    span: str | None
    span_id: str | None
    code: str | None
    confidence: str  # "high", "medium" or "low"
    why: str
    evidence_missing: tuple[str, ...] = ()
    contact: str | None = None
    url: str | None = None
    path: tuple[str, ...] = ()  # ids of the spans from the root to the guilty one
    handled: tuple[str, ...] = ()  # ids of errored spans whose error did no harm
    also: tuple[str, ...] = ()  # ids of the origins of other failures that are independent of this one
    # Of a slow request: whose time the critical path is, in per cent, the greatest first
    shares: tuple[tuple[str, float], ...] = ()  # by team, or by service where nobody owns it
    service_shares: tuple[tuple[str, float], ...] = ()
    span_shares: tuple[tuple[str, float], ...] = ()  # by span name; the first ten
    n_plus_one: dict[str, Any] | None = None  # {"query", "count", "total_ms"}
    question: str | None = None  # what to ask the team, with what is known filled in

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain values for JSON."""
        made = self._asdict()
        for key in ("evidence_missing", "path", "handled", "also"):
            made[key] = list(made[key])
        for key, what in (("shares", "team"), ("service_shares", "service"), ("span_shares", "span")):
            made[key] = [{what: name, "percent": percent} for name, percent in made[key]]
        return made


def contact_of(tree: Tree, team: str | None) -> tuple[str | None, str | None]:
    """How to reach a team: (contact, URL), from a service that it owns by default, else from one that knows of the team."""
    if team is None:
        return None, None
    told: tuple[str | None, str | None] = None, None
    for span in tree.spans.values():
        resource = span.resource
        if team in (resource.get(semconv.TEAM), resource.get(semconv.SERVICE_OWNER_NAME)):
            contact, url = resource.get(semconv.SERVICE_OWNER_CONTACT), resource.get(semconv.SERVICE_OWNER_URL)
            if contact or url:
                return (str(contact) if contact else None), (str(url) if url else None)
        elif told == (None, None):
            told = _told(resource.get(semconv.TEAM_CONTACTS), team)
    return told


def _told(contacts: object, team: str) -> tuple[str | None, str | None]:
    """A team's contact and URL in a list of `team=contact url`."""
    for entry in contacts if isinstance(contacts, list | tuple) else ():
        name, separator, reach = str(entry).partition("=")
        if separator and name == team:
            contact, _, last = reach.rpartition(" ")
            if "://" in last:
                return contact or None, last
            return reach or None, None
    return None, None


def path_to(tree: Tree, span: SpanRecord) -> tuple[str, ...]:
    """Ids of the spans from the root down to this one."""
    ids = [span.span_id]
    while (parent := tree.parent.get(ids[-1])) is not None:
        ids.append(parent.span_id)
    return tuple(reversed(ids))


def is_silent_remote(tree: Tree, span: SpanRecord) -> bool:
    """Whether a client span's own time is that of a remote side which sends no spans. A database's is its caller's to improve."""
    if span.kind != "client" or tree.children.get(span.span_id):
        return False
    if span.attributes.get(semconv.PEER_TEAM) or span.get(semconv.SERVICE_PEER_NAME):
        return True
    return span.get(semconv.DB_SYSTEM_NAME) is None and bool(span.get(semconv.SERVER_ADDRESS))


def owner_of_time(tree: Tree, span: SpanRecord) -> str | None:
    """The team that can make a span's own time shorter: the remote's, where it is known, else the span's."""
    peer_team = span.attributes.get(semconv.PEER_TEAM)
    return str(peer_team) if peer_team and is_silent_remote(tree, span) else span.team
