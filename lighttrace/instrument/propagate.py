"""Carrying the trace across a process boundary: W3C headers by hand, any other format through OpenTelemetry's propagators.

Headers are only ever added. One that the caller set stays as it is, and so does the mapping that the caller holds.
"""

import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from lighttrace import semconv
from lighttrace.instrument.engine import state
from lighttrace.propagation import baggage, parse_traceparent, parse_tracestate
from lighttrace.tracing.context import SPAN_KEY
from lighttrace.tracing.span import Span, UnsampledSpan

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
BAGGAGE = "baggage"

textmap: Any = None
"""The propagator to use when W3C alone is not what the program asked for; set by the runtime, None for the fast path."""

_own: Any = None


def use(propagator: Any, *, fast: bool) -> None:
    """Propagate with `propagator`; `fast` when it is W3C trace context and baggage, which is then written by hand."""
    global textmap, _own
    textmap = None if fast else propagator
    _own = propagator


def _chosen() -> Any:
    """The propagator that must be asked, or None while ours will do. A program may set another at any time."""
    module = sys.modules.get("opentelemetry.propagate")
    if module is not None:
        current = module.get_global_textmap()
        if current is not _own:
            return current
    return textmap


def traceparent(span: Span | UnsampledSpan) -> str:
    """The W3C header for a call made under `span`."""
    trace = span._trace
    return f"{trace.header or trace.parent_prefix()}{span._span_id:016x}-{trace.flags:02x}"


def inject(span: Span | UnsampledSpan, context: Context, headers: MutableMapping[str, str], internal: bool) -> tuple[str, ...]:
    """Add the headers for a call made under `span`; gives the names of those added, for `withdraw`.

    `internal` says whether the other side may learn who calls: our baggage leaves only toward hosts of the company.
    """
    chosen = _chosen()
    if chosen is not None:
        return _inject_with(chosen, span, context, headers)
    if TRACEPARENT in headers:
        return ()
    trace = span._trace
    headers[TRACEPARENT] = f"{trace.header or trace.parent_prefix()}{span._span_id:016x}-{trace.flags:02x}"
    added: tuple[str, ...] = _ONE
    if trace.state:
        headers[TRACESTATE] = trace.state.to_header()
        added = (TRACEPARENT, TRACESTATE)
    if (internal or len(context) > 1 or SPAN_KEY not in context) and BAGGAGE not in headers:
        text = outgoing_baggage(span, context, internal)
        if text:
            headers[BAGGAGE] = text
            added = (*added, BAGGAGE)
    return added


_ONE = (TRACEPARENT,)


def withdraw(headers: MutableMapping[str, str], added: tuple[str, ...]) -> None:
    """Take the added headers out again, so that a request object sent twice does not carry its first span's id."""
    for name in added:
        headers.pop(name, None)


def outgoing_baggage(span: Span | UnsampledSpan, context: Context, internal: bool) -> str:
    """The baggage header: what the program put into its baggage, and, among ourselves, who calls."""
    theirs = baggage.get_all(context) if len(context) > 1 or SPAN_KEY not in context else {}
    if not internal:
        kept = {name: value for name, value in theirs.items() if name not in baggage.OURS}
        return baggage.format(kept) if kept else ""
    if not theirs:
        team = span._owner.team
        text = state.caller.get(team)
        if text is None:
            if len(state.caller) > 1000:
                state.caller.clear()
            text = state.caller[team] = baggage.format(_caller(team))
        return text
    return baggage.format({**theirs, **_caller(span._owner.team)})


def _caller(team: str | None) -> dict[str, str]:
    members = {semconv.CALLER_SERVICE: state.service[:64]}
    if team:
        members[semconv.CALLER_TEAM] = team[:64]
    return members


def extract(context: Context, parent: str | None, tracestate: Any, carried: Any) -> tuple[Context, Mapping[str, Any] | None]:
    """The context that W3C headers describe, on top of `context`, and the baggage that came along.

    `tracestate` and `carried` are header values: a string, or a list of them where a header came several times.
    """
    if parent is not None:
        found = parse_traceparent(parent)
        if found is not None:
            trace_id, span_id, flags = found
            remote = SpanContext(trace_id, span_id, True, TraceFlags(flags), parse_tracestate(tracestate) if tracestate else None)
            context = Context(context)
            dict.__setitem__(context, SPAN_KEY, NonRecordingSpan(remote))
    if carried:
        members = baggage.parse(carried)
        if members:
            return baggage.with_all(members, context), members
    return context, None


def extract_with(
    propagator: Any, headers: Mapping[str, Any], getter: Any, context: Context
) -> tuple[Context, Mapping[str, Any] | None]:
    """The same through a propagator of OpenTelemetry's kind."""
    made = propagator.extract(headers, context=context, getter=getter)
    return made, baggage.get_all(made) or None


def chosen() -> Any:
    """The propagator that must be asked to read headers, or None while W3C read by hand will do."""
    return _chosen()


class _Additive:
    """Sets a header only if nobody has."""

    def __init__(self) -> None:
        self.added: list[str] = []

    def set(self, carrier: MutableMapping[str, str], key: str, value: str) -> None:
        if key not in carrier:
            carrier[key] = value
            self.added.append(key)


def _inject_with(
    propagator: Any, span: Span | UnsampledSpan, context: Context, headers: MutableMapping[str, str]
) -> tuple[str, ...]:
    made = Context(context)
    dict.__setitem__(made, SPAN_KEY, span)
    setter = _Additive()
    propagator.inject(headers, context=made, setter=setter)
    return tuple(setter.added)
