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
_INT64 = 1 << 63


def exportable(value: Any, limit: int | None = None, depth: int = 0) -> Any:
    """`value` as bool, int, float, str, bytes, a tuple or a dict of these; None where it says nothing.

    `limit` cuts strings (characters) and bytes. Never raises: what cannot even be turned into text becomes the name of
    its type.

    >>> from decimal import Decimal
    >>> exportable(Decimal("1.5")), exportable([1, "a", None]), exportable({"a": {1}})
    ('1.5', (1, 'a', None), {'a': (1,)})
    """
    kind = type(value)
    if kind is str:
        return value if limit is None or len(value) <= limit else value[:limit]
    if kind is int:
        return value if -_INT64 <= value < _INT64 else str(value)
    if kind is bool or kind is float or value is None:
        return value
    try:
        return _convert(value, limit, depth)
    except Exception:
        guard.count("attributes.unconvertible")
        return f"<{kind.__module__}.{kind.__qualname__}>"


def _convert(value: Any, limit: int | None, depth: int) -> Any:
    import enum
    from collections.abc import Mapping, Sequence, Set

    if isinstance(value, enum.Enum):
        # An enum that is also a str or an int is meant as that value; a plain one is best known by its name.
        return exportable(value.value if isinstance(value, str | int | float) else f"{type(value).__name__}.{value.name}", limit, depth)
    for base in (str, bool, int, float):
        if isinstance(value, base):
            # A subclass may carry anything along; the plain value is all that may be kept.
            plain = str.__str__(value) if base is str else base(value)
            return exportable(plain, limit, depth)
    if isinstance(value, bytes | bytearray | memoryview):
        raw = bytes(value)
        return raw if limit is None else raw[:limit]
    if depth < _DEPTH and isinstance(value, Mapping):
        return {str(key): exportable(item, limit, depth + 1) for key, item in list(value.items())[:_ITEMS]}
    if depth < _DEPTH and isinstance(value, Sequence | Set):
        return tuple(exportable(item, limit, depth + 1) for item in list(value)[:_ITEMS])
    if depth < _DEPTH and hasattr(value, "tolist") and hasattr(value, "dtype"):  # numpy, without importing it
        return exportable(value.tolist(), limit, depth + 1)
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return exportable(str(text), limit, depth)


def is_plain(values: Any) -> bool:
    """Whether all of them are exactly `str` or `int`: one pass in C."""
    return PLAIN.issuperset(map(type, values))
