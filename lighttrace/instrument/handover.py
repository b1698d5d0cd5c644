"""Calls that go on through a library below: requests' through urllib3, whose sockets are http.client's.

The span is that of the library which was called, and the one below lets its calls pass. But each header costs the way down
microseconds: it is copied, compared, checked against patterns and encoded by all three. So the headers that the library above
has added are taken out again where they enter the one below, and written in one piece where the head of the request ends.
"""

import inspect
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import SpanKind

from lighttrace import guard
from lighttrace.instrument.call import disguise
from lighttrace.instrument.carriers import BAGGAGE, BOTH, LATE, PARENT, TRACEPARENT, StoredHeaders
from lighttrace.instrument.http_client import HttpClientPatch
from lighttrace.instrument.patching import Patch
from lighttrace.tracing.context import bare, read_current, span_of
from lighttrace.tracing.span import Span

CLIENT = SpanKind.CLIENT
ASIDE = (BAGGAGE, TRACEPARENT)
"""What `Headers.added` is, instead of `LATE`, while another request is on its way: a mark, as that is."""


class HeadEndPatch(Patch):
    """The seam at which http.client ends a head; the target has the signature of `HTTPConnection.endheaders`.

    The connection has a private list, `_buffer`, of the lines so far, in bytes.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.standing: Any = None  # what stands at the target, if it can be relied on

    def wrap(self, original: Any) -> Any:
        site = self.site

        def endheaders(connection: Any, message_body: Any = None, *, encode_chunked: bool = False) -> Any:
            if site.enabled:
                try:
                    current = read_current()
                    call: Any = getattr(current if type(current) in bare else span_of(current), "_call", None)
                    # What else is sent meanwhile is not for the call: it is sent by a connection of another class.
                    if type(call) is StoredHeaders and call.added is LATE and type(connection) is call.connection:
                        connection._buffer.append(call.lines)  # type: ignore[attr-defined]  # private
                        call.added = ()
                except Exception as error:
                    site.failed(error)
                    self.missed()  # whether or not the call is answered: while none is, others would go on relying on it
            return original(connection, message_body, encode_chunked=encode_chunked)

        self.standing = disguise(endheaders, original)
        return self.standing

    def missed(self) -> None:
        """A request went without what it should have got here: from now on headers stay where they are."""
        if self.standing is None:
            return
        self.standing = None
        guard.count("propagation.head_missed")
        guard.log(
            f"heads.{self.target}",
            f"{self.integration}: a request went out without its trace headers, because {self.target} was not called for it, "
            "or writes otherwise; requests carry them in the library's own headers from now on",
        )


class PassingPatch(HttpClientPatch):
    """One function of a library that others send through, with a `headers` argument; the first argument makes connections."""

    def __init__(
        self, target: str, *args: Any, head_end: HeadEndPatch, read_connection: Callable[[Any], Any], **options: Any
    ) -> None:
        """`head_end` is where the head of a request ends; `read_connection` reads the class of connections off the first argument."""
        super().__init__(target, *args, headers_argument="headers", **options)
        self.head_end = head_end
        self.read_connection = read_connection

    def wrap(self, original: Any) -> Any:
        traced = super().wrap(original)
        made = passing(original, traced, self._take_over, self._done)
        return traced if made is None else disguise(made, original)

    def _take_over(self, source: Any, headers: Any) -> Any:
        """The call of the library above, whose span is current and has not ended; None if there is none.

        If it is this call's request that is sent, its headers are to be written where the head ends.
        """
        try:
            if not self.site.enabled:
                return None
            current = read_current()
            span = current if type(current) in bare else span_of(current)
            if type(span) is not Span or span._kind is not CLIENT or not span._tracer.covers or span._end:
                return None
            call = getattr(span, "_call", None)
            if type(call) is not StoredHeaders:
                return call
            added = call.added
            if headers is not call._headers:
                if added is LATE:  # a request of somebody's own on the way: not the one that the headers are for
                    call.added = ASIDE
            elif added is BOTH or added is PARENT:
                kind = self.read_connection(source)
                if self.head_end.standing is not None and kind.endheaders is self.head_end.standing:
                    store = headers._store
                    lines = f"traceparent: {store[TRACEPARENT][1]}"
                    if added is BOTH:
                        lines = f"{lines}\r\nbaggage: {store[BAGGAGE][1]}"
                        del store[BAGGAGE]
                    del store[TRACEPARENT]
                    call.lines = lines.encode("latin-1", "replace")
                    call.connection = kind
                    call.added = LATE
            elif not added and getattr(call, "lines", None) is not None:  # sent once, and now again
                call.added = LATE
            return call
        except Exception as error:
            self.site.failed(error)
            return None

    def _done(self, call: Any, failed: bool) -> None:
        if call.added is ASIDE:
            call.added = LATE
        elif call.added is LATE and not failed and not call.span._end:
            self.head_end.missed()


_PASSING = """
def wrapper({declared}):
    call = take_over({first}, headers)
    if call is None:
        return traced({named})
    try:
        result = original({passed})
    except BaseException:
        done(call, True)
        raise
    if call.added:
        done(call, False)
    return result
"""


def passing(original: Any, traced: Any, take_over: Any, done: Any) -> Any:
    """A wrapper with the very parameters of `original`, for calls that pass; the others go to `traced`. None where it has any.

    To pack and unpack a dozen arguments twice costs a call as much as the rest of what is asked here.
    """
    scope: dict[str, Any] = {"original": original, "traced": traced, "take_over": take_over, "done": done}
    declared: list[str] = []
    named: list[str] = []
    passed: list[str] = []
    for number, (name, parameter) in enumerate(inspect.signature(original, follow_wrapped=False).parameters.items()):
        if parameter.kind is parameter.VAR_KEYWORD:
            name = f"**{name}"
            declared.append(name)
            named.append(name)
        elif parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or name in scope or name in ("call", "result"):
            return None
        elif parameter.default is parameter.empty:
            declared.append(name)
            named.append(name)
        else:
            scope[f"default_{number}"] = parameter.default
            declared.append(f"{name}=default_{number}")
            named.append(f"{name}={name}")
        passed.append(name)
    if "headers" not in passed:
        return None
    source = _PASSING.format(declared=", ".join(declared), named=", ".join(named), passed=", ".join(passed), first=passed[0])
    exec(compile(source, "<lighttrace>", "exec"), scope)  # noqa: S102  # of names that `inspect` read off a function
    return scope["wrapper"]
