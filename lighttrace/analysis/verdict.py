"""Who can fix it: the origin of a failure, or of slowness, and the team that owns it.

The rules are those of `docs/ownership.md`. Every verdict says in a sentence why, how sure it is, and what evidence it
would have wanted and did not get.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from lighttrace import semconv
from lighttrace.analysis.critical_path import critical_path, self_times
from lighttrace.analysis.model import SpanRecord
from lighttrace.analysis.tree import Tree

SLOW_MS = 300.0
"""A request that took longer, and did not fail, is judged as slow."""
REPEATED = 10  # the same query so often under one parent is a loop that asks one by one
REPEATED_SHARE = 0.2  # of the request's time

_REFUSED = ("refused", "connecterror", "connectionerror", "newconnectionerror", "getaddrinfo", "nameresolution", "unreachable", "gaierror")
_TIMEOUTS = ("timeout", "timedout", "timed out", "deadline")


class Verdict(NamedTuple):
    """The answer. `kind` is `error`, `latency` or `none`; a request that succeeded in time has no team."""

    kind: str
    team: str | None
    service: str | None
    span: str | None
    span_id: str | None
    code: str | None
    confidence: str
    why: str
    evidence_missing: tuple[str, ...] = ()
    contact: str | None = None
    url: str | None = None
    path: tuple[str, ...] = ()  # ids of the spans from the root to the guilty one
    handled: tuple[str, ...] = ()  # ids of errored spans whose error did no harm
    also: tuple[str, ...] = ()  # ids of other failures that are independent of this one
    shares: tuple[tuple[str, float], ...] = ()  # of a slow request: team (or service) and its per cent of the critical path
    n_plus_one: dict[str, Any] | None = None  # {"query", "count", "total_ms"}

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain values for JSON."""
        made = self._asdict()
        for key in ("evidence_missing", "path", "handled", "also"):
            made[key] = list(made[key])
        made["shares"] = [{"team": team, "percent": percent} for team, percent in self.shares]
        return made


def verdict(spans: Iterable[SpanRecord], slow_ms: float = SLOW_MS) -> Verdict:
    """Judge one trace. Raises ValueError if there is no span in it.

    A request that failed is followed down to the error's origin; one that took longer than `slow_ms`, or spent its time
    asking the same thing again and again, along its critical path; of any other the verdict is `none`.
    """
    tree = Tree(spans)
    root = tree.root
    chain = _failing_chain(tree, root)
    if chain:
        return _judge_failure(tree, chain)
    handled = tuple(span.span_id for span in tree.spans.values() if span.failed)
    repeated = _repeated(tree)
    if root.duration_ns / 1e6 >= slow_ms or repeated is not None:
        return _judge_latency(tree, repeated, handled)
    why = f"{_title(root)} succeeded in {_ms(root.duration_ns)}"
    if handled:
        worst = tree.spans[handled[0]]
        count = f" and {len(handled) - 1} more" if len(handled) > 1 else ""
        why += f"; an error in {_title(worst)} of {_whose(worst)}{count} was handled on the way"
    return Verdict("none", None, None, None, None, None, "high", why + ".", tuple(tree.evidence_missing), handled=handled)


# -- failures -------------------------------------------------------------------------------------------------------


def _failing_chain(tree: Tree, root: SpanRecord) -> list[SpanRecord]:
    """From the failing entry down to the error's origin; empty if the request did not fail."""
    if not root.failed:
        # A server answers 4xx without calling it an error of its own. Where that is the echo of a call that it made
        # wrong itself, the request failed all the same.
        if (root.http_status or 0) < 400:
            return []
        first = _explains(tree, root)
        return [root, *_descend(tree, first)] if first is not None else []
    return _descend(tree, root)


def _descend(tree: Tree, span: SpanRecord) -> list[SpanRecord]:
    chain, seen = [span], {span.span_id}
    while True:
        status = span.http_status
        if span.kind == "client" and status is not None and 400 <= status < 500 and not _has_failed_child(tree, span):
            return chain  # the callee refused, and says that it was asked wrongly
        child = _explains(tree, span)
        if child is None or child.span_id in seen:
            return chain
        chain.append(child)
        seen.add(child.span_id)
        span = child


def _has_failed_child(tree: Tree, span: SpanRecord) -> bool:
    return any(child.failed for child in tree.children.get(span.span_id, ()))


