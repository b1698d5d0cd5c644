"""Why a request was slow: the largest share of its critical path, or the same query asked again and again."""

import re
from typing import NamedTuple

from lighttrace import semconv
from lighttrace.analysis.critical_path import critical_path, self_times
from lighttrace.analysis.model import SpanRecord
from lighttrace.analysis.outcome import Verdict, contact_of, is_silent_remote, owner_of_time, path_to
from lighttrace.analysis.tree import Tree
from lighttrace.analysis.words import owner_of, remote_of, time_of, title_of

REPEATED = 10
"""The same query so often under one parent is a loop that asks one by one."""
REPEATED_SHARE = 0.3
"""Of the root's time. What takes less is not why a fast request should be looked at."""
SLOW_REQUEST_NS = 300_000_000
"""A request that takes longer is slow by itself, however often it is sent."""

_LITERAL = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")


class Repeated(NamedTuple):
    """One query, or one HTTP request, many times under one parent. `on_path_ns` is what of its time the request really waited for."""

    parent: SpanRecord
    query: str
    spans: list[SpanRecord]
    on_path_ns: int
    service: str | None = None  # that answers, where the queries are HTTP requests


class Slowness(NamedTuple):
    """What the critical path below one span consists of."""

    times: dict[str, int]  # nanoseconds by span id
    slowest: SpanRecord  # the largest self time of those that together took longest
    spent_ns: int  # by the slowest and by those of its name in its service
    alike: int  # how many these are
    repeated: Repeated | None  # where together it is more than the slowest span, or a good part of a fast request


def measure(tree: Tree, root: SpanRecord) -> Slowness:
    """Look along the critical path of `root`."""
    times = self_times(critical_path(tree, root)) or {root.span_id: 0}
    # Many short waits for the same thing are one long one.
    groups: dict[tuple[object, ...], list[str]] = {}
    for span_id in times:
        span = tree.spans[span_id]
        there = span.get(semconv.SERVER_ADDRESS) if span.kind == "client" else None
        groups.setdefault((span.service, span.name, span.attributes.get(semconv.TEAM), there), []).append(span_id)
    totals = {key: sum(times[span_id] for span_id in ids) for key, ids in groups.items()}
    most = max(totals, key=lambda key: totals[key])
    slowest = tree.spans[max(groups[most], key=lambda span_id: times[span_id])]
    repeated = max(
        (found for found in (_repeated(tree, times), _repeated_requests(tree, root, times)) if found is not None),
        key=lambda found: found.on_path_ns,
        default=None,
    )
    if repeated is not None:
        members = {span.span_id for span in repeated.spans}
        rival = max((total for key, total in totals.items() if members.isdisjoint(groups[key])), default=0)
        if repeated.on_path_ns < max(rival, root.duration_ns * REPEATED_SHARE):
            repeated = None
    return Slowness(times, slowest, totals[most], len(groups[most]), repeated)


def _is_waited_for(span: SpanRecord, on_path_ns: int) -> bool:
    """Whether most of it lies on the critical path: of many at once only the last does."""
    return 2 * on_path_ns >= span.duration_ns


def _repeated(tree: Tree, times: dict[str, int]) -> Repeated | None:
    groups: dict[tuple[str, str], list[SpanRecord]] = {}
    for span_id, on_path in times.items():
        span, parent = tree.spans[span_id], tree.parent.get(span_id)
        if parent is None or span.kind == "server" or span.get(semconv.DB_SYSTEM_NAME) is None:
            continue
        if _is_waited_for(span, on_path):
            groups.setdefault((parent.span_id, _query(span)), []).append(span)
    found = None
    for (parent_id, query), spans in groups.items():
        if len(spans) >= REPEATED:
            together = sum(times[span.span_id] for span in spans)
            if found is None or together > found.on_path_ns:
                found = Repeated(tree.spans[parent_id], query, spans, together)
    return found


def _repeated_requests(tree: Tree, root: SpanRecord, times: dict[str, int]) -> Repeated | None:
    """HTTP requests that one span sent one after the other to the same route: those sent at once are not waited for one by one."""
    groups: dict[tuple[str, str, str], list[SpanRecord]] = {}
    below = tree.below(root)
    waited = dict(times)  # with what is below each, which stands behind it in the list
    for span in reversed(below):
        if span is not root and span.span_id in waited:
            parent_id = tree.parent[span.span_id].span_id
            waited[parent_id] = waited.get(parent_id, 0) + waited[span.span_id]
    for span in below:
        if span.kind != "client" or span is root or span.get(semconv.DB_SYSTEM_NAME) is not None:
            continue
        if _is_waited_for(span, waited.get(span.span_id, 0)):
            server = next((child for child in tree.children.get(span.span_id, ()) if child.kind == "server"), None)
            request = title_of(server) if server is not None else str(span.get(semconv.URL_TEMPLATE) or "")
            if " " in request or (request and server is None):  # a bare method says nothing of what was asked for
                service = server.service if server is not None else remote_of(span)
                groups.setdefault((tree.parent[span.span_id].span_id, request, service), []).append(span)
    found = None
    for (parent_id, request, service), spans in groups.items():
        on_path = sum(waited[span.span_id] for span in spans)
        # Where each of them is slow by itself, that is what is wrong.
        if len(spans) >= REPEATED and on_path < len(spans) * SLOW_REQUEST_NS and (found is None or on_path > found.on_path_ns):
            found = Repeated(tree.spans[parent_id], request, spans, on_path, service)
    return found


