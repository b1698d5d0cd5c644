"""Where an error began: followed from the request that failed down to the last span whose error explains the others."""

from collections.abc import Iterable
from typing import NamedTuple

from lighttrace import semconv
from lighttrace.analysis.model import SpanRecord
from lighttrace.analysis.tree import Tree
from lighttrace.analysis.words import said_of

_JUST_AFTER_NS = 1_000_000
_REFUSED = (
    "refused", "connecterror", "connectionerror", "newconnectionerror", "getaddrinfo", "nameresolution", "unreachable", "gaierror",
    "enotfound", "no route to host",
)  # fmt: skip
_TIMEOUTS = ("timeout", "timedout", "timed out", "deadline")
_NETWORK = (
    "connect", "reset", "broken pipe", "brokenpipe", "disconnect", "hang up", "remote", "protocolerror", "ssl", "certificate",
    "network", "socket", "dns", "readerror", "writeerror", "closed", "eof", "incomplete", "unavailable",
)  # fmt: skip


class Failure(NamedTuple):
    """`chain` leads from the failing entry to the origin. `certain` is false where other errors might as well be the reason."""

    chain: list[SpanRecord]
    certain: bool
    attempts: int  # how often the origin's call was made, all in vain


def find_failure(tree: Tree) -> Failure | None:
    """The failure of the request; None if it did not fail.

    Without a root, what is left of its children tells whether it failed. A consumer is nobody's to handle: the producer
    does not wait for it, so that its failure counts though everything above it succeeded.
    """
    if tree.has_root:
        whole = [span for span in tree.roots if span.parent_id is None and span is not tree.root]
        for root in [tree.root, *whole]:
            failure = _fail_from(tree, root)
            if failure is not None:
                return failure
    else:
        siblings: dict[str, list[SpanRecord]] = {}
        for root in tree.roots:
            siblings.setdefault(root.parent_id or "", []).append(root)
        for roots in siblings.values():
            roots.sort(key=lambda span: (span.start_ns, span.end_ns))
            first, certain = _choose(tree, None, _not_retried(tree, roots))
            if first is not None:
                return _follow(tree, [first], certain)
    for span in tree.spans.values():
        if span.kind == "consumer" and span.failed:
            parent = tree.parent.get(span.span_id)
            if parent is not None and parent.kind == "producer" and not parent.failed:
                return _follow(tree, [span], certain=True)
    return None


def _fail_from(tree: Tree, root: SpanRecord) -> Failure | None:
    if root.failed:
        return _follow(tree, [root], certain=True)
    if root.kind != "server" or (root.http_status or 0) < 400:
        return None
    # A server answers 4xx without calling it an error of its own. Where that echoes a call that failed, and nothing was
    # done after it, the request failed for that reason.
    children = tree.children.get(root.span_id, [])
    first, _ = _choose(tree, root, _not_retried(tree, children))
    if first is None or any(child.start_ns >= first.end_ns for child in children):
        return None
    return _follow(tree, [root, first], certain=False)


def _follow(tree: Tree, chain: list[SpanRecord], certain: bool) -> Failure:
    while True:
        child, sure = _reason(tree, chain[-1])
        certain = certain and sure
        if child is None:
            break
        chain.append(child)
    origin = chain[-1]
    siblings = tree.children.get(chain[-2].span_id, []) if len(chain) > 1 else []
    attempts = sum(sibling.failed and _operation(tree, sibling) == _operation(tree, origin) for sibling in siblings)
    return Failure(chain, certain, max(1, attempts) if origin.kind == "client" else 1)


def _reason(tree: Tree, span: SpanRecord) -> tuple[SpanRecord | None, bool]:
    """The child whose error is the reason for this span's, and whether that is certain; None if the error began here."""
    children = tree.children.get(span.span_id, [])
    status = span.http_status
    if span.kind == "client" and status is not None and 400 <= status < 500:
        # The callee says that it was asked wrongly; unless its own span says that it broke.
        children = [child for child in children if child.kind != "server" or _broke(tree, child)]
    child, certain = _choose(tree, span, _not_retried(tree, children))
    if child is None:
        return _look_through(tree, span, children), True
    if (
        span.kind == "client"
        and is_timeout(span)
        and child.end_ns > span.end_ns + _JUST_AFTER_NS
        and not _has_failed_child(tree, child)
    ):
        return None, True  # the server's error came after the caller had gone: it found nobody to answer
    raised = span.exception
    if raised is not None and not _is_told_by(span, child):
        later = [other for other in children if other.start_ns >= child.end_ns and not other.failed]
        if later and raised["time_ns"] >= later[-1].start_ns:
            return None, False  # work went on after that error: it had been dealt with, and this one is another
        certain = False
    return child, certain


def _broke(tree: Tree, server: SpanRecord) -> bool:
    return server.failed and (
        server.exception is not None or (server.http_status or 500) >= 500 or _has_failed_child(tree, server)
    )


def _has_failed_child(tree: Tree, span: SpanRecord) -> bool:
    return any(child.failed for child in tree.children.get(span.span_id, ()))


def _look_through(tree: Tree, span: SpanRecord, children: list[SpanRecord]) -> SpanRecord | None:
    """An error that passed through a span of somebody's own which was given no status."""
    if span.exception is not None or not children:
        return None
    last = max(children, key=lambda child: child.end_ns)
    if last.kind != "internal" or last.status != "unset":
        return None
    below = tree.children.get(last.span_id, [])
    found, _ = _choose(tree, last, _not_retried(tree, below))
    return found if found is not None and not any(other.start_ns >= found.end_ns for other in below) else None