def _explains(tree: Tree, span: SpanRecord) -> SpanRecord | None:
    """The child whose error is the reason for this span's; None if the error began here."""
    children = tree.children.get(span.span_id, [])
    failed = [child for child in children if child.failed and not _was_retried(child, children)]
    if not failed:
        # A server that answered 5xx as an echo has its reason one level down, in a child that is no error itself.
        return _through_unset(tree, span, children)
    last = max(failed, key=lambda child: (child.end_ns, child.start_ns))
    raised = span.exception
    if raised is not None and not _same_error(raised, last):
        later = [child for child in children if child.start_ns >= last.end_ns and not child.failed]
        if later and raised["time_ns"] >= later[-1].start_ns:
            return None  # work went on after that error: it had been dealt with, and this one is another
    return last


def _through_unset(tree: Tree, span: SpanRecord, children: list[SpanRecord]) -> SpanRecord | None:
    for child in children:
        if child.status == "unset" and span.exception is None and child.kind == "internal":
            below = [one for one in tree.children.get(child.span_id, ()) if one.failed]
            if below and not _was_retried(below[-1], tree.children[child.span_id]) and child.end_ns >= children[-1].end_ns:
                return below[-1]
    return None


def _same_error(raised: dict[str, Any], child: SpanRecord) -> bool:
    theirs = child.exception
    kind = raised["attributes"].get(semconv.EXCEPTION_TYPE)
    return theirs is not None and theirs["attributes"].get(semconv.EXCEPTION_TYPE) == kind


def _was_retried(span: SpanRecord, siblings: list[SpanRecord]) -> bool:
    """Whether a later sibling did the same and succeeded."""
    address, path = span.get(semconv.SERVER_ADDRESS), _path_of(span)
    return any(
        other.start_ns >= span.end_ns
        and not other.failed
        and other.name == span.name
        and other.kind == span.kind
        and other.get(semconv.SERVER_ADDRESS) == address
        and _path_of(other) == path
        for other in siblings
    )


def _path_of(span: SpanRecord) -> str:
    url = str(span.get(semconv.URL_FULL) or "")
    return url.partition("?")[0]


def _judge_failure(tree: Tree, chain: list[SpanRecord]) -> Verdict:
    origin = chain[-1]
    missing = list(tree.evidence_missing)
    guilty_ids = {span.span_id for span in chain}
    errors = [span for span in tree.spans.values() if span.failed and span.span_id not in guilty_ids]
    also = tuple(span.span_id for span in errors if (parent := tree.parent.get(span.span_id)) is not None and parent.failed)
    handled = tuple(span.span_id for span in errors if span.span_id not in also)
    code = origin.code
    team = origin.attributes.get(semconv.ERROR_TEAM) or origin.team
    service: str | None = origin.service or None
    confidence = "high" if tree.complete else "medium"
    guilty = origin
    status = origin.http_status
    below = [child for child in tree.children.get(origin.span_id, ()) if child.kind == "server"]
    what = _error_of(origin)
    if origin.kind == "client" and status is not None and 400 <= status < 500:
        answered = _answerer(origin, below)
        why = f"{_whose(origin)} made a request that {answered} refused with {status}: the caller can fix it"
    elif origin.kind == "client" and _is_timeout(origin) and below:
        return _slow_below(tree, chain, below[0], also, handled)
    elif origin.kind == "client" and not below and code is None or (origin.kind == "client" and not below and _is_remote(origin)):
        team, service, confidence, why = _blame_remote(origin, missing, confidence)
    else:
        where = f" at {code}" if code else ""
        why = f"{what} began in {_title(origin)} of {_whose(origin, team)}{where}"
        if len(chain) > 1 and chain[0] is not origin:
            why += f" and travelled up to {_title(chain[0])}"
    if team is None:
        missing.append(f"nobody is named as the owner of {service or origin.name}")
        confidence = "low"
    if also:
        other = tree.spans[also[-1]]
        why += f"; independently, {_title(other)} of {_whose(other)} failed too"
    return Verdict(
        "error", str(team) if team else None, service, guilty.name, guilty.span_id, code, confidence, why + ".", tuple(missing),
        *_contact(tree, team), path=_path(tree, guilty), handled=handled, also=also,
    )  # fmt: skip


def _is_remote(span: SpanRecord) -> bool:
    return span.get(semconv.SERVER_ADDRESS) is not None


