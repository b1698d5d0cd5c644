"""B3, Zipkin's format, in one header (`b3`) and in several (`x-b3-*`). Both are read, whichever is written.

No sampling state means that the decision is left to us, which a W3C flag cannot say: the trace is then recorded, unless
the sampler thinks otherwise. A debug trace is sampled, and the wish is handed on.
"""

from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator, default_getter, default_setter

from lighttrace.propagation.carrier import first, identifier, is_debug, outgoing, with_debug, with_parent

SINGLE = "b3"
TRACE_ID = "x-b3-traceid"
SPAN_ID = "x-b3-spanid"
SAMPLED = "x-b3-sampled"
FLAGS = "x-b3-flags"

_STATES = {None: 1, "": 1, "1": 1, "true": 1, "d": 1, "0": 0, "false": 0}
_TRACE_DIGITS = (32, 16)
_SPAN_DIGITS = (16,)


def _read_single(text: str, context: Context) -> Context | None:
    fields = text.split("-", 4) if len(text) <= 128 else []
    if not 2 <= len(fields) <= 4 or (len(fields) == 4 and not identifier(fields[3], _SPAN_DIGITS)):
        return None
    state = fields[2] if len(fields) > 2 else None
    return _parent(context, fields[0], fields[1], state, state == "d")


def _parent(context: Context, trace: str | None, span: str | None, state: str | None, debug: bool) -> Context | None:
    trace_id = identifier(trace, _TRACE_DIGITS)
    span_id = identifier(span, _SPAN_DIGITS)
    sampled = 1 if debug else _STATES.get(state.lower() if state else state)
    if not trace_id or not span_id or sampled is None:
        return None
    made = with_parent(context, trace_id, span_id, sampled)
    return with_debug(made) if debug else made


class B3SingleFormat(TextMapPropagator):
    """Writes the one header `b3: {trace id}-{span id}-{state}`."""

    def extract(self, carrier: Any, context: Context | None = None, getter: Getter[Any] = default_getter) -> Context:
        """The context with the caller's span as parent: from `b3`, else from `x-b3-*`."""
        if context is None:
            context = Context()
        single = first(getter, carrier, SINGLE)
        made = _read_single(single, context) if single else None
        if made is None:
            trace = first(getter, carrier, TRACE_ID)
            if trace is None:
                return context
            debug = first(getter, carrier, FLAGS) == "1"
            made = _parent(context, trace, first(getter, carrier, SPAN_ID), first(getter, carrier, SAMPLED), debug)
        return context if made is None else made

    def inject(self, carrier: Any, context: Context | None = None, setter: Setter[Any] = default_setter) -> None:
        """Write the current span of `context` into the carrier, if it is valid."""
        span = outgoing(context)
        if span is not None:
            state = "d" if is_debug(context) else "1" if span.trace_flags & 1 else "0"
            setter.set(carrier, SINGLE, f"{span.trace_id:032x}-{span.span_id:016x}-{state}")

    @property
    def fields(self) -> set[str]:
        """The header that `inject` sets."""
        return {SINGLE}


class B3MultiFormat(B3SingleFormat):
    """Writes `x-b3-traceid`, `x-b3-spanid` and `x-b3-sampled`, or `x-b3-flags` for a debug trace."""

    def inject(self, carrier: Any, context: Context | None = None, setter: Setter[Any] = default_setter) -> None:
        """Write the current span of `context` into the carrier, if it is valid."""
        span = outgoing(context)
        if span is None:
            return
        setter.set(carrier, TRACE_ID, f"{span.trace_id:032x}")
        setter.set(carrier, SPAN_ID, f"{span.span_id:016x}")
        if is_debug(context):
            setter.set(carrier, FLAGS, "1")
        else:
            setter.set(carrier, SAMPLED, "1" if span.trace_flags & 1 else "0")

    @property
    def fields(self) -> set[str]:
        """The headers that `inject` sets."""
        return {TRACE_ID, SPAN_ID, SAMPLED, FLAGS}
