"""Jaeger's own format: `uber-trace-id: {trace id}:{span id}:{parent's id}:{flags}`, and a `uberctx-*` header per baggage member."""

from typing import Any
from urllib.parse import quote, unquote

from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator, default_getter, default_setter

from lighttrace.propagation import baggage
from lighttrace.propagation.carrier import (
    MOST_BYTES,
    MOST_MEMBERS,
    first,
    identifier,
    is_debug,
    outgoing,
    spread_baggage,
    with_debug,
    with_parent,
)

TRACE_ID = "uber-trace-id"
BAGGAGE_PREFIX = "uberctx-"

_SAMPLED, _DEBUG = 1, 2
_TRACE_DIGITS = tuple(range(1, 33))  # leading zeros may be missing
_SPAN_DIGITS = tuple(range(1, 17))


class JaegerPropagator(TextMapPropagator):
    """Reads and writes `uber-trace-id` and `uberctx-*`."""

    def extract(self, carrier: Any, context: Context | None = None, getter: Getter[Any] = default_getter) -> Context:
        """The context with the caller's span as parent and its baggage; a malformed header gives no parent."""
        if context is None:
            context = Context()
        header = first(getter, carrier, TRACE_ID)
        if header is not None and len(header) <= 256:
            context = _with_parent(unquote(header) if "%" in header else header, context)
        members = {name: unquote(value) for name, value in spread_baggage(getter, carrier, BAGGAGE_PREFIX)}
        return baggage.with_all(members, context) if members else context

    def inject(self, carrier: Any, context: Context | None = None, setter: Setter[Any] = default_setter) -> None:
        """Write the current span of `context` into the carrier, if it is valid, and the baggage within W3C's limits."""
        span = outgoing(context)
        if span is None:
            return
        flags = _SAMPLED | _DEBUG if is_debug(context) else span.trace_flags & _SAMPLED
        # The parent's id is deprecated; 0 says nothing.
        setter.set(carrier, TRACE_ID, f"{span.trace_id:032x}:{span.span_id:016x}:0:{flags:02x}")
        room, left = MOST_BYTES, MOST_MEMBERS
        for name, value in baggage.leaving(context).items():
            text = quote(str(value), errors="replace")
            if left and len(name) + len(text) + 2 <= room and baggage.is_token(name):
                setter.set(carrier, BAGGAGE_PREFIX + name, text)
                left -= 1
                room -= len(name) + len(text) + 2

    @property
    def fields(self) -> set[str]:
        """The header that `inject` always sets; those of baggage bear its names."""
        return {TRACE_ID}


def _with_parent(header: str, context: Context) -> Context:
    fields = header.split(":", 4)
    if len(fields) != 4:
        return context
    trace_id = identifier(fields[0], _TRACE_DIGITS)
    span_id = identifier(fields[1], _SPAN_DIGITS)
    if not trace_id or not span_id or not 1 <= len(fields[3]) <= 2 or (fields[3].strip("0") and not identifier(fields[3])):
        return context
    flags = identifier(fields[3])
    made = with_parent(context, trace_id, span_id, 1 if flags & (_SAMPLED | _DEBUG) else 0)
    return with_debug(made) if flags & _DEBUG else made
