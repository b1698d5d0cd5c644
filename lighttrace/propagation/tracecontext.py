"""W3C trace context, levels 1 and 2: `traceparent` and `tracestate`."""

import re
from collections.abc import Sequence
from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator, default_getter, default_setter
from opentelemetry.trace import TraceState

from lighttrace.propagation.carrier import outgoing, values, with_parent

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

MOST_STATE_MEMBERS = 32
MOST_STATE_LENGTH = 8192
"""Longer states are refused as a whole; the specification asks for 512 characters, OpenTelemetry's API takes this many."""

# Measured: matching once and taking the groups is faster than slicing and checking each field.
_current = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch
_any_version = re.compile("([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch

# Level 2 lets a key begin with a digit; of its looser use of "@" the published tests refuse all but tenant@system.
_member = re.compile(
    r"([a-z0-9][_0-9a-z\-*/]{0,255}|[a-z0-9][_0-9a-z\-*/]{0,240}@[a-z][_0-9a-z\-*/]{0,13})"
    r"=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
).fullmatch


def parse_traceparent(value: str) -> tuple[int, int, int] | None:
    """Trace id, parent's span id and flags of a `traceparent` header; None where it is malformed. Never raises.

    Flags are `sampled` (1) and `random-trace-id` (2, level 2); the others are reserved and not handed on.

    >>> parse_traceparent("00-0000000000000000000000000000000a-000000000000000b-01")
    (10, 11, 1)
    >>> parse_traceparent("ff-0000000000000000000000000000000a-000000000000000b-01") is None
    True
    """
    try:
        match = _current(value)
    except TypeError:
        return None
    if match is None:
        return _parse_other(value)
    trace, span, flags = match.groups()
    trace_id = int(trace, 16)
    span_id = int(span, 16)
    if trace_id and span_id:
        return trace_id, span_id, int(flags, 16) & 3
    return None


def _parse_other(value: str) -> tuple[int, int, int] | None:
    """A header with blanks around it, or of a version to come: what this version knows of it, if a dash follows."""
    if len(value) > MOST_STATE_LENGTH:
        return None
    value = value.strip(" \t")
    match = _any_version(value[:55])
    if match is None:
        return None
    version, trace, span, flags = match.groups()
    if version == "ff" or (len(value) > 55 and (version == "00" or value[55] != "-")):
        return None
    trace_id = int(trace, 16)
    span_id = int(span, 16)
    if trace_id and span_id:
        # Of a future version only the sampled bit may be read.
        return trace_id, span_id, int(flags, 16) & (3 if version == "00" else 1)
    return None


def parse_tracestate(value: str | Sequence[str]) -> TraceState | None:
    """The `tracestate` of one header or of several, combined in order; None where it is empty or breaks a rule.

    One bad member, a key that comes twice or a 33rd member costs the whole state, never the `traceparent`.

    >>> parse_tracestate(["congo=t61rcWkgMzE", "fw529a3039@dt=x"]).to_header()
    'congo=t61rcWkgMzE,fw529a3039@dt=x'
    """
    if not isinstance(value, str):
        try:
            if len(value) > MOST_STATE_MEMBERS * 2:
                return None
            value = ",".join(value)
        except TypeError:
            return None
    if len(value) > MOST_STATE_LENGTH:
        return None
    members: dict[str, str] = {}
    for text in value.split(","):
        text = text.strip(" \t")
        if not text:
            continue
        match = _member(text)
        if match is None:
            return None
        key, item = match.groups()
        if key in members or len(members) == MOST_STATE_MEMBERS:
            return None
        members[key] = item
    if not members:
        return None
    state = TraceState()
    # The constructor would check all of it again, log, and refuse level 2's keys; `_dict` is what it fills, in every
    # version of opentelemetry-api from 1.0 to 1.45.
    state._dict = members
    return state


class W3CTraceContextPropagator(TextMapPropagator):
    """`traceparent` and `tracestate` behind OpenTelemetry's interface."""

    def extract(self, carrier: Any, context: Context | None = None, getter: Getter[Any] = default_getter) -> Context:
        """The context with the caller's span as parent; unchanged where the header is missing, malformed or comes twice."""
        if context is None:
            context = Context()
        headers = values(getter, carrier, TRACEPARENT)
        if len(headers) != 1:
            return context
        found = parse_traceparent(headers[0])
        if found is None:
            return context
        return with_parent(context, *found, parse_tracestate(values(getter, carrier, TRACESTATE)))

    def inject(self, carrier: Any, context: Context | None = None, setter: Setter[Any] = default_setter) -> None:
        """Write the current span of `context` into the carrier, if it is valid."""
        span = outgoing(context)
        if span is None:
            return
        setter.set(carrier, TRACEPARENT, f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags & 3:02x}")
        if span.trace_state:
            setter.set(carrier, TRACESTATE, span.trace_state.to_header())

    @property
    def fields(self) -> set[str]:
        """The headers that `inject` sets."""
        return {TRACEPARENT, TRACESTATE}