def _blame_remote(origin: SpanRecord, missing: list[str], confidence: str) -> tuple[str | None, str | None, str, str]:
    """A call that failed with nothing known of the other side's doings: whoever owns the other side."""
    address = origin.get(semconv.SERVER_ADDRESS) or "an unknown host"
    port = origin.get(semconv.SERVER_PORT)
    there = f"{address}:{port}" if port else str(address)
    peer_team, peer = origin.get(semconv.PEER_TEAM), origin.get(semconv.SERVICE_PEER_NAME)
    is_database = origin.get(semconv.DB_SYSTEM_NAME) is not None
    what = _error_of(origin)
    if is_database and not (_is_refused(origin) or _is_timeout(origin)):
        # The database answered, and said what was wrong with the statement: that is the caller's code.
        where = f" at {origin.code}" if origin.code else ""
        why = f"{what} in {_title(origin)}, sent by {_whose(origin)}{where}"
        return str(origin.attributes.get(semconv.ERROR_TEAM) or origin.team or "") or None, origin.service or None, confidence, why
    missing.append(f"no span of {peer or there} itself")
    verb = "refused the connection" if _is_refused(origin) else "did not answer in time" if _is_timeout(origin) else "failed"
    if peer_team:
        level = "high" if _is_refused(origin) and confidence == "high" else "medium"
        return str(peer_team), str(peer) if peer else None, level, f"{peer or there} {verb} ({what}), as {_whose(origin)} reports"
    team = origin.team
    who = f"{peer or there}, an unknown remote, {verb} ({what}), reported by {team or origin.service or 'nobody named'}"
    return team, str(peer) if peer else origin.service or None, "low", who


def _slow_below(
    tree: Tree, chain: list[SpanRecord], server: SpanRecord, also: tuple[str, ...], handled: tuple[str, ...]
) -> Verdict:
    """The caller gave up while the server went on: what took the server so long is to blame."""
    times = self_times(critical_path(tree, server))
    slowest = tree.spans[max(times, key=lambda span_id: times[span_id])]
    team = slowest.attributes.get(semconv.PEER_TEAM) or slowest.team
    why = (
        f"{_whose(chain[-1])} gave up waiting after {_ms(chain[-1].duration_ns)}, while {_title(server)} of {_whose(server)} went on "
        f"for {_ms(server.duration_ns)}, most of it in {_title(slowest)} of {_whose(slowest)}"
    )
    return Verdict(
        "error", str(team) if team else None, slowest.service or None, slowest.name, slowest.span_id, slowest.code, "medium", why + ".",
        tuple(tree.evidence_missing), *_contact(tree, team), path=_path(tree, slowest), handled=handled, also=also,
    )  # fmt: skip


def _answerer(origin: SpanRecord, below: list[SpanRecord]) -> str:
    if below:
        return _whose(below[0])
    return str(origin.get(semconv.SERVICE_PEER_NAME) or origin.get(semconv.SERVER_ADDRESS) or "the other side")


def _matches(span: SpanRecord, words: tuple[str, ...]) -> bool:
    event = span.exception
    said = f"{span.get(semconv.ERROR_TYPE) or ''} {span.status_message}"
    if event is not None:
        attributes = event["attributes"]
        said += f" {attributes.get(semconv.EXCEPTION_TYPE, '')} {attributes.get(semconv.EXCEPTION_MESSAGE, '')}"
    said = said.lower()
    return any(word in said for word in words)


def _is_refused(span: SpanRecord) -> bool:
    return not _is_timeout(span) and _matches(span, _REFUSED)


def _is_timeout(span: SpanRecord) -> bool:
    return _matches(span, _TIMEOUTS) or span.http_status == 504


# -- slowness -------------------------------------------------------------------------------------------------------


def _repeated(tree: Tree) -> tuple[SpanRecord, str, list[SpanRecord]] | None:
    """The same query many times under one parent, taking a good part of the request: (parent, query, spans)."""
    best: tuple[SpanRecord, str, list[SpanRecord]] | None = None
    most = tree.root.duration_ns * REPEATED_SHARE
    for parent_id, children in tree.children.items():
        if len(children) < REPEATED:
            continue
        groups: dict[str, list[SpanRecord]] = {}
        for child in children:
            if child.get(semconv.DB_SYSTEM_NAME) is not None:
                groups.setdefault(str(child.get(semconv.DB_QUERY_SUMMARY) or child.name), []).append(child)
        for query, same in groups.items():
            total = sum(child.duration_ns for child in same)
            if len(same) >= REPEATED and total >= most:
                most = total
                best = tree.spans[parent_id], query, same
    return best


