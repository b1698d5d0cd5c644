"""Who can fix it: the origin of a failure, or of slowness, and the team that owns it.

The rules are those of `docs/ownership.md`. Every verdict says in a sentence why, how sure it is, and what evidence it
would have wanted and did not get.
"""

from collections.abc import Iterable

from lighttrace import semconv
from lighttrace.analysis.model import SpanRecord
from lighttrace.analysis.origin import Failure, find_failure, is_network, is_refused, is_timeout, other_failures
from lighttrace.analysis.outcome import Verdict, contact_of, is_silent_remote, owner_of_time, path_to
from lighttrace.analysis.slowness import judge_slowness, measure
from lighttrace.analysis.tree import Tree
from lighttrace.analysis.words import call_of, error_of, owner_of, raised_by, raiser_of, remote_of, time_of, title_of

__all__ = ["SLOW_MS", "Verdict", "judge", "verdict"]

SLOW_MS = 300.0
"""A request that took longer, and did not fail, is judged as slow."""


def verdict(spans: Iterable[SpanRecord], slow_ms: float = SLOW_MS) -> Verdict:
    """Judge one trace. Raises ValueError if there is no span in it.

    A request that failed is followed down to the error's origin. One that succeeded and took at least `slow_ms`, or spent
    a good part of its time on asking the same query again and again, is looked at along its critical path. Of any other
    the verdict is `none`.

    >>> span = SpanRecord("1" * 32, "2" * 16, None, "GET /", "server", 0, 2_000_000, resource={"service.name": "web"})
    >>> verdict([span]).kind, verdict([span]).why
    ('none', 'GET / succeeded in 2.0 ms.')
    """
    return judge(Tree(spans), slow_ms)


def judge(tree: Tree, slow_ms: float = SLOW_MS) -> Verdict:
    """As `verdict`, of a tree that has been made already."""
    failure = find_failure(tree)
    if failure is not None:
        return _judge_failure(tree, failure)
    handled = tuple(span.span_id for span in sorted(tree.spans.values(), key=lambda span: span.start_ns) if span.failed)
    slowness = measure(tree, tree.root)
    if tree.root.duration_ns / 1e6 >= slow_ms or slowness.repeated is not None:
        return judge_slowness(tree, slowness, handled)
    return _acquit(tree, handled)


def _acquit(tree: Tree, handled: tuple[str, ...]) -> Verdict:
    root = tree.root
    if (root.http_status or 0) >= 400:
        why = f"{title_of(root)} was answered with {root.http_status} in {time_of(root.duration_ns)}: it was asked wrongly, and nothing broke"
    else:
        why = f"{title_of(root)} succeeded in {time_of(root.duration_ns)}"
    if handled:
        worst = tree.spans[handled[0]]
        count = f" and {len(handled) - 1} more" if len(handled) > 1 else ""
        why += f"; {error_of(worst)} in {title_of(worst)} of {owner_of(worst)}{count} was handled on the way"
    confidence = "high" if tree.complete else "medium"
    return Verdict("none", None, None, None, None, None, confidence, why + ".", tuple(tree.evidence_missing), handled=handled)


