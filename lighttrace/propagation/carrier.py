"""What the formats share: reading a carrier, strict hexadecimal ids, the remote parent, baggage spread over headers."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, get_current_span, set_span_in_context

MOST_VALUES = 256
"""How many values of one header are looked at: more than any honest caller sends."""

MOST_MEMBERS = 64
MOST_BYTES = 8192
"""W3C baggage's limits, for every format that carries baggage."""

DEBUG_KEY = "lighttrace-debug-trace"
"""Set in a context whose caller asked for a debug trace, so that B3 and Jaeger hand the wish on."""

_is_hex = re.compile("[0-9a-fA-F]{1,32}").fullmatch


def values(getter: Getter[Any], carrier: Any, key: str) -> list[str]:
    """The strings that a carrier holds under `key`, none if it has none. A getter may give a list, a string or None."""
    found: Any = getter.get(carrier, key)
    if not found:
        return []
    if isinstance(found, str):
        return [found]
    if not isinstance(found, Iterable):
        return []
    return [value for value in islice(found, MOST_VALUES) if isinstance(value, str)]


def first(getter: Getter[Any], carrier: Any, key: str) -> str | None:
    """The first string under `key`, without blanks around it, or None."""
    found = values(getter, carrier, key)
    return found[0].strip(" \t") if found else None


def identifier(text: str | None, digits: tuple[int, ...] | None = None) -> int:
    """A hexadecimal id, padded on the left if it is short; 0 for what is not one.

    `int(text, 16)` would also take underscores, signs, blanks and the digits of every script.

    >>> identifier("64fe8b2a57d3eff7") == 0x64fe8b2a57d3eff7, identifier("1_0"), identifier("-1")
    (True, 0, 0)
    """
    if text is None or (digits is not None and len(text) not in digits) or _is_hex(text) is None:
        return 0
    return int(text, 16)


def with_parent(context: Context, trace_id: int, span_id: int, flags: int, state: TraceState | None = None) -> Context:
    """`context` with a span of another process as the current one."""
    parent = SpanContext(trace_id, span_id, True, TraceFlags(flags), state)
    return set_span_in_context(NonRecordingSpan(parent), context)


def outgoing(context: Context | None) -> SpanContext | None:
    """What to send: the current span's context, if it is valid."""
    found = get_current_span(context).get_span_context()
    return found if found.is_valid else None


def is_debug(context: Context | None) -> bool:
    """Whether the caller asked for a debug trace."""
    from opentelemetry.context import get_value

    return get_value(DEBUG_KEY, context) is True


def with_debug(context: Context) -> Context:
    """`context`, marked as belonging to a debug trace."""
    made = Context(context)
    dict.__setitem__(made, DEBUG_KEY, True)  # Context forbids it only to those who share the object
    return made


def spread_baggage(getter: Getter[Any], carrier: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Baggage that comes as a header per member, within the limits: (name, value as it was sent)."""
    room = MOST_BYTES
    members = 0
    key: Any
    for key in getter.keys(carrier):
        if not isinstance(key, str) or key[: len(prefix)].lower() != prefix or len(key) == len(prefix):
            continue
        value = first(getter, carrier, key)
        if value is None:
            continue
        size = len(key) - len(prefix) + len(value) + 2
        if size > room:
            continue
        room -= size
        members += 1
        yield key[len(prefix) :], value
        if members == MOST_MEMBERS:
            return
