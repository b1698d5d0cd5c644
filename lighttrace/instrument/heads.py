"""Headers that are added where a request's head is bytes already: for libraries in which each header costs microseconds.

A header that is added to an httpx request is copied, checked against two patterns, lower-cased and looked at in seven loops
by httpx, httpcore and h11, 4 us in all. Ours are known to be well-formed and mean nothing to any of them, so that it is
enough to put them before the empty line that ends the head.
"""

from typing import Any

from lighttrace import guard
from lighttrace.instrument.call import disguise
from lighttrace.instrument.carriers import BAGGAGE, TRACEPARENT, RawHeaders
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import bare, read_current, span_of

LATE = (TRACEPARENT, BAGGAGE)
"""What `LateHeaders.carry` gives: headers that a `HeadPatch` has yet to send."""

_END = b"\r\n"
_OUR_PARENT, _OUR_BAGGAGE = b"\r\ntraceparent:", b"\r\nbaggage:"
_A_REQUEST = b" HTTP/1.1\r\n"
_NOT_FOR_US = b"CONNECT "  # a proxy that is asked to connect is nobody whom the call is for


class LateHeaders(RawHeaders):
    """Over `httpx.Headers` of a request whose head passes a `HeadPatch`, which adds ours."""

    __slots__ = ("head",)

    head: bytes  # the lines to be added; not there where the headers went another way

    def carry(self, parent: str, state: str | None, baggage: str | None) -> tuple[str, ...]:
        """See `Headers.carry`. What the caller has set is seen when the lines are there to be looked through at once."""
        text = f"traceparent: {parent}\r\n" if state is None else f"traceparent: {parent}\r\ntracestate: {state}\r\n"
        if baggage is not None:
            text = f"{text}baggage: {baggage}\r\n"
        self.head = text.encode("latin-1", "replace")
        return LATE

    def withdraw(self, added: tuple[str, ...]) -> None:
        if added is not LATE:  # those never were among the request's
            RawHeaders.withdraw(self, added)


class HeadPatch(Patch):
    """The seam at which a library writes the headers of a request: the target is a function with (headers, write).

    `write` is `append` of the list with the head's lines, the first one of them the request's.
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
                head = getattr(call, "head", None)
                if head is not None:
                    lines = write.__self__
                    first = lines[0]  # of trailers and responses it is another
                    if first[-11:] == _A_REQUEST and first[:8] != _NOT_FOR_US:
                        there = b"".join(lines).lower()
                        # What the caller has set stays as it is: nothing is added to a parent, and no baggage to baggage.
                        if _OUR_BAGGAGE in there:
                            head = head.partition(_OUR_BAGGAGE)[0] + _END
                        if _OUR_PARENT not in there:
                            lines.insert(-1, head)
                        call.added = ()
            except Exception as error:
                site.failed(error)

        return disguise(write_headers, original)

    def missed(self) -> None:
        """A call was answered and its head never came this way: from now on calls carry their headers as others do."""
        if self.ready and self.site.enabled:
            self.ready = False
            guard.count("propagation.head_missed")
            guard.log(
                f"heads.{self.target}",
                f"{self.integration}: a request went out without its trace headers, because {self.target} was not called for it; "
                "requests carry them in the library's own headers from now on",
            )
