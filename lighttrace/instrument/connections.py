"""Headers of a call through requests, which go on through urllib3 to http.client, written where the head of the request ends.

Each header costs the last two microseconds: it is copied, lower-cased, compared, checked against patterns and encoded. Ours are
known to be well-formed, and mean nothing to either of them. So what urllib3 gets is a mapping that is the request's own in
every way, but that copies of it, one of which urllib3 sends, leave ours out, and know what is to be written for them.

That is done only where everything on the way is as the libraries have made it. Whoever has a class or a wrapper of his own there
may look at the headers, copy or rebuild them, and finds them as they always were.
"""

import sys
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from lighttrace import guard
from lighttrace.instrument.call import disguise
from lighttrace.instrument.carriers import BAGGAGE, TRACEPARENT, StoredHeaders
from lighttrace.instrument.patching import Patch

_lines: dict[int, bytes] = {}
"""By the id() of a connection that is sending: what is to be written for it. Bound to that, nobody else's request can get it.

Neither its attributes nor a pool's are asked for as a dict: from then on the interpreter has a slower way to all of them.
"""

_of_pool = attrgetter("_get_conn", "_new_conn", "_make_request")  # private, and the same in urllib3 2.0 to 2.8
_function = attrgetter("__func__")
_of_connection = attrgetter("request", "putrequest", "putheader", "endheaders")
_of_base = attrgetter("putrequest", "putheader", "endheaders")
_NOTHING = (None, None)

_passing: dict[type, type] = {}
"""By the class of a request's headers: that of what urllib3 gets."""
_kinds: set[type] = set()
"""Those classes, and those of their copies. A copy that leaves ours out has `left_out`, the two texts."""


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
            if store.pop(TRACEPARENT, _NOTHING)[1] is not parent or (
                baggage is not None and store.pop(BAGGAGE, _NOTHING)[1] is not baggage
            ):  # somebody has changed them meanwhile
                return super().copy()
            made = Short.__new__(Short)
            made._store = store
            made.left_out = texts
            return made

    for made in (Short, Passing):
        made.__name__, made.__qualname__, made.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    _kinds.update((Short, Passing))
    _passing[kind] = Passing
    return Passing


def _is_of(function: Any, module: str) -> bool:
    """Whether that module has made a function, rather than somebody who has wrapped it and copied its name."""
    return getattr(function, "__globals__", {}).get("__name__") == module


def _are_of(functions: Iterable[Any], module: str, *seams: Any) -> bool:
    return all(function in seams or _is_of(function, module) for function in functions)


class HeadEndPatch(Patch):
    """The seam at which http.client ends a head: `HTTPConnection.endheaders`.

    The connection has a private list, `_buffer`, of the lines so far, in bytes.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.ready = False  # whether it can be relied on
        self.standing: Any = None

    @property
    def owner(self) -> Any:
        """The class below those of all connections."""
        return sys.modules[self.module].HTTPConnection

    def wrap(self, original: Any) -> Any:
        def endheaders(connection: Any, *args: Any, **kwargs: Any) -> Any:
            if _lines:
                try:
                    lines = _lines.pop(id(connection), None)
                    if lines is not None:
                        connection._buffer.append(lines)
                except Exception as error:
                    self.site.failed(error)
                    self._give_up()
            return original(connection, *args, **kwargs)

        self.ready = _is_of(original, self.module)
        self.standing = disguise(endheaders, original)
        return self.standing

    def undo(self) -> None:
        self.ready = False
        super().undo()

    def _give_up(self) -> None:
        self.ready = False
        guard.count("propagation.head_missed")
        guard.log(
            f"heads.{self.target}",
            f"{self.integration}: a request went out without its trace headers, because {self.target} writes otherwise; requests "
            "carry them in the library's own headers from now on",
        )


class ConnectionPatch(Patch):
    """The seam at which a connection sends a request: `request` of the classes of connections that pools of urllib3 make."""

    def __init__(self, target: str, head_end: HeadEndPatch, pools: tuple[Any, ...]) -> None:
        """`pools` are the library's own classes of pools; none where it has other ways to send than by this target."""
        super().__init__(target)
        self.head_end = head_end
        self.pools = pools
        self.urlopen: Any = None  # what stands below the function by which requests enter
        self._original: Any = None
        self._standing: Any = None
        self._as_made: dict[Any, tuple[Any, ...]] | None = None  # by class, what a request passes in it; not known yet

    def apply(self) -> bool:
        self._as_made = None
        return super().apply()

    def _learn(self) -> dict[Any, tuple[Any, ...]]:
        """Look, once all seams are there, whether what a request passes is as its library has made it."""
        known: dict[Any, tuple[Any, ...]] = {}
        self._as_made = known
        base = self.head_end.owner
        if not (_is_of(self._original, self.module) and _are_of(_of_base(base), self.head_end.module, self.head_end.standing)):
            return known
        for pool in self.pools:
            connection = pool.ConnectionCls
            entered, sent = _of_pool(pool), _of_connection(connection)
            if (
                _are_of((self.urlopen, *entered), pool.__module__)
                and _are_of(sent, self.module, self._standing, self.head_end.standing)
            ):  # fmt: skip
                known |= {base: _of_base(base), pool: entered, connection: sent}
        return known

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
        known = self._as_made
        if known is None:
            known = self._learn()
        entered = known.get(type(pool))
        if entered is None or not self.head_end.ready or not self.site.enabled:
            return headers
        connection, base = pool.ConnectionCls, self.head_end.owner
        try:
            steps = tuple(map(_function, _of_pool(pool)))
        except AttributeError:  # this pool has a function of its own
            return headers
        if steps != entered or _of_connection(connection) != known.get(connection) or _of_base(base) != known[base]:
            return headers
        passing: Any = _passing.get(kind) or _passing_kind(kind)
        made = passing.__new__(passing)
        made._store = headers._store
        made.texts = call.parent, call.baggage
        return made

    def wrap(self, original: Any) -> Any:
        hand_over = self._hand_over

        def request(*args: Any, **kwargs: Any) -> Any:
            if type(kwargs.get("headers")) not in _kinds:
                return original(*args, **kwargs)
            hand_over(args[0], kwargs)
            try:
                return original(*args, **kwargs)
            finally:
                _lines.pop(id(args[0]), None)  # where it never came to the end of a head

        self._original = original
        self._standing = disguise(request, original)
        return self._standing

    def _hand_over(self, connection: Any, kwargs: dict[str, Any]) -> None:
        """Have what a copy leaves out written by its connection; or put it in again, where that can no longer be relied on."""
        try:
            headers = kwargs["headers"]
            if not hasattr(headers, "left_out"):  # for a tunnel, urllib3 makes no copy
                headers = kwargs["headers"] = headers.copy()
            store = headers._store
            parent, baggage = getattr(headers, "left_out", _NOTHING)
            if (
                parent is None or TRACEPARENT in store
            ):  # changed meanwhile; or another call's, which sends again what this one has left
                return
            if self.head_end.ready:
                lines = f"traceparent: {parent}" if baggage is None else f"traceparent: {parent}\r\nbaggage: {baggage}"
                _lines[id(connection)] = lines.encode("latin-1", "replace")
                return
            store[TRACEPARENT] = TRACEPARENT, parent
            if baggage is not None:
                store.setdefault(BAGGAGE, (BAGGAGE, baggage))
        except Exception as error:
            self.site.failed(error)
