"""Headers that are added where a request's head is bytes already: for libraries in which each header costs microseconds.

A header that is added to an httpx request is copied, checked against two patterns, lower-cased and looked at in seven loops
by httpx, httpcore and h11, 4 us in all. Ours are known to be well-formed and mean nothing to any of them, so that it is
enough to put them before the empty line that ends the head.
"""

from typing import Any

from lighttrace import guard
from lighttrace.instrument.call import disguise
from lighttrace.instrument.carriers import BAGGAGE, TRACEPARENT, TRACESTATE, RawHeaders, are_new, lower_name
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import bare, read_current, span_of

LATE = (TRACEPARENT, BAGGAGE)
"""What `LateHeaders.carry` gives, and `Headers.added` is until a `HeadPatch` has sent them: a mark, whatever they are."""


class LateHeaders(RawHeaders):
    """Over `httpx.Headers` of a request whose head passes a `HeadPatch`, which adds ours."""

    __slots__ = ("baggage", "parent", "state")

    parent: str
    state: str | None
    baggage: str | None

    def carry(self, parent: str, state: str | None, baggage: str | None) -> tuple[str, ...]:
        """See `Headers.carry`. What the caller has set is seen where the head is written."""
        self.parent = parent
        self.state = state
        self.baggage = baggage
        return LATE

    def withdraw(self, added: tuple[str, ...]) -> None:
        if added is not LATE:  # those never were among the request's
            RawHeaders.withdraw(self, added)


def _lines(call: LateHeaders, there: set[bytes]) -> list[bytes]:
    """What goes into a head with headers of these names, in lower case, as `Headers.carry` would add it."""
    if TRACEPARENT.encode() in there:
        return []
    ours = (TRACEPARENT, call.parent), (TRACESTATE, call.state), (BAGGAGE, call.baggage)
    return [
        f"{name}: {value}\r\n".encode("latin-1", "replace")
        for name, value in ours
        if value is not None and name.encode() not in there
    ]


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
                current = read_current()
                call: Any = getattr(current if type(current) in bare else span_of(current), "_call", None)
                if type(call) is not LateHeaders or call.added is not LATE:
                    return
                # The values of a head are those of its request, the same objects, and the first is its host. What else is
                # written meanwhile is not for the call: a proxy asked to connect, trailers, a request made inside this one.
                own = call._headers._list[0][2]
                items = headers._full_items
                if not items or (items[0][2] is not own and all(value is not own for _, _, value in items)):
                    return
                if call.state is None and are_new(map(lower_name, items)):  # nearly always
                    text = f"traceparent: {call.parent}\r\n"
                    if call.baggage is not None:
                        text = f"{text}baggage: {call.baggage}\r\n"
                    write.__self__.insert(-1, text.encode("latin-1", "replace"))
                else:
                    write.__self__[-1:-1] = _lines(call, set(map(lower_name, items)))
                call.added = ()
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
