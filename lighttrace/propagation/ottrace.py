"""ot-trace, the format of OpenTracing's basic tracers and of Lightstep: `ot-tracer-*`, and an `ot-baggage-*` header per member.

Its ids have 64 bits. One that is read is padded on the left; of ours the lower half is written, so a trace that passes
through a service which speaks only this format goes on under that half.
"""

import re
from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator, default_getter, default_setter

from lighttrace.propagation import baggage
from lighttrace.propagation.carrier import MOST_BYTES, MOST_MEMBERS, first, identifier, outgoing, spread_baggage, with_parent

TRACE_ID = "ot-tracer-traceid"
SPAN_ID = "ot-tracer-spanid"
SAMPLED = "ot-tracer-sampled"
BAGGAGE_PREFIX = "ot-baggage-"

_LOWER_HALF = (1 << 64) - 1
_TRACE_DIGITS = tuple(range(1, 33))  # 128 bits are also seen
_SPAN_DIGITS = tuple(range(1, 17))
_STATES = {None: 1, "": 1, "true": 1, "1": 1, "false": 0, "0": 0}  # None: the decision is ours, see b3
_is_header_value = re.compile(r"[\t\x20-\x7e]*").fullmatch


class OTTracePropagator(TextMapPropagator):
    """Reads and writes `ot-tracer-traceid`, `ot-tracer-spanid`, `ot-tracer-sampled` and `ot-baggage-*`."""

    def extract(self, carrier: Any, context: Context | None = None, getter: Getter[Any] = default_getter) -> Context:
        """The context with the caller's span as parent and its baggage; without a valid parent, as it was."""
        if context is None:
            context = Context()
        trace_id = identifier(first(getter, carrier, TRACE_ID), _TRACE_DIGITS)
        if not trace_id:
            return context
        span_id = identifier(first(getter, carrier, SPAN_ID), _SPAN_DIGITS)
        state = first(getter, carrier, SAMPLED)
        sampled = _STATES.get(state.lower() if state else state)
        if not span_id or sampled is None:
            return context
        context = with_parent(context, trace_id, span_id, sampled)
        members = dict(spread_baggage(getter, carrier, BAGGAGE_PREFIX))
        return baggage.with_all(members, context) if members else context

    def inject(self, carrier: Any, context: Context | None = None, setter: Setter[Any] = default_setter) -> None:
        """Write the current span of `context` into the carrier, if it is valid, and baggage that a header can hold."""
        span = outgoing(context)
        if span is None:
            return
        setter.set(carrier, TRACE_ID, f"{span.trace_id & _LOWER_HALF:016x}")
        setter.set(carrier, SPAN_ID, f"{span.span_id:016x}")
        setter.set(carrier, SAMPLED, "true" if span.trace_flags & 1 else "false")
        room, left = MOST_BYTES, MOST_MEMBERS
        for name, value in baggage.leaving(context).items():
            text = str(value)
            size = len(name) + len(text) + 2
            if left and size <= room and baggage.is_token(name) and _is_header_value(text):
                setter.set(carrier, BAGGAGE_PREFIX + name, text)
                left -= 1
                room -= size

    @property
    def fields(self) -> set[str]:
        """The headers that `inject` always sets; those of baggage bear its names."""
        return {TRACE_ID, SPAN_ID, SAMPLED}
