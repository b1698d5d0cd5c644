"""Carrying the trace across a process boundary: W3C headers by hand, any other format through OpenTelemetry's propagators.

Headers are only ever added. One that the caller set stays as it is, and so does the mapping that the caller holds.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.context.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from lighttrace import semconv
from lighttrace.instrument.carriers import Headers
from lighttrace.instrument.engine import state
from lighttrace.propagation import baggage, parse_traceparent, parse_tracestate
from lighttrace.tracing.context import HANDED_KEY, SPAN_KEY, context_of
from lighttrace.tracing.owner import Owner
from lighttrace.tracing.span import Span, UnsampledSpan
from lighttrace.tracing.transaction import handed_down

if TYPE_CHECKING:
    from opentelemetry.trace.span import TraceState

textmap: Any = None
"""The propagator to use when W3C alone is not what the program asked for; set by the runtime, None for the fast path."""

own: Any = None
"""The propagator that the program gets from `opentelemetry.propagate` unless it chooses another."""
watched: Any = {"": None}
"""The namespace of `opentelemetry.propagate`, once the program has imported it; until then our own of the same shape."""
place = ""
"""The variable in there that holds the global propagator."""
plain: Any = None
"""What it holds, `watched[place]`, as long as W3C's headers by hand are all that is wanted: one question for each request."""


def use(propagator: Any, *, fast: bool) -> None:
    """Propagate with `propagator`; `fast` when it is W3C trace context and baggage, which is then written by hand."""
    global textmap, own, plain
    textmap = None if fast else propagator
    own = propagator
    plain = propagator if fast else object()  # nothing is that
    if not place:
        watched[place] = propagator


def watch(module: Any) -> None:
    """Make ours the global propagator of `opentelemetry.propagate`, and heed it when the program chooses another."""
    global watched, place
    module.set_global_textmap(own)
    space = vars(module)
    # The variable behind `get_global_textmap`, before 1.40 and since: where it is called otherwise, the function is asked.
    found = next((name for name in ("_HTTP_TEXT_FORMAT", "propagator") if space.get(name) is own), "?")
    if not place:
        watched[found] = own  # for whoever has read the one and not the other yet: both cannot be exchanged at once
    place = found
    watched = space if found != "?" else _Asked(module)


def as_it_is() -> tuple[Any, ...]:
    """How things are propagated now, for `back_to`."""
    return textmap, own, watched, place, plain


def back_to(before: tuple[Any, ...]) -> None:
    """Propagate as at the time of `as_it_is`."""
    global textmap, own, watched, place, plain
    textmap, own, watched, place, plain = before


class _Asked:
    """`opentelemetry.propagate`, should it keep its propagator elsewhere one day."""

    __slots__ = ("_module",)

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getitem__(self, name: str) -> Any:
        return self._module.get_global_textmap()


def chosen() -> Any:
    """The propagator that must be asked, or None while W3C by hand will do. A program may set another at any time."""
    found = watched[place]
    return textmap if found is own else found


_FLAGS = [f"-{flags:02x}" for flags in range(256)]
"""How a traceparent ends."""


def inject(span: Span | UnsampledSpan, context: Context | None, headers: Headers, internal: bool) -> tuple[str, ...]:
    """Add the headers for a call made under `span` in `context`; gives the names of those added, for `Headers.withdraw`.

    `context` is None where there was nothing in it but a span. `internal` says whether the other side may learn who calls: our baggage leaves only toward hosts of the company.
    """
    if watched[place] is not plain:
        return _inject_with(chosen(), span, Context() if context is None else context, headers, internal)
    if context is None:  # no baggage of the program's own
        try:
            text = state.caller[span._owner.team] if internal else None
        except KeyError:
            text = caller_of(span._owner.team)
    else:
        text = outgoing_baggage(span, context, internal)
    trace = span._local
    if trace is None:
        # A sampled root, its id random. `hex` takes two thirds of the time that `%032x` takes.
        parent = f"00-{span._root.to_bytes(16, 'big').hex()}-{span._span_id.to_bytes(8, 'big').hex()}-03"
        return headers.carry(parent, None, text)
    prefix = trace.header
    if prefix is None:
        prefix = trace.header = f"00-{trace.id_bytes.hex()}-"
    parent = f"{prefix}{span._span_id.to_bytes(8, 'big').hex()}{_FLAGS[trace.flags]}"
    far = trace.far
    return headers.carry(parent, far.state.to_header() if far is not None and far.state else None, text)


def caller_of(team: str | None) -> str:
    """The baggage that says who calls; made once per team."""
    if len(state.caller) > 1000:
        state.caller.clear()
    text = state.caller[team] = baggage.format_ours(_caller(team))
    return text


def outgoing_baggage(span: Span | UnsampledSpan, context: Context, internal: bool) -> str | None:
    """The baggage header: what the program put into its baggage, and, among ourselves, who calls and on whose behalf.

    None where there is nothing.
    """
    theirs = baggage.get_all(context)
    if not theirs:
        return (state.caller.get(span._owner.team) or caller_of(span._owner.team)) if internal else None
    kept = baggage.foreign(theirs)
    text = baggage.format(kept) if kept else ""
    if internal:
        text = baggage.joined(text, _ours(span._owner.team, theirs.get(semconv.TRANSACTION), theirs.get(semconv.CUSTOMER)))
    return text or None


