"""Headers that are added where a request's head is bytes already: for libraries in which each header costs microseconds.

A header that is added to an httpx request is copied, checked against two patterns, lower-cased and looked at in seven loops
by httpx, httpcore and h11, 4 us in all. Ours are known to be well-formed and mean nothing to any of them, so that it is
enough to put them before the empty line that ends the head.
"""

from typing import Any

from lighttrace import guard
from lighttrace.instrument.call import disguise
from lighttrace.instrument.carriers import BAGGAGE, TRACEPARENT, RawHeaders, are_new, lower_name
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import bare, read_current, span_of

LATE = (TRACEPARENT, BAGGAGE)
"""What `LateHeaders.carry` gives, whatever they are: a mark for headers that are not among the request's."""

WRITTEN: tuple[()] = ()
"""In the place of what has been written: there is a call, and nothing to be done for it."""


class LateHeaders(RawHeaders):
    """Over `httpx.Headers` of a request whose head passes a `HeadPatch`, which adds ours: what it needs is on the span.

    `Span._head` is the lines and the request's own headers, `WRITTEN` once they are, and None when the call is over.
    """

    __slots__ = ()

    def carry(self, parent: str, state: str | None, baggage: str | None) -> tuple[str, ...]:
        """See `Headers.carry`. What the caller has set is seen where the head is written."""
        self.span._head = _lines_of(parent, state, baggage), self._headers._list
        return LATE


def _lines_of(parent: str, state: str | None, baggage: str | None) -> str:
    """The lines of a head for these headers, the traceparent first."""
    text = f"traceparent: {parent}\r\n"
    if state is not None:
        text = f"{text}tracestate: {state}\r\n"
    return text if baggage is None else f"{text}baggage: {baggage}\r\n"


def _missing(lines: str, there: set[bytes]) -> str:
    """Those of `lines` that go into a head with headers of these names, in lower case, as `Headers.carry` would add them."""
    if TRACEPARENT.encode() in there:
        return ""
    return "".join([line for line in lines.splitlines(keepends=True) if line.partition(":")[0].encode() not in there])


class HeadPatch(Patch):
    """The seam at which h11 writes headers, of whatever kind: the target is a function with (headers, write).

    `headers` has a private list, `_full_items`, of (name as written, lower-case name, value), in bytes. `write` is `append` of the
    list with the lines of a head, the first one of them the request's and the last one empty.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.ready = False  # whether requests may rely on it

    def apply(self) -> bool:
        applied = super().apply()
        self.ready = True
        return applied

    def undo(self) -> None:
        self.ready = False
        super().undo()

    def _rebind(self, found: Any, replacement: Any, owner: Any) -> None:
        """A library's private function has no other name: looking for one in every module took 2 ms of a program's start."""

    def wrap(self, original: Any) -> Any:
        site = self.site

        # Flat, because each request pays for each step into another function.
        def write_headers(headers: Any, write: Any) -> None:
            original(headers, write)
            if not site.enabled:
                return
            try:
                current: Any = read_current()
                if type(current) not in bare:
                    current = span_of(current)
                head = getattr(current, "_head", None)
                if not head:
                    return
                lines, own = head
                # The values of a head are those of its request, the same objects, and the first is its host. What else is
                # written meanwhile is not for the call: a proxy asked to connect, trailers, a request made inside this one.
                host = own[0][2]
                items = headers._full_items
                if not items or (items[0][2] is not host and all(value is not host for _, _, value in items)):
                    return
                if not are_new(map(lower_name, items)):
                    lines = _missing(lines, set(map(lower_name, items)))
                write.__self__.insert(-1, lines.encode("latin-1", "replace"))
                current._head = WRITTEN
            except Exception as error:
                site.failed(error)
                # Not only when the call is answered: while none is, requests would go on relying on it.
                self._give_up()

        return disguise(write_headers, original)

    def missed(self) -> None:
        """A call was answered and its head never came this way: from now on calls carry their headers as others do."""
        if self.site.enabled:
            self._give_up()

    def _give_up(self) -> None:
        if self.ready:
            self.ready = False
            guard.count("propagation.head_missed")
            guard.log(
                f"heads.{self.target}",
                f"{self.integration}: a request went out without its trace headers, because {self.target} was not called for it, "
                "or writes otherwise; requests carry them in the library's own headers from now on",
            )