class _Blame:
    """Who is to blame for a failure, while it is being found out. `confidence` only ever sinks."""

    def __init__(self, tree: Tree, failure: Failure) -> None:
        self.tree = tree
        self.origin = self.guilty = failure.chain[-1]
        self.chain = failure.chain
        self.attempts = failure.attempts
        self.code = self._find_code()
        team = self.origin.attributes.get(semconv.ERROR_TEAM) or self.origin.team
        self.team: str | None = str(team) if team else None
        self.service: str | None = self.origin.service or None
        self.confidence = "high" if tree.complete and failure.certain else "medium"
        self.missing = list(tree.evidence_missing)
        self.why = self.question = ""

    def _find_code(self) -> str | None:
        """The failing line; of a call, else the line of the same service where its failure came up."""
        if self.origin.code is not None or self.origin.kind != "client":
            return self.origin.code
        for span in reversed(self.chain[:-1]):
            if span.service != self.origin.service or span.kind == "client":
                return None
            if span.code is not None:
                return span.code
        return None

    def doubt(self, confidence: str) -> None:
        if self.confidence != "low":
            self.confidence = confidence

    def blame_span(self) -> None:
        """The error began here, in somebody's own code."""
        where = f" at {self.code}" if self.code else ""
        self.why = f"{error_of(self.origin)} began in {title_of(self.origin)} of {owner_of(self.origin, self.team)}{where}"
        if len(self.chain) > 1:
            self.why += f" and travelled up to {title_of(self.chain[0])}"
        self.question = f"why does {raiser_of(self.origin, self.code)} {raised_by(self.origin)}?"

    def blame_caller(self, server: SpanRecord | None) -> None:
        """The callee refused the request as wrong."""
        who = owner_of(server) if server is not None else remote_of(self.origin)
        status = self.origin.http_status
        self.why = f"{owner_of(self.origin)} made a request that {who} refused with {status}: the caller can fix it"
        sender = raiser_of(self.origin, self.code) if self.code else self.origin.service or "its caller"
        sent = title_of(server) if server is not None and " " in title_of(server) else call_of(self.origin)
        refuses = server.service if server is not None and server.service else "the other side"
        self.question = f"why does {sender} send a {sent} that {refuses} refuses with {status}?"

    def blame_server(self, server: SpanRecord) -> None:
        """The client saw a failure of which its server's spans say nothing."""
        self.guilty, self.team, self.service, self.code = server, server.team, server.service or None, server.code
        self.doubt("medium")
        self.missing.append(f"no error in the spans of {server.service or 'the server'}, though its caller had one")
        self.why = f"{owner_of(self.origin)} got {error_of(self.origin)} from {title_of(server)} of {owner_of(server)}, which does not say why"
        self.question = f"what do the logs of {server.service or 'the server'} say of trace {server.trace_id}?"

    def blame_remote(self) -> None:
        """A call failed, and nothing is known of the other side but what its caller saw."""
        origin, there = self.origin, self._remote()
        refused = is_refused(origin)
        self.question = f"why does {there} break off {title_of(origin)}? {origin.service or 'Its caller'} saw {error_of(origin)}."
        if refused:
            self.question = f"is {there} up? It refuses connections from {origin.service or 'its caller'}."
            did = f"refused the connection ({error_of(origin)})"
        elif is_timeout(origin):
            self.question = (
                f"is {there} slow for others too? {call_of(origin)} had no answer within {time_of(origin.duration_ns)}."
            )
            did = f"did not answer within {time_of(origin.duration_ns)} ({error_of(origin)})"
        elif origin.http_status is not None:
            did = f"answered with status {origin.http_status}"
            self.question = f"why does {there} answer {title_of(origin)} with {origin.http_status}?"
        else:
            did = f"failed ({error_of(origin)})"
        times = f", {self.attempts} times" if self.attempts > 1 else ""
        self.missing.append(f"no span of {there} itself")
        peer = origin.get(semconv.SERVICE_PEER_NAME)
        if peer is None and (peer := self._service_there()) is not None:
            self.doubt("medium")
            self.missing.append(f"that {remote_of(origin)} is {peer} is only known from another call")
        team = origin.attributes.get(semconv.PEER_TEAM) or self._team_of_service(peer)
        if team:
            self.team, self.service = str(team), str(peer) if peer else there
            if not refused:
                self.doubt("medium")
            self.why = f"{there}, which belongs to team {team}, {did}{times}, as {owner_of(origin)} reports"
            return
        self.team = origin.team
        self.service = str(peer) if peer else self.service
        self.confidence = "low"
        self.missing.append(f"nobody is named as the owner of {there}: the peer table does not have it")
        self.why = f"unknown remote {there} {did}{times}, reported by {self.team or origin.service or 'nobody named'}"
        host = str(origin.get(semconv.SERVER_ADDRESS) or there)
        self.question = f'whose is {there}? Answer it for next time: in [peers], "{host}" = {{ service = "...", team = "..." }}.'

    def _remote(self) -> str:
        """The other side's name: the peer table's, else that of the service that answered there in the same trace, else its address."""
        there = remote_of(self.origin)
        known = None if self.origin.get(semconv.SERVICE_PEER_NAME) else self._service_there()
        return f"{known} at {there}" if known else there

    def _service_there(self) -> str | None:
        """The one service whose servers answered other calls of this trace at the very same address and port."""
        where = self.origin.get(semconv.SERVER_ADDRESS), self.origin.get(semconv.SERVER_PORT)
        found = set()
        for span in self.tree.spans.values() if all(where) else ():
            parent = self.tree.parent.get(span.span_id)
            if span.kind == "server" and span.service and parent is not None and parent.kind == "client":
                there = parent.get(semconv.SERVER_ADDRESS), parent.get(semconv.SERVER_PORT)
                found |= {span.service} if there == where else set()
        return found.pop() if len(found) == 1 else None  # behind a gateway, one address is many services

    def _team_of_service(self, service: object) -> str | None:
        if service:
            for span in self.tree.spans.values():
                if span.service == service:
                    team = span.resource.get(semconv.TEAM) or span.resource.get(semconv.SERVICE_OWNER_NAME)
                    return str(team) if team else None
        return None

    def blame_slowness(self, below: SpanRecord) -> bool:
        """The caller gave up while `below` went on: what took so long is to blame. False if that was the caller itself."""
        slowness = measure(self.tree, below)
        slowest = slowness.repeated.parent if slowness.repeated is not None else slowness.slowest
        if slowest is self.origin:
            return False
        team = owner_of_time(self.tree, slowest)
        spent = slowness.repeated.on_path_ns if slowness.repeated is not None else slowness.spent_ns
        what = f"{title_of(slowest)} of {owner_of(slowest)}"
        if slowness.repeated is not None:
            what = f"{slowness.repeated.query!r}, sent {len(slowness.repeated.spans)} times by {what}"
        elif team != slowest.team:
            what = f"waiting for {remote_of(slowest)} of team {team}"
        gave_up = f"{owner_of(self.origin)} gave up after {time_of(self.origin.duration_ns)} ({error_of(self.origin)}), "
        if below is not self.origin:
            gave_up += f"while {title_of(below)} of {owner_of(below)} took {time_of(below.duration_ns)}, "
        self.why = f"{gave_up}{time_of(spent)} of it in {what}"
        waits = f"{self.origin.service or 'its caller'} waits for {time_of(self.origin.duration_ns)} at most"
        who = (
            remote_of(slowest)
            if is_silent_remote(self.tree, slowest)
            else f"{title_of(slowest)} of {slowest.service or 'its service'}"
        )
        self.question = f"why does {who} take {time_of(spent)}? {waits}."
        self.guilty, self.team, self.service, self.code = slowest, team, slowest.service or None, slowest.code
        if is_silent_remote(self.tree, slowest):
            self.service = str(slowest.get(semconv.SERVICE_PEER_NAME) or "") or self.service
            self.missing.append(f"no span of {remote_of(slowest)} itself")
        self.doubt("medium")
        return True