def _judge_latency(tree: Tree, repeated: tuple[SpanRecord, str, list[SpanRecord]] | None, handled: tuple[str, ...]) -> Verdict:
    root = tree.root
    segments = critical_path(tree)
    times = self_times(segments)
    total = max(1, root.duration_ns)
    shares: dict[str, int] = {}
    for span_id, spent in times.items():
        span = tree.spans[span_id]
        whose = str(_slow_team(tree, span) or span.service or "nobody named")
        shares[whose] = shares.get(whose, 0) + spent
    ranking = tuple((whose, round(100 * spent / total, 1)) for whose, spent in sorted(shares.items(), key=lambda item: -item[1]))
    slowest = tree.spans[max(times, key=lambda span_id: times[span_id])]
    if repeated is not None:
        parent, query, same = repeated
        spent = sum(span.duration_ns for span in same)
        if spent >= times[slowest.span_id]:
            guilty = parent
            team = same[0].attributes.get(semconv.TEAM) or parent.team or same[0].team
            why = (
                f"{_whose(parent, team)} sent the query {query!r} {len(same)} times under {_title(parent)}: {_ms(spent)} "
                f"of {_ms(root.duration_ns)}; one query for all of them would do"
            )
            found = {"query": query, "count": len(same), "total_ms": round(spent / 1e6, 3)}
            return Verdict(
                "latency", str(team) if team else None, parent.service or None, guilty.name, guilty.span_id, guilty.code, "high",
                why + ".", tuple(tree.evidence_missing), *_contact(tree, team), path=_path(tree, guilty), handled=handled,
                shares=ranking, n_plus_one=found,
            )  # fmt: skip
    spent = times[slowest.span_id]
    team = _slow_team(tree, slowest)
    missing = list(tree.evidence_missing)
    per_cent = 100 * spent / total
    confidence = "high" if tree.complete and per_cent >= 50 else "medium" if per_cent >= 25 else "low"
    service: str | None = slowest.service or None
    why = f"{_title(slowest)} of {_whose(slowest)} took {_ms(spent)} of {_ms(root.duration_ns)} by itself ({per_cent:.0f} %)"
    if _waits_for_remote(tree, slowest):
        peer = slowest.get(semconv.SERVICE_PEER_NAME)
        missing.append(f"no span of {peer or slowest.get(semconv.SERVER_ADDRESS)} itself")
        service = str(peer) if peer else service
        confidence = "medium" if confidence == "high" else confidence
        why = f"{peer or slowest.get(semconv.SERVER_ADDRESS)} kept {_whose(slowest)} waiting for {_ms(spent)} of {_ms(root.duration_ns)} ({per_cent:.0f} %)"
    if team is None:
        missing.append(f"nobody is named as the owner of {service or slowest.name}")
        confidence = "low"
    return Verdict(
        "latency", team, service, slowest.name, slowest.span_id, slowest.code, confidence, why + ".", tuple(missing),
        *_contact(tree, team), path=_path(tree, slowest), handled=handled, shares=ranking,
    )  # fmt: skip


def _waits_for_remote(tree: Tree, span: SpanRecord) -> bool:
    """Whether its own time is really that of a remote side which sends no spans."""
    if span.kind != "client" or tree.children.get(span.span_id):
        return False
    return bool(span.get(semconv.SERVICE_PEER_NAME) or (span.get(semconv.SERVER_ADDRESS) and span.get(semconv.DB_SYSTEM_NAME) is None))


def _slow_team(tree: Tree, span: SpanRecord) -> str | None:
    peer_team = span.attributes.get(semconv.PEER_TEAM)
    if peer_team and _waits_for_remote(tree, span):
        return str(peer_team)
    return span.team


# -- words ----------------------------------------------------------------------------------------------------------


def _contact(tree: Tree, team: Any) -> tuple[str | None, str | None]:
    """How to reach a team, from the resource of any service that it owns by default."""
    for span in tree.spans.values():
        resource = span.resource
        if team and team in (resource.get(semconv.TEAM), resource.get(semconv.SERVICE_OWNER_NAME)):
            contact, url = resource.get(semconv.SERVICE_OWNER_CONTACT), resource.get(semconv.SERVICE_OWNER_URL)
            if contact or url:
                return (str(contact) if contact else None), (str(url) if url else None)
    return None, None


def _path(tree: Tree, span: SpanRecord) -> tuple[str, ...]:
    ids = [span.span_id]
    while (parent := tree.parent.get(ids[-1])) is not None:
        ids.append(parent.span_id)
    return tuple(reversed(ids))


def _error_of(span: SpanRecord) -> str:
    event = span.exception
    if event is not None and event["attributes"].get(semconv.EXCEPTION_TYPE):
        message = str(event["attributes"].get(semconv.EXCEPTION_MESSAGE) or "")
        kind = str(event["attributes"][semconv.EXCEPTION_TYPE]).rpartition(".")[2]
        return f"{kind}: {_short(message)}" if message else kind
    kind = str(span.get(semconv.ERROR_TYPE) or "").rpartition(".")[2]
    if kind.isdigit():
        return f"status {kind}"
    return _short(span.status_message) or kind or "an error"


def _short(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 100 else line[:97] + "..."


def _title(span: SpanRecord) -> str:
    return span.name or "a span without a name"


def _whose(span: SpanRecord, team: Any = None) -> str:
    team = team or span.team
    service = span.service or "an unnamed service"
    return f"{service} (team {team})" if team else service


def _ms(nanoseconds: float) -> str:
    milliseconds = nanoseconds / 1e6
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"
