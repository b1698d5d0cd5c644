"""Headers of a call through requests, which go on through urllib3 to http.client, written where the head of the request ends.

Each header costs the last two microseconds: it is copied, lower-cased, compared, checked against patterns and encoded. Ours are
known to be well-formed, and mean nothing to either of them. So what urllib3 gets is a mapping that is the request's own in
every way, but that copies of it, one of which urllib3 sends, leave ours out, and know what is to be written for them.
"""

from collections.abc import Collection
from typing import Any

from lighttrace import guard
from lighttrace.instrument.call import disguise
from lighttrace.instrument.carriers import BAGGAGE, TRACEPARENT, StoredHeaders
from lighttrace.instrument.patching import Patch

_LINES = "_lighttrace_lines"
"""The attribute of a connection that holds what is to be written: bound to it, nobody else's request can get it."""

_passing: dict[type, type] = {}
"""By the class of a request's headers: that of what urllib3 gets."""
_ours: set[type] = set()
"""Those classes, and those of the copies that leave ours out. These have `left_out`, the two texts."""


def _passing_kind(kind: Any) -> type:
    class Short(kind):  # type: ignore[misc]  # a class that is known only here
        def copy(self) -> Any:
            made = Short.__new__(Short)
            made._store = self._store.copy()
            made.left_out = self.left_out
            return made

    class Passing(kind):  # type: ignore[misc]  # as above
        def copy(self) -> Any:
            parent, baggage = texts = self.texts
            store = self._store.copy()
            made = Short.__new__(Short)
            made._store = store
            if store.pop(TRACEPARENT, _NOTHING)[1] is not parent or (
                baggage is not None and store.pop(BAGGAGE, _NOTHING)[1] is not baggage
            ):  # somebody has changed them meanwhile
                return super().copy()
            made.left_out = texts
            return made

    for made in (Short, Passing):
        made.__name__, made.__qualname__, made.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    _ours.update((Short, Passing))
    _passing[kind] = Passing
    return Passing


_NOTHING = (None, None)


class HeadEndPatch(Patch):
    """The seam at which http.client ends a head; the target has the signature of `HTTPConnection.endheaders`.

    The connection has a private list, `_buffer`, of the lines so far, in bytes.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.standing: Any = None  # what stands at the target, if it can be relied on

    def wrap(self, original: Any) -> Any:
        def endheaders(connection: Any, message_body: Any = None, *, encode_chunked: bool = False) -> Any:
            try:
                lines = connection.__dict__.pop(_LINES, None)
                if lines is not None:
                    connection._buffer.append(lines)
            except Exception as error:
                self.site.failed(error)
                self._give_up()
            return original(connection, message_body, encode_chunked=encode_chunked)

        self.standing = disguise(endheaders, original)
        return self.standing

    def _give_up(self) -> None:
        self.standing = None
        guard.count("propagation.head_missed")
        guard.log(
            f"heads.{self.target}",
            f"{self.integration}: a request went out without its trace headers, because {self.target} writes otherwise; requests "
            "carry them in the library's own headers from now on",
        )


class ConnectionPatch(Patch):
    """The seam at which a connection sends a request; the target is given its argument `headers` by name.

    A pool, which comes before it, makes connections of the class `ConnectionCls` by its method `_new_conn`. `makers` are those
    that do; a pool with another one may have connections of any kind.
    """

    def __init__(self, target: str, head_end: HeadEndPatch, makers: Collection[Any]) -> None:
        super().__init__(target)
        self.head_end = head_end
        self.makers = makers
        self._standing: Any = None

    def passed_on(self, call: Any, pool: Any, headers: Any) -> Any:
        """What goes on in the place of `headers`, which a call has added its own to, or which were copied from those; else the same."""
        if type(call) is not StoredHeaders:
            return headers
        kind = type(headers)
        if kind is not type(call._headers):
            return headers
        parent = headers._store.get(TRACEPARENT)
        # The very text that the engine has put there: what a program writes is for http.client to check.
        if parent is None or parent[1] is not getattr(call, "parent", _NOTHING):
            return headers
        connection = pool.ConnectionCls
        if (
            type(pool)._new_conn not in self.makers
            or getattr(connection, "request", None) is not self._standing
            or getattr(connection, "endheaders", None) is not self.head_end.standing
            or not self.site.enabled
        ):
            return headers  # its class, or somebody's patch, has another way
        passing: Any = _passing.get(kind) or _passing_kind(kind)
        made = passing.__new__(passing)
        made._store = headers._store
        made.texts = call.parent, call.baggage
        return made

    def wrap(self, original: Any) -> Any:
        hand_over = self._hand_over

        def request(*args: Any, **kwargs: Any) -> Any:
            if type(kwargs.get("headers")) not in _ours:
                return original(*args, **kwargs)
            hand_over(args[0], kwargs)
            try:
                return original(*args, **kwargs)
            finally:
                args[0].__dict__.pop(_LINES, None)  # where it never came to the end of a head

        self._standing = disguise(request, original)
        return self._standing

    def _hand_over(self, connection: Any, kwargs: dict[str, Any]) -> None:
        """Have what a copy leaves out written by its connection; or put it in again, where that cannot be relied on."""
        try:
            headers = kwargs["headers"]
            if not hasattr(headers, "left_out"):  # for a tunnel, urllib3 2 makes no copy, and 1.26 makes one after this
                headers = kwargs["headers"] = headers.copy()
            store = headers._store
            if TRACEPARENT in store:  # changed meanwhile; or another call's, which sends again what this one has left
                return
            parent, baggage = headers.left_out
            if type(connection).endheaders is self.head_end.standing:
                lines = f"traceparent: {parent}" if baggage is None else f"traceparent: {parent}\r\nbaggage: {baggage}"
                connection.__dict__[_LINES] = lines.encode("latin-1", "replace")
                return
            store[TRACEPARENT] = TRACEPARENT, parent
            if baggage is not None:
                store.setdefault(BAGGAGE, (BAGGAGE, baggage))
        except Exception as error:
            self.site.failed(error)
