"""Where a client library keeps the headers of a request, and how ours get in and out again.

A client library's case-insensitive mapping spends a microsecond and more on each look-up, and we would make five per
call. So `StoredHeaders` and `RawHeaders` speak to the structure behind it, and all of them add what a call carries in one
step. Names are lower case. Headers are only ever added: one that the caller set stays as it is.
"""

from operator import itemgetter
from typing import Any

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
BAGGAGE = "baggage"

_NONE: tuple[str, ...] = ()
PARENT = (TRACEPARENT,)
BOTH = (TRACEPARENT, BAGGAGE)


class Headers:
    """One request on its way: its headers, in any mutable mapping of names to values, and what the engine notes of it.

    Its span knows it until it returns (`Span._call`), so that the next attempt finds the one before. One object for all of
    that, and made without an `__init__`: a second one would cost each call what two headers cost. Where even one is too many,
    the span knows what it would be made of (`noted_call`).
    """

    __slots__ = ("_headers", "added", "resent", "span", "token")

    _headers: Any
    span: Any  # Span or UnsampledSpan
    token: Any
    added: tuple[str, ...]  # the headers to be taken out again
    resent: int  # how many times so far; not there before the first

    def carry(self, parent: str, state: str | None, baggage: str | None) -> tuple[str, ...]:
        """Add the headers of the W3C; gives the names of those added, for `withdraw`. None where the caller has a parent there."""
        if TRACEPARENT in self:
            return _NONE
        self[TRACEPARENT] = parent
        added: tuple[str, ...] = PARENT
        if state is not None and TRACESTATE not in self:
            self[TRACESTATE] = state
            added = (TRACEPARENT, TRACESTATE)
        if baggage is not None and BAGGAGE not in self:
            self[BAGGAGE] = baggage
            added = (*added, BAGGAGE)
        return added

    def withdraw(self, added: tuple[str, ...]) -> None:
        """Take the added headers out again, so that a request object sent twice does not carry its first span's id."""
        for name in added:
            self.pop(name)

    def __contains__(self, name: str) -> bool:
        return name in self._headers

    def __setitem__(self, name: str, value: str) -> None:
        self._headers[name] = value

    def pop(self, name: str, default: Any = None) -> Any:
        """Take a header out."""
        return self._headers.pop(name, default)

    def get(self, name: str) -> Any:
        """A header's value, or a list of its values; None where it is not there."""
        return self._headers.get(name)


def noted_call(span: Any, form: type[Headers], headers: Any, added: tuple[str, ...]) -> Headers:
    """The object for a call whose span was only told what it would be made of; known to the span from now on."""
    call = span._call = form()
    call._headers, call.span, call.added = headers, span, added
    return call


class StoredHeaders(Headers):
    """Over `requests.structures.CaseInsensitiveDict`: lower-case name to (name, value)."""

    __slots__ = ()

    def carry(self, parent: str, state: str | None, baggage: str | None) -> tuple[str, ...]:
        """See `Headers.carry`; flat, because nearly every call comes this way."""
        store = self._headers._store
        if state is not None or TRACEPARENT in store or BAGGAGE in store:
            return Headers.carry(self, parent, state, baggage)
        store[TRACEPARENT] = TRACEPARENT, parent
        if baggage is None:
            return PARENT
        store[BAGGAGE] = BAGGAGE, baggage
        return BOTH

    def withdraw(self, added: tuple[str, ...]) -> None:
        store = self._headers._store
        if added is BOTH:
            try:
                del store[TRACEPARENT], store[BAGGAGE]
                return
            except KeyError:  # the program took one of them out
                pass
        for name in added:
            store.pop(name, None)

    def __contains__(self, name: str) -> bool:
        return name in self._headers._store

    def __setitem__(self, name: str, value: str) -> None:
        self._headers._store[name] = (name, value)

    def pop(self, name: str, default: Any = None) -> Any:
        return self._headers._store.pop(name, default)

    def get(self, name: str) -> str | None:
        found = self._headers._store.get(name.lower())
        return found[1] if found is not None else None


lower_name = itemgetter(1)
"""The name in an entry of the list behind `httpx.Headers`."""


_RAW_PARENT, _RAW_BAGGAGE = TRACEPARENT.encode(), BAGGAGE.encode()
are_new = frozenset({_RAW_PARENT, TRACESTATE.encode(), _RAW_BAGGAGE}).isdisjoint
"""Whether headers of ours are not among those names yet."""


class RawHeaders(Headers):
    """Over `httpx.Headers`: a list of (name as written, lower-case name, value), in bytes."""

    __slots__ = ()

    def carry(self, parent: str, state: str | None, baggage: str | None) -> tuple[str, ...]:
        """See `Headers.carry`; flat, because nearly every call comes this way."""
        headers = self._headers._list
        if state is not None or not are_new(map(lower_name, headers)):
            return Headers.carry(self, parent, state, baggage)
        headers.append((_RAW_PARENT, _RAW_PARENT, parent.encode()))
        if baggage is None:
            return PARENT
        headers.append((_RAW_BAGGAGE, _RAW_BAGGAGE, baggage.encode("latin-1", "replace")))
        return BOTH

    def withdraw(self, added: tuple[str, ...]) -> None:
        headers = self._headers._list
        if added is BOTH and headers[-1][1] is _RAW_BAGGAGE and headers[-2][1] is _RAW_PARENT:
            del headers[-2:]
        else:
            Headers.withdraw(self, added)

    def __contains__(self, name: str) -> bool:
        return name.encode() in map(lower_name, self._headers._list)

    def __setitem__(self, name: str, value: str) -> None:
        key = name.encode()
        self._headers._list.append((key, key, value.encode("latin-1", "replace")))

    def pop(self, name: str, default: Any = None) -> Any:
        wanted = name.encode()
        headers = self._headers._list
        for index in range(len(headers) - 1, -1, -1):
            if headers[index][1] == wanted:
                return headers.pop(index)
        return default

    def get(self, name: str) -> list[str] | None:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for _, lower, value in self._headers._list if lower == wanted] or None


class Copied(dict[str, str]):
    """A plain dict of headers, which finds a name in any spelling."""

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or any(key.lower() == name for key in self)

    def get(self, name: str, default: Any = None) -> Any:
        """The value under `name`, in any spelling."""
        found = super().get(name)
        return found if found is not None else next((value for key, value in self.items() if key.lower() == name), default)


def copy_of(headers: Any) -> Any:
    """A copy of a caller's headers, for ours to be added to."""
    return Copied(headers) if type(headers) is dict else headers.copy()