def _operation(tree: Tree, span: SpanRecord) -> tuple[str, ...]:
    """What two attempts of the same call have in common."""
    url = str(span.get(semconv.URL_FULL) or "").partition("?")[0]
    server = next((child for child in tree.children.get(span.span_id, ()) if child.kind == "server"), None)
    there = (server.service, server.name) if server is not None and not url else ()
    return span.name, span.kind, str(span.get(semconv.SERVER_ADDRESS) or ""), url, *there


def _not_retried(tree: Tree, siblings: Iterable[SpanRecord]) -> list[SpanRecord]:
    """Those that failed and that no later sibling made good by doing the same and succeeding."""
    failed = [span for span in siblings if span.failed]
    if not failed:
        return []
    succeeded: dict[tuple[str, ...], int] = {}
    for span in siblings:
        if not span.failed:
            key = _operation(tree, span)
            succeeded[key] = max(succeeded.get(key, 0), span.start_ns)
    if not succeeded:
        return failed
    return [span for span in failed if succeeded.get(_operation(tree, span), -1) < span.end_ns]


def _choose(tree: Tree, parent: SpanRecord | None, failed: list[SpanRecord]) -> tuple[SpanRecord | None, bool]:
    """Of several errors the one that the parent tells of; else the last. Of concurrent ones the first, since it ended the wait."""
    if parent is not None and parent.exception is not None and parent.exception["time_ns"]:
        raised = parent.exception["time_ns"] + _JUST_AFTER_NS
        failed = [span for span in failed if span.start_ns <= raised]  # what came later is no reason
    if len(failed) <= 1:
        return (failed[0] if failed else None), True
    told = [span for span in failed if parent is not None and _is_told_by(parent, span)]
    pool = told or failed
    last = max(pool, key=lambda span: (span.end_ns, span.start_ns))
    at_once = [span for span in pool if span.start_ns < last.end_ns and span.end_ns > last.start_ns] or [last]
    chosen = min(at_once, key=lambda span: (span.end_ns, span.start_ns))
    same = all(_operation(tree, span) == _operation(tree, chosen) for span in failed)
    return chosen, len(told) == 1 or same or len(at_once) == 1


def _is_told_by(span: SpanRecord, child: SpanRecord) -> bool:
    """Whether what a span says about its error names its child's."""
    said = said_of(span)
    event = child.exception
    if event is not None:
        message = str(event["attributes"].get(semconv.EXCEPTION_MESSAGE) or "")
        kind = str(event["attributes"].get(semconv.EXCEPTION_TYPE) or "").rpartition(".")[2]
        return (len(message) > 3 and message in said) or (bool(kind) and kind in said)
    if child.http_status is not None:
        return str(child.http_status) in said
    if child.status_message:
        return child.status_message in said
    kind = str(child.get(semconv.ERROR_TYPE) or "").rpartition(".")[2]
    return bool(kind) and kind in said


def _says(span: SpanRecord, words: tuple[str, ...]) -> bool:
    event = span.exception
    said = f"{span.get(semconv.ERROR_TYPE) or ''} {span.status_message}"
    if event is not None:
        attributes = event["attributes"]
        said += f" {attributes.get(semconv.EXCEPTION_TYPE, '')} {attributes.get(semconv.EXCEPTION_MESSAGE, '')}"
    said = said.lower()
    return any(word in said for word in words)


def is_timeout(span: SpanRecord) -> bool:
    """Whether it gave up waiting."""
    return span.http_status == 504 or ((span.http_status is None or span.kind != "client") and _says(span, _TIMEOUTS))


def is_refused(span: SpanRecord) -> bool:
    """Whether nobody answered at the other side at all."""
    return span.http_status is None and not is_timeout(span) and _says(span, _REFUSED)


def is_network(span: SpanRecord) -> bool:
    """Whether it failed on the way, or the other side did; and not before anything was sent."""
    status = str(span.get(semconv.DB_RESPONSE_STATUS_CODE) or "")
    if span.get(semconv.DB_SYSTEM_NAME) is not None and status:
        return len(status) == 5 and status[:2] in ("08", "53", "57", "58")  # SQLSTATE: connection, resources, operator, system
    return span.http_status is not None or is_timeout(span) or is_refused(span) or _says(span, _NETWORK)


def other_failures(tree: Tree, failure: Failure, path: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Errors beside the chain: (ids that were handled, ids of the origins of independent failures).

    Handled is what happened under a span that succeeded, was made good by a retry, or was over when the origin's own error
    began; vain attempts of the origin's call are neither. `path` leads to the guilty span.
    """
    chain = {*path, *(span.span_id for span in failure.chain)}
    operations = {_operation(tree, span) for span in failure.chain}
    handled: list[str] = []
    independent: list[SpanRecord] = []
    fate: dict[str, str] = dict.fromkeys(chain, "chain")
    stack = list(reversed(tree.roots))
    while stack:
        span = stack.pop()
        children = tree.children.get(span.span_id, [])
        stack.extend(reversed(children))
        above = fate.get(span.span_id, "fine")
        candidates = (
            {child.span_id for child in _not_retried(tree, children)} if any(child.failed for child in children) else set()
        )
        for child in children:
            if child.span_id in chain or not child.failed:
                continue
            if above in ("handled", "independent", "attempt"):
                fate[child.span_id] = above
            elif above == "fine" or span is failure.chain[-1] or child.span_id not in candidates:
                fate[child.span_id] = "handled"
            elif _operation(tree, child) in operations:
                fate[child.span_id] = "attempt"
            else:
                fate[child.span_id] = "independent"
                independent.append(child)
            if fate[child.span_id] == "handled":
                handled.append(child.span_id)
    origins = (_follow(tree, [span], certain=True).chain[-1] for span in independent)
    return tuple(handled), tuple(dict.fromkeys(span.span_id for span in origins))