def _ours(team: str | None, transaction: object, customer: object) -> str:
    """Our members as one text, made once for each of the few that a service sends."""
    if transaction is None and customer is None:
        return state.caller.get(team) or caller_of(team)
    try:
        text = state.caller.get((team, transaction, customer))
    except TypeError:  # something of the program's own that has no hash
        transaction, customer = baggage.clipped(transaction or ""), baggage.clipped(customer or "")
        text = None
    if text is None:
        if len(state.caller) > 1000:
            state.caller.clear()
        text = baggage.format_ours({**_caller(team), semconv.TRANSACTION: transaction, semconv.CUSTOMER: customer})
        state.caller[team, transaction, customer] = text
    return text


def _caller(team: str | None) -> dict[str, str]:
    members = {semconv.CALLER_SERVICE: baggage.clipped(state.service)}
    if team:
        members[semconv.CALLER_TEAM] = baggage.clipped(team)
    return members


def for_propagator(context: Context, team: str | None, *, internal: bool) -> Context:
    """`context` as a propagator of OpenTelemetry's kind may write it: with our members, rewritten for this hop, or without."""
    if not internal:
        return baggage.without_ours(context)
    members = baggage.get_all(context)
    ours = {name: text for name in (semconv.TRANSACTION, semconv.CUSTOMER) if (text := baggage.clipped(members.get(name) or ""))}
    made = baggage.with_all({**_caller(team), **ours}, baggage.without_ours(context))
    dict.__setitem__(made, baggage.ALLOWED_KEY, True)
    return made


def believed(context: Context) -> Context:
    """A context that came from outside, with what of its baggage this service believes and hands down to its spans."""
    members = baggage.get_all(context)
    if baggage.foreign(members) is members:
        return context
    if state.edge:
        return baggage.without_ours(context)
    made = Context(context)
    dict.__setitem__(made, HANDED_KEY, handed_down(members))
    return made


def read_caller(parent: str | None, tracestate: Any, carried: Any) -> "tuple[Any, TraceState | None, Owner | None] | None":
    """What W3C headers say of the caller, for `Tracer.start_entry`, where it is no more than its span and whose it is.

    That is what one service of ours tells another with each request. None where there is more, or no parent: `extract` then
    makes a context of it. The headers are given as for that.
    """
    if parent is None:
        return None
    found = parse_traceparent(parent)
    if found is None:
        return None
    inherited = None
    if carried:
        if type(carried) is not str:
            if len(carried) != 1:
                return None
            carried = carried[0]
        inherited = state.told.get(carried)
        if inherited is None:
            inherited = _learn(carried)
        if inherited is _MORE:
            return None
        if inherited is _NOTHING:
            inherited = None
    return found, parse_tracestate(tracestate) if tracestate else None, inherited


_MORE, _NOTHING = Owner(None, "more"), Owner(None, "nothing")


def _learn(carried: str) -> Owner:
    """What baggage says of the caller, for every span of the request; `_MORE` if it says something else, too."""
    told = state.told
    members: Mapping[str, object] = baggage.parse(carried)
    if state.edge:
        members = baggage.foreign(members)
    found = (handed_down(members) or _NOTHING) if _CALLER.issuperset(members) else _MORE
    if len(carried) <= _SHORT:
        told[carried] = found
    return found


_CALLER = frozenset({semconv.CALLER_SERVICE, semconv.CALLER_TEAM})
_SHORT = 512


def extract(context: Any, parent: str | None, tracestate: Any, carried: Any) -> tuple[Context, Mapping[str, Any] | None]:
    """The context that W3C headers describe, on top of `context`, and the baggage that came along, if any is to be believed.

    `tracestate` and `carried` are header values: a string, or a list of them where a header came several times.
    """
    context = context_of(context)
    if parent is not None:
        found = parse_traceparent(parent)
        if found is not None:
            trace_id, span_id, flags = found
            remote = SpanContext(trace_id, span_id, True, TraceFlags(flags), parse_tracestate(tracestate) if tracestate else None)
            context = Context(context)
            dict.__setitem__(context, SPAN_KEY, NonRecordingSpan(remote))
    if carried:
        members: Mapping[str, object] = baggage.parse(carried)
        if state.edge:
            members = baggage.foreign(members)
        if members:
            return baggage.with_all(members, context), members
    return context, None


def extract_with(
    propagator: Any, headers: Mapping[str, Any], getter: Any, context: Any
) -> tuple[Context, Mapping[str, Any] | None]:
    """The same through a propagator of OpenTelemetry's kind."""
    made = propagator.extract(headers, context=context_of(context), getter=getter)
    if state.edge:
        made = baggage.without_ours(made)
    return made, baggage.get_all(made) or None


class _Additive:
    """Sets a header only if nobody has."""

    def __init__(self) -> None:
        self.added: list[str] = []

    def set(self, carrier: Headers, key: str, value: str) -> None:
        if key not in carrier:
            carrier[key] = value
            self.added.append(key)


def _inject_with(
    propagator: Any, span: Span | UnsampledSpan, context: Context, headers: Headers, internal: bool
) -> tuple[str, ...]:
    made = Context(for_propagator(context, span._owner.team, internal=internal))
    dict.__setitem__(made, SPAN_KEY, span)
    setter = _Additive()
    propagator.inject(headers, context=made, setter=setter)
    return tuple(setter.added)
