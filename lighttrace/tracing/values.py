"""Attribute values at the boundary: whatever a program hands over becomes something that can be exported.

Strings and whole numbers, which nearly all attributes are, pass untouched. Everything else is turned into one of the
kinds that OTLP knows (bool, float, bytes, list, map) at the moment it is set, because a list may change afterwards and
an object may pin a request. What OpenTelemetry accepts keeps its meaning; what it would refuse becomes text.
"""

from typing import Any

from lighttrace import guard

PLAIN = frozenset({str, int})
"""Types that can be cached and encoded as they are. Not bool and float: `1 == True == 1.0` would share a cache entry."""

SCALARS = frozenset({str, int, bool, float})

_DEPTH = 8  # maps within maps beyond this become text
_ITEMS = 1000  # items of one list or map
_TOTAL = 10_000  # items of one value, however they are nested
_INT64 = 1 << 63


def exportable(value: Any, limit: int | None = None) -> Any:
    """`value` as bool, int, float, str, bytes, a tuple or a dict of these; None where it says nothing.

    `limit` cuts strings (characters) and bytes. Never raises: what cannot even be turned into text becomes the name of
    its type. Collections beyond a thousand items, or ten thousand in all, are cut.

    >>> from decimal import Decimal
    >>> exportable(Decimal("1.5")), exportable([1, "a", None]), exportable({"a": {1}})
    ('1.5', (1, 'a', None), {'a': (1,)})
    """
    kind = type(value)
    if kind is str:
        return value if limit is None or len(value) <= limit else value[:limit]
    if kind is bool or kind is float or value is None or (kind is int and -_INT64 <= value < _INT64):
        return value
    return _Conversion(limit).convert(value, 0)


class _Conversion:
    """One value on its way, and how many more items it may have."""

    __slots__ = ("left", "limit")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.left = _TOTAL

    def convert(self, value: Any, depth: int) -> Any:
        self.left -= 1
        try:
            return self._convert(value, depth)
        except Exception:
            guard.count("attributes.unconvertible")
            kind = type(value)
            return self._text(f"<{kind.__module__}.{kind.__qualname__}>")

    def _convert(self, value: Any, depth: int) -> Any:
        import enum
        from collections.abc import Mapping, Sequence, Set
        from itertools import islice

        if value is None:
            return None
        if isinstance(value, enum.Enum):
            # An enum that is also a str or an int is meant as that value; a plain one is best known by its name.
            value = value.value if isinstance(value, str | int | float) else f"{type(value).__name__}.{value.name}"
        # Of a subclass, which may carry anything along, only the plain value may be kept.
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, bool | float):
            return float.__float__(value) if isinstance(value, float) else value
        if isinstance(value, int):
            plain = int.__int__(value)
            return plain if -_INT64 <= plain < _INT64 else self._text(str(plain))
        if isinstance(value, bytes | bytearray | memoryview):
            raw = bytes(value)
            return raw if self.limit is None else raw[: self.limit]
        if depth < _DEPTH:
            room = min(_ITEMS, max(self.left, 0))
            if isinstance(value, Mapping):
                pairs = list(islice(value.items(), room))
                return {self._text(str(key)): self.convert(item, depth + 1) for key, item in pairs if self.left > 0}
            if isinstance(value, Sequence | Set):
                return tuple([self.convert(item, depth + 1) for item in islice(value, room) if self.left > 0])
            if hasattr(value, "tolist") and hasattr(value, "dtype"):  # numpy, without importing it
                return self.convert(value.tolist(), depth + 1)
        elif isinstance(value, Mapping | Sequence | Set):
            return self._text(f"<{type(value).__qualname__}>")  # not its text, which would go all the way down
        return self._text(str(value.isoformat() if hasattr(value, "isoformat") else value))

    def _text(self, text: str) -> str:
        return text if self.limit is None or len(text) <= self.limit else text[: self.limit]


def text_of(value: Any) -> str:
    """`str(value)` of whatever a program gives for a name or a key; the name of its type where even that fails.

    >>> text_of(404)
    '404'
    """
    if type(value) is str:
        return value
    try:
        return str.__str__(str(value))
    except Exception:
        guard.count("attributes.unconvertible")
        kind = type(value)
        return f"<{kind.__module__}.{kind.__qualname__}>"


def is_plain(values: Any) -> bool:
    """Whether all of them are exactly `str` or `int`: one pass in C."""
    return PLAIN.issuperset(map(type, values))
