"""Headers that are added where a request's head is bytes already: for libraries in which each header costs microseconds.

A header that is added to an httpx request is copied, checked against two patterns, lower-cased and looked at in seven loops
by httpx, httpcore and h11, 4 us in all. Ours are known to be well-formed and mean nothing to any of them, so that it is
enough to put them before the empty line that ends the head.
"""

import sys
from typing import Any

from lighttrace import guard
from lighttrace.instrument.call import disguise
from lighttrace.instrument.carriers import BAGGAGE, TRACEPARENT, Headers, RawHeaders, are_new, lower_name
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import bare, read_current, span_of

LATE = (TRACEPARENT, BAGGAGE)
"""What `LateHeaders.carry` gives: headers that a `HeadPatch` has yet to send."""

_END = b"\r\n"
_BLANK = b"\r\n\r\n"


class LateHeaders(RawHeaders):
    """Over `httpx.Headers` of a request whose head passes a `HeadPatch`, which adds ours."""

    __slots__ = ("head",)

    head: bytes  # the lines to be added; not there where the headers went another way

    def carry(self, parent: str, state: str | None, baggage: str | None) -> tuple[str, ...]:
        """See `Headers.carry`."""
        if state is not None or not are_new(map(lower_name, self._headers._list)):
            return Headers.carry(self, parent, state, baggage)
        text = f"traceparent: {parent}\r\n" if baggage is None else f"traceparent: {parent}\r\nbaggage: {baggage}\r\n"
        self.head = text.encode("latin-1", "replace")
        return LATE


class HeadPatch(Patch):
    """The seam at which a library makes events into bytes: the target is a method with (connection, event) that gives them.

    `head` is the name of the class, in the same module, of those events that are the head of a request.
    """

    def __init__(self, target: str, head: str) -> None:
        super().__init__(target)
        self.head = head
        self.ready = False  # whether requests may rely on it

    def apply(self) -> bool:
        applied = super().apply()
        self.ready = True
        return applied

    def undo(self) -> None:
        self.ready = False
        super().undo()

    def wrap(self, original: Any) -> Any:
        site, head = self.site, getattr(sys.modules[self.module], self.head)

        # Flat, because each request pays for each step into another function.
        def write(connection: Any, event: Any) -> Any:
            if type(event) is not head or not site.enabled:
                return original(connection, event)
            written = original(connection, event)
            try:
                current = read_current()
                call: Any = getattr(current if type(current) in bare else span_of(current), "_call", None)
                if type(call) is LateHeaders:
                    lines = getattr(call, "head", None)
                    # A proxy that is asked to connect is nobody whom the call is for.
                    if lines and event.method != b"CONNECT" and written[-4:] == _BLANK:
                        made = written[:-2] + lines + _END
                        call.added = ()
                        return made
            except Exception as error:
                site.failed(error)
            return written

        return disguise(write, original)

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