def _judge_failure(tree: Tree, failure: Failure) -> Verdict:
    blame = _Blame(tree, failure)
    origin = blame.origin
    children = tree.children.get(origin.span_id, [])
    server = next((child for child in children if child.kind == "server"), None)
    status = origin.http_status
    if origin.kind == "client":
        if status is not None and 400 <= status < 500:
            blame.blame_caller(server)
        elif is_timeout(origin) and server is not None and blame.blame_slowness(server):
            pass
        elif server is not None and status is not None:
            blame.blame_server(server)
        elif (
            not children
            and (is_network(origin) or (origin.code is None and origin.exception is None))
            and not _is_answered(origin)
        ):
            blame.blame_remote()
        else:
            blame.blame_span()
            if _is_answered(origin):
                blame.why = f"{remote_of(origin)} answered {error_of(origin)} to {title_of(origin)}, sent by {owner_of(origin, blame.team)}"
                blame.why += f" at {blame.code}" if blame.code else ""
    elif not (is_timeout(origin) and children and blame.blame_slowness(origin)):
        blame.blame_span()
    if blame.team is None:
        blame.missing.append(f"nobody is named as the owner of {blame.service or title_of(blame.guilty)}")
        blame.confidence = "low"
    path = path_to(tree, blame.guilty)
    handled, also = other_failures(tree, failure, path)
    if blame.team is None:
        blame.question = (
            f"whose is {blame.service or title_of(blame.guilty)}? Its spans name no team; `lighttrace owners` says why."
        )
    if also:
        other = tree.spans[also[-1]]
        blame.why += f"; independently, {title_of(other)} of {owner_of(other)} failed too ({error_of(other)})"
    return Verdict(
        "error", blame.team, blame.service, blame.guilty.name, blame.guilty.span_id, blame.code, blame.confidence, blame.why + ".",
        tuple(dict.fromkeys(blame.missing)), *contact_of(tree, blame.team), path=path, handled=handled, also=also,
        question=blame.question or None,
    )  # fmt: skip


def _is_answered(span: SpanRecord) -> bool:
    """Whether a database answered, and said what was wrong with the statement: that is its caller's doing."""
    return span.get(semconv.DB_SYSTEM_NAME) is not None and not is_network(span)
