"""Which traces are kept, decided when their local root ends: what failed or was slow, so many per second, a share of the rest.

A stage between the pipeline and the queue, that is there only where it is configured. The spans of a local root (all
that one request causes in this process) wait here until it ends, within bounds; then they go on together or not at all,
and a span that ends after them follows. Books are kept: what is not kept is counted by reason (`stats`).

What was decided stays with the trace itself, so that nothing has to be looked up and nothing has to be forgotten.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any

from lighttrace import guard, semconv
from lighttrace.tracing.local_trace import LocalTrace
from lighttrace.tracing.sampling import ALL
from lighttrace.tracing.span import ERROR
from lighttrace.tracing.weight import weigh

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span

_MASK = (1 << 64) - 1
_PART = 8  # one local root may hold one part in so many of all that is held
_WEIGHED = 4  # one span in so many is weighed, for all of them
_LONGEST_S = 60.0  # how long spans wait for a root that may never end
_MOST_ROUTES = 1024


class Fate:
    """What becomes of the spans of one local root."""

    __slots__ = ("failed", "held", "kept", "reason", "since", "weight")

    def __init__(self) -> None:
        self.held: list[Span] = []
        self.failed = False
        self.kept = False
        self.reason: str | None = None  # None until it is decided
        self.since = 0.0  # when the first span was held
        self.weight = 0  # about how many bytes are held


class Rate:
    """So many per second of each route that matches, with as many at once; in bounded memory.

    >>> rate = Rate("/health*", 1.0)
    >>> rate.admits("/healthz", 100.0), rate.admits("/healthz", 100.5), rate.admits("/healthz", 101.5)
    (True, False, True)
    """

    __slots__ = ("_burst", "_left", "_pattern", "per_second")

    def __init__(self, route: str, per_second: float) -> None:
        from fnmatch import translate

        self._pattern = re.compile(translate(route))
        self.per_second = per_second
        self._burst = max(1.0, per_second) if per_second else 0.0
        self._left: dict[str, tuple[float, float]] = {}  # by route: how many may go, as of when

    def matches(self, route: str) -> bool:
        """Whether this rule is about that route."""
        return self._pattern.match(route) is not None

    def admits(self, route: str, now: float) -> bool:
        """Whether one more may go at `now` (monotonic, in seconds)."""
        if route not in self._left and len(self._left) >= _MOST_ROUTES:
            route = ""  # paths of a framework that has no routes: together
        left, since = self._left.get(route, (self._burst, now))
        left = min(self._burst, left + (now - since) * self.per_second)
        admitted = left >= 1.0
        self._left[route] = (left - 1.0 if admitted else left, now)
        return admitted


class Keeper:
    """Decides at the end of a local root. `put` takes spans that have ended, and hands those on that are kept.

    `ratio` (0 to 1) is the share of traces that are kept anyhow, chosen by trace id as the sampler `traceidratio` does, so
    that every service with the same ratio keeps the same traces. `slower_than` is in seconds; `most` and `most_bytes` are how
    many spans may wait for their roots, and about how many bytes they may hold.
    """

    def __init__(
        self,
        put: "Callable[[Span], Any]",
        *,
        ratio: float = 1.0,
        errors: bool = True,
        slower_than: float | None = None,
        rates: Iterable[Mapping[str, Any]] = (),
        most: int = 8192,
        most_bytes: int = 64 << 20,
    ) -> None:
        self._put = put
        self._bound = round(ratio * ALL)
        self._errors = errors
        self._slow_ns = None if slower_than is None else round(slower_than * 1e9)
        self._rates = tuple([Rate(rule["route"], rule["per_second"]) for rule in rates])
        self._most = max(1, most)
        self._most_of_one = max(1, most // _PART)
        self._most_bytes = most_bytes
        self._site = guard.site("tracing.keeping")
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        # Reentrant: a finalizer may end a span while its own thread is in the middle of this.
        self._lock = threading.RLock()
        self._open: dict[int, Fate] = {}  # those that hold spans, the oldest first
        self._held = 0
        self._weight = 0
        self.kept = 0
        self.overflows = 0
        self.dropped: dict[str, int] = {}

    def in_child(self) -> None:
        """After a fork: the spans that wait are the parent's to keep."""
        for fate in self._open.values():
            fate.held = []
        self._reset()

    # -- the way of a span --------------------------------------------------------------------------------------

    def put(self, span: "Span") -> None:
        """Take a span that has ended."""
        if self._closed:
            self._put(span)
            return
        trace = span._trace
        fate: Any = getattr(trace, "fate", None)
        if type(fate) is not Fate:
            fate = self._fate_of(trace)
        if span._status == ERROR:
            fate.failed = True
        if not span._parent_id or trace.entered_by(span._parent_id):
            self._root(span, fate)
        elif fate.reason is None:
            self._hold(span, fate)
        else:
            self._go([span], fate)

    def _fate_of(self, trace: LocalTrace) -> Fate:
        """The one fate of a local root's trace and of what was made from it."""
        with self._lock:
            origin = trace
            while type(found := getattr(origin, "fate", None)) is LocalTrace:
                origin = found
            fate: Fate = found if found is not None else Fate()
            origin.fate = trace.fate = fate
        return fate

    def _root(self, span: "Span", fate: Fate) -> None:
        with self._lock:
            held = self._release(fate)
            if fate.reason is None or (fate.reason == "overflow" and self._speaks_for_itself(span, fate)):
                self._judge(span, fate)
            if fate.kept and fate.reason is not None:
                # A dict of its own: somebody else's processor may be reading the other one on its thread.
                span._own = {**span.said(), semconv.KEEP_REASON: fate.reason}
            held.append(span)
            self._go(held, fate)

    def _hold(self, span: "Span", fate: Fate) -> None:
        with self._lock:
            if fate.reason is None and self._closed:
                fate.kept, fate.reason = True, "ratio"  # nobody would come to decide it
            if fate.reason is not None:
                decided = [(fate, [span])]
            else:
                if not fate.held:
                    fate.since = monotonic()
                    self._open[id(fate)] = fate
                fate.held.append(span)
                if not self._held % _WEIGHED:
                    weight = weigh(span) * _WEIGHED
                    fate.weight += weight
                    self._weight += weight
                self._held += 1
                decided = self._overflow(fate)
            for other, spans in decided:
                self._go(spans, other)

    def _overflow(self, fate: Fate) -> "list[tuple[Fate, list[Span]]]":
        """Decide now what holds too much or has waited too long. Under the lock."""
        oldest = next(iter(self._open.values()))
        if len(fate.held) >= self._most_of_one or fate.weight > self._most_bytes // _PART:
            decided = fate
        elif self._held > self._most or self._weight > self._most_bytes or fate.since - oldest.since > _LONGEST_S:
            decided = oldest
        else:
            return []
        self.overflows += 1
        guard.count("keep.overflow")
        return [(decided, self._decide_early(decided))]

    def _decide_early(self, fate: Fate) -> "list[Span]":
        """Decide by what is known while the root goes on, and give back what was held. Under the lock."""
        held = self._release(fate)
        if fate.failed and self._errors:
            fate.kept, fate.reason = True, "error"
        elif self._slow_ns is not None and held and time_ns() - held[0]._start >= self._slow_ns:
            fate.kept, fate.reason = True, "slow"  # the root has been there for longer than any span below it
        elif held and held[0]._trace_id & _MASK < self._bound:
            fate.kept, fate.reason = True, "ratio"
        else:
            fate.kept, fate.reason = False, "overflow"
        return held

    def _release(self, fate: Fate) -> "list[Span]":
        held, fate.held = fate.held, []
        if held:
            self._open.pop(id(fate), None)
            self._held -= len(held)
            self._weight -= fate.weight
            fate.weight = 0
        return held

    def _speaks_for_itself(self, span: "Span", fate: Fate) -> bool:
        return (self._errors and fate.failed) or (self._slow_ns is not None and span._end - span._start >= self._slow_ns)

    def _judge(self, span: "Span", fate: Fate) -> None:
        """Decide by the root that has ended. Under the lock."""
        kept, reason = True, "error"
        try:
            if not (self._errors and fate.failed):
                if self._slow_ns is not None and span._end - span._start >= self._slow_ns:
                    reason = "slow"
                else:
                    admitted = self._admitted(span) if self._rates else None
                    if admitted is not None:
                        kept, reason = admitted, "rate"
                    else:
                        kept, reason = span._trace_id & _MASK < self._bound, "ratio"
        except Exception as error:  # rather too much than too little
            self._site.failed(error)
            kept, reason = True, "ratio"
        fate.kept, fate.reason = kept, reason

    def _admitted(self, span: "Span") -> bool | None:
        attributes = span._attributes
        route: Any = attributes.get(semconv.HTTP_ROUTE) or attributes.get(semconv.URL_PATH)
        if isinstance(route, str):
            for rate in self._rates:
                if rate.matches(route):
                    return rate.admits(route, monotonic())
        return None

    def _go(self, spans: "list[Span]", fate: Fate) -> None:
        """Hand on what is kept; count what is not. Under the lock that was held when it ceased to wait: the books balance."""
        number = len(spans)
        with self._lock:
            if fate.kept:
                self.kept += number
                put = self._put
                for span in spans:
                    put(span)
                return
            reason = f"not_kept_{fate.reason}"
            self.dropped[reason] = self.dropped.get(reason, 0) + number
        guard.count(f"spans.dropped.{reason}", number)

    # -- the end, and the books ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Decide everything that waits by what is known; spans to come are handed on as they are."""
        with self._lock:
            self._closed = True
            for fate in list(self._open.values()):
                self._go(self._decide_early(fate), fate)

    def stats(self) -> dict[str, Any]:
        """Spans kept, dropped by reason, and held: together, all that were put before `close`."""
        with self._lock:
            return {"kept": self.kept, "dropped": dict(self.dropped), "held": self._held}

    def books(self, queue: "Callable[[], dict[str, Any]]") -> dict[str, Any]:
        """The queue's books at the same moment, with what is not kept as dropped for that reason, and what waits as queued."""
        with self._lock:
            books = queue()
            return {
                **books,
                "dropped": {**books["dropped"], **self.dropped},
                "queued": books["queued"] + self._held,
            }


def build(config: Any, put: "Callable[[Span], Any]") -> Keeper:
    """The stage that the configuration asks for."""
    return Keeper(
        put,
        ratio=config.keep_ratio,
        errors=config.keep_errors,
        slower_than=config.keep_slower_than_s,
        rates=config.keep,
        most=config.keep_held_spans,
        most_bytes=config.queue_bytes,
    )