def _query(span: SpanRecord) -> str:
    """What tells one query from another: its summary, else its text without literals, else the span's name."""
    summary = span.get(semconv.DB_QUERY_SUMMARY)
    if summary:
        return str(summary)
    text = span.get(semconv.DB_QUERY_TEXT)
    return _LITERAL.sub("?", str(text)[:2000]) if text else span.name


def judge_slowness(tree: Tree, found: Slowness, handled: tuple[str, ...]) -> Verdict:
    """The verdict on a request that succeeded and took too long."""
    root, slowest = tree.root, found.slowest
    if found.repeated is not None:
        return _judge_repeated(tree, found, found.repeated, handled)
    spent = found.spent_ns
    per_cent = 100 * spent / max(1, root.duration_ns)
    team, service = owner_of_time(tree, slowest), slowest.service or None
    missing = list(tree.evidence_missing)
    confidence = "high" if tree.complete and per_cent >= 50 else "medium" if per_cent >= 25 else "low"
    between = False
    of_all = f"{time_of(spent)} of {time_of(root.duration_ns)} ({per_cent:.0f} %)"
    if is_silent_remote(tree, slowest):
        missing.append(f"no span of {remote_of(slowest)} itself")
        service = str(slowest.get(semconv.SERVICE_PEER_NAME) or "") or service
        confidence = "medium" if confidence == "high" else confidence
        why = f"{remote_of(slowest)} kept {owner_of(slowest)} waiting for {of_all}"
        if team and team != slowest.team:
            why += f"; it belongs to team {team}"
    elif slowest.kind == "client" and any(child.kind == "server" for child in tree.children.get(slowest.span_id, ())):
        server = next(child for child in tree.children[slowest.span_id] if child.kind == "server")
        missing.append(f"what happened between {slowest.service or 'the caller'} and {server.service or 'the server'}")
        confidence, between = "low", True
        why = f"{of_all} went by between {title_of(slowest)} of {owner_of(slowest)} and its server {owner_of(server)}: network, or a queue"
    else:
        why = f"{title_of(slowest)} of {owner_of(slowest)} took {of_all} by itself{f', in {found.alike} spans' if found.alike > 1 else ''}"
    if team is None:
        missing.append(f"nobody is named as the owner of {service or title_of(slowest)}")
        confidence = "low"
    by_team, by_service, by_span = _shares(tree, found.times)
    who = remote_of(slowest) if is_silent_remote(tree, slowest) else f"{title_of(slowest)} of {slowest.service or 'its service'}"
    question = f"why does {who} take {time_of(spent)}? Is that so every time, or since when?"
    if between:
        question = f"what stands between {who} and its server: a queue, a proxy, too few workers?"
    if team is None:
        question = f"whose is {service or title_of(slowest)}? Its spans name no team; `lighttrace owners` says why."
    return Verdict(
        "latency", team, service, slowest.name, slowest.span_id, slowest.code, confidence, why + ".", tuple(missing),
        *contact_of(tree, team), path=path_to(tree, slowest), handled=handled,
        shares=by_team, service_shares=by_service, span_shares=by_span, question=question,
    )  # fmt: skip


def _judge_repeated(tree: Tree, found: Slowness, repeated: Repeated, handled: tuple[str, ...]) -> Verdict:
    parent, query, same, on_path, service = repeated
    team = same[0].attributes.get(semconv.TEAM) or parent.team or same[0].team
    total = sum(span.duration_ns for span in same)
    missing = list(tree.evidence_missing)
    confidence = "high" if tree.complete else "medium"
    if team is None:
        missing.append(f"nobody is named as the owner of {parent.service or title_of(parent)}")
        confidence = "low"
    what, one = ("query", repr(query)) if service is None else ("request", f"{query!r} to {service}")
    why = (
        f"{owner_of(parent, team)} sent the {what} {one} {len(same)} times under {title_of(parent)}: {time_of(on_path)} "
        f"of {time_of(tree.root.duration_ns)}; one {what} for all of them would do"
    )
    if service is None:
        question = f"can {title_of(parent)} ask for all {len(same)} rows of {query!r} at once?"
    else:
        question = (
            f"can {title_of(parent)} ask {service} for all {len(same)} at once, or side by side, and not {query!r} one by one?"
        )
    by_team, by_service, by_span = _shares(tree, found.times)
    return Verdict(
        "latency", str(team) if team else None, parent.service or None, parent.name, parent.span_id, parent.code, confidence,
        why + ".", tuple(missing), *contact_of(tree, str(team) if team else None), path=path_to(tree, parent), handled=handled,
        n_plus_one={"query": query, "count": len(same), "total_ms": round(total / 1e6, 3)},
        shares=by_team, service_shares=by_service, span_shares=by_span, question=question,
    )  # fmt: skip


_Shares = tuple[tuple[str, float], ...]


def _shares(tree: Tree, times: dict[str, int]) -> tuple[_Shares, _Shares, _Shares]:
    """Per cent of the critical path by team, by service and by span."""
    total = max(1, sum(times.values()))
    teams: dict[str, int] = {}
    services: dict[str, int] = {}
    spans: dict[str, int] = {}
    for span_id, spent in times.items():
        span = tree.spans[span_id]
        service = span.service or "an unnamed service"
        for sums, name in ((teams, owner_of_time(tree, span) or service), (services, service), (spans, title_of(span))):
            sums[name] = sums.get(name, 0) + spent

    def rank(sums: dict[str, int], most: int) -> _Shares:
        ordered = sorted(sums.items(), key=lambda item: -item[1])[:most]
        return tuple((name, round(100 * spent / total, 1)) for name, spent in ordered)

    return rank(teams, 1000), rank(services, 1000), rank(spans, 10)
