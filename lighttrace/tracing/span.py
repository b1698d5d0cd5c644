"""The span: one object with slots that the program fills and the encoder reads.

Everything on the way between is left out. Ids are integers until the encoder packs them, the `SpanContext` that
OpenTelemetry's API promises is made when somebody asks for it, and what few spans have (events, links, a status
message, counts of what was dropped) lives in a `Rare` that few spans make.
"""

from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace.span import TraceState

from lighttrace import guard, semconv
from lighttrace.tracing import errors
from lighttrace.tracing.context import bare
from lighttrace.tracing.ids import getrandbits, new_span_id, new_trace_id
from lighttrace.tracing.local_trace import RANDOM, LocalTrace, agreed, local_trace
from lighttrace.tracing.owner import Owner, owner
from lighttrace.tracing.readable import ReadableMixin
from lighttrace.tracing.settling import settled
from lighttrace.tracing.shared import MIXED, NOTHING, NOTHING_OWN, Shared
from lighttrace.tracing.values import exportable, is_plain, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lighttrace.tracing.tracer import Tracer

UNSET, OK, ERROR = 0, 1, 2
EMPTY_STATE = TraceState()


class Rare:
    """What few spans have."""

    __slots__ = ("dropped_attributes", "dropped_events", "dropped_links", "events", "links", "message", "on_error")

    def __init__(self) -> None:
        self.events: list[tuple[str, int, dict[str, Any], int]] = []  # name, time, attributes, dropped attributes
        self.links: list[tuple[SpanContext, dict[str, Any], int]] = []
        self.message: str | None = None
        self.dropped_attributes = 0
        self.dropped_events = 0
        self.dropped_links = 0
        self.on_error: tuple[bool, bool] | None = None  # where the caller said it: record exceptions, set the status


class Span(ReadableMixin):
    """A recording span. Made by `Tracer`; implements `opentelemetry.trace.Span` and reads like the SDK's span.

    The slots are read by the encoder and by processors in this package; to programs they are private.
    """

    __slots__ = (
        "__weakref__",
        "_call",  # what a protocol's code notes of the request that it is for (`carriers`, `wsgi`, `asgi`); else None
        "_end",  # ns since the epoch; 0 while open
        "_head",  # of a request whose headers go another way: what is to be written (`heads.LateHeaders`); else None, or not there
        "_kind",  # SpanKind
        "_local",  # LocalTrace, or None: nobody has asked for it yet
        "_name",
        "_open",  # there until ended: deleting it is the one atomic test-and-set that costs nothing
        "_own",  # dict owned by this span: its attributes beside those in `_shared`; or NOTHING_OWN (see `said`)
        "_owner",  # Owner
        "_parent_id",  # int, 0 for a root
        "_path",  # of a request that comes in: its path, a str; it counts while `_own` is NOTHING_OWN. Else None
        "_query",  # the same for its query; None where it has none
        "_rare",  # Rare or None
        "_root",  # of a span whose `_local` is None, and which is sampled and a root then: the id of its trace; else not there
        "_shared",  # Shared: attributes that other spans have, too
        "_span_id",  # int
        "_start",  # ns since the epoch
        "_status",  # UNSET, OK or ERROR
        "_tracer",  # Tracer: instrumentation scope and pipeline
    )

    _name: str
    _kind: SpanKind
    _local: LocalTrace | None
    _root: int
    _tracer: "Tracer"
    _own: dict[str, Any]
    _owner: Owner
    _rare: Rare | None
    _start: int
    _end: int
    _span_id: int
    _parent_id: int
    _path: str | None
    _query: str | None
    _status: int
    _shared: Shared
    _open: object
    _call: Any
    _head: Any

    # -- the API ------------------------------------------------------------------------------------------------

    def get_span_context(self) -> SpanContext:
        """The ids, flags and state that identify this span to others."""
        trace = self._trace
        return SpanContext(trace.trace_id, self._span_id, False, TraceFlags(trace.flags), trace.state)

    def is_recording(self) -> bool:
        """True until the span has ended."""
        return not self._end

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute. Any value is taken: what OTLP has no form for becomes text; None says nothing and is left out."""
        if self._end:
            return self._late("set_attribute")
        kind = type(value)
        attributes = self._own if not self._shared.attributes else self._attributes
        limits = self._tracer.pipeline.limits
        if not (
            (kind is str and limits.attribute_length is None)
            or (kind is int and -0x8000000000000000 <= value < 0x8000000000000000)
        ):
            value = exportable(value, limits.attribute_length)
            if value is None:
                return
            if type(value) is not str and type(value) is not int:
                self._shared = MIXED
        if type(key) is not str or not key:
            key = text_of(key)
            if not key:
                return guard.count("attributes.empty_key")
        if len(attributes) >= limits.attributes and key not in attributes:
            self.rare().dropped_attributes += 1
            return
        attributes[key] = value

    def set_attributes(self, attributes: "Mapping[str, Any]") -> None:
        """Set several attributes."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name: str, attributes: "Mapping[str, Any] | None" = None, timestamp: int | None = None) -> None:
        """Record that something happened at `timestamp` (nanoseconds since the epoch; now if left out)."""
        if self._end:
            return self._late("add_event")
        limits = self._tracer.pipeline.limits
        rare = self.rare()
        kept, dropped = limits.clean(attributes, limits.event_attributes)
        if len(rare.events) >= limits.events:
            rare.dropped_events += 1
            if not limits.events:
                return
            del rare.events[0]
        rare.events.append((text_of(name), time_ns() if timestamp is None else timestamp, kept, dropped))

    def add_link(self, context: SpanContext | None, attributes: "Mapping[str, Any] | None" = None) -> None:
        """Point at another span, in this trace or another, that this one has to do with."""
        if context is None or not (context.is_valid or attributes or context.trace_state):
            return
        if self._end:
            return self._late("add_link")
        limits = self._tracer.pipeline.limits
        rare = self.rare()
        kept, dropped = limits.clean(attributes, limits.link_attributes)
        if len(rare.links) >= limits.links:
            rare.dropped_links += 1
            if not limits.links:
                return
            del rare.links[0]
        rare.links.append((context, kept, dropped))

    def update_name(self, name: str) -> None:
        """Replace the span's name."""
        if self._end:
            return self._late("update_name")
        self._name = text_of(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the outcome. OK is final; UNSET never replaces anything (OpenTelemetry's rules)."""
        if self._end:
            return self._late("set_status")
        if isinstance(status, Status):
            code, description = status.status_code.value, status.description
        else:
            code = status.value
        if self._status == OK or code == UNSET:
            return
        self._status = code
        if code == ERROR and description:
            self.rare().message = str(description)
        elif self._rare is not None:
            self._rare.message = None

    def record_exception(
        self,
        exception: BaseException,
        attributes: "Mapping[str, Any] | None" = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Record an exception as an event, with its type, message and stack trace, and the line of the user's own code."""
        if self._end:
            return self._late("record_exception")
        errors.record(self, exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:
        """End the span at `end_time` (nanoseconds since the epoch; now if left out) and hand it to the exporter."""
        try:
            del self._open
        except AttributeError:
            return self._late("end")
        pipeline = self._tracer.pipeline
        queue = pipeline.queue
        if queue is None:
            pipeline.ending(self, end_time)
            return
        now = time_ns() if end_time is None else end_time
        # A wall clock that was set back must not make a span of negative length.
        start = self._start
        self._end = now if now > start else (start or 1)
        # What its `put` does: every span pays for a step into it.
        pending = queue.pending
        pending.append(self)
        if len(pending) >= queue.wake_at:
            queue.attend()

    def __enter__(self) -> "Span":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is not None and not self._end:
            told = self._rare.on_error if self._rare is not None else None
            if told is None:
                errors.fail(self, error)
            else:
                errors.fail(self, error, record=told[0], status=told[1])
        self.end()

    # -- beyond the API -----------------------------------------------------------------------------------------

    @property
    def _trace(self) -> LocalTrace:
        """What the span shares with others of its trace, made if need be."""
        local = self._local
        return local if local is not None else agreed(self)

    @property
    def _trace_id(self) -> int:
        """The trace's id."""
        local = self._local
        return local.trace_id if local is not None else self._root

    @property
    def _inherited(self) -> Owner | None:
        """Attributes from baggage that the span carries."""
        local = self._local
        return local.inherited if local is not None else None

    @property
    def _attributes(self) -> dict[str, Any]:
        """All attributes, made the span's own: to be looked at, and to be set, by whoever is not in a hurry."""
        own, shared = self.own(), self._shared.attributes
        if shared:
            for key, value in shared.items():
                own.setdefault(key, value)
            self._shared = NOTHING
        return own

    @_attributes.setter
    def _attributes(self, attributes: "Mapping[str, Any]") -> None:
        # Programs written for the SDK put a mapping of their own there (see `Pipeline.ending`).
        self._own = dict(attributes)
        self._shared = NOTHING

    @property
    def team(self) -> str | None:
        """The team that owns this span."""
        return self._owner.team

    def set_team(self, team: str) -> None:
        """Give this span to `team`, whatever the rules say."""
        if not self._end:
            self._owner = owner(team, "span")

    def set(self, **attributes: Any) -> "Span":
        """Set several attributes by keyword and give the span back."""
        for key, value in attributes.items():
            self.set_attribute(key, value)
        return self

    def own(self) -> dict[str, Any]:
        """Its own attributes, to be added to: made on first use, where it was started without."""
        own = self._own
        return own if own is not NOTHING_OWN else settled(self, "_own", dict(self.said()), NOTHING_OWN)

    def said(self) -> "Mapping[str, Any]":
        """Its own attributes, to be read. The path and the query of a request stand on the span, each for itself, until somebody asks.

        A dict for the two of them would be all that a request leaves behind for the garbage collector to look at.
        """
        own, path = self._own, self._path
        if own is not NOTHING_OWN or path is None:
            return own
        return {semconv.URL_PATH: path} if self._query is None else {semconv.URL_PATH: path, semconv.URL_QUERY: self._query}

    def rare(self) -> Rare:
        """The part that few spans have, made on first use."""
        rare = self._rare
        if rare is None:
            rare = self._rare = Rare()
        return rare

    def _late(self, what: str) -> None:
        guard.count(f"span.{what}_after_end")

    def __repr__(self) -> str:
        return f"<Span {self._name!r} trace={self._trace_id:032x} span={self._span_id:016x} team={self._owner.team}>"


class UnsampledSpan:
    """A span that is not recorded: it carries the trace on, and everything said to it is forgotten.

    Its ids are made when somebody asks, which for most of them never happens. To `isinstance` it is the API's
    `NonRecordingSpan`, as from the SDK: there is nothing on it to read.
    """

    # What is not known yet is not there: by `__getattr__`, each attribute that is would cost as much as a function.
    __slots__ = ("__weakref__", "_call", "_head", "_known_id", "_known_trace", "_owner", "_root")

    _end = 1  # for code that asks a span whether it still records
    _kind = SpanKind.INTERNAL
    _known_id: int
    _known_trace: LocalTrace
    _owner: Owner
    _root: int  # the id of a trace that begins here, where the decision needed it
    _call: Any
    _head: Any

    @property
    def _trace(self) -> LocalTrace:
        try:
            return self._known_trace
        except AttributeError:  # it begins here
            root: int = getattr(self, "_root", 0) or getrandbits(128) or new_trace_id()
            return settled(self, "_known_trace", local_trace(root, RANDOM))  # type: ignore[no-any-return]  # what went in

    @property
    def _span_id(self) -> int:
        try:
            return self._known_id
        except AttributeError:
            return settled(self, "_known_id", new_span_id())  # type: ignore[no-any-return]  # what went in

    @property
    def _local(self) -> LocalTrace:
        return self._trace  # for whoever does not ask which kind of span it is

    @property  # type: ignore[misc]  # `__class__` is what isinstance asks after the type itself
    def __class__(self) -> Any:
        return NonRecordingSpan

    def get_span_context(self) -> SpanContext:
        trace = self._trace
        return SpanContext(trace.trace_id, self._span_id, False, TraceFlags(trace.flags), trace.state)

    def is_recording(self) -> bool:
        return False

    def _forget(self, *args: Any, **kwargs: Any) -> None:
        return None

    set_attribute = set_attributes = add_event = add_link = update_name = set_status = record_exception = end = set_team = _forget

    def set(self, **attributes: Any) -> "UnsampledSpan":
        return self

    @property
    def team(self) -> str | None:
        return self._owner.team

    def __enter__(self) -> "UnsampledSpan":
        return self

    def __exit__(self, *args: Any) -> None:
        return None


def unsampled_span(trace: LocalTrace, owner: Owner) -> UnsampledSpan:
    """One in a trace that there is already."""
    made = UnsampledSpan()
    made._known_trace = trace
    made._owner = owner
    return made


bare.update((Span, UnsampledSpan))

# Registered, not derived: the API's base class has no slots, and each span would drag a dictionary along.
ApiSpan.register(Span)
ApiSpan.register(UnsampledSpan)

__all__ = ["ERROR", "OK", "UNSET", "Rare", "Span", "UnsampledSpan", "getrandbits", "is_plain", "unsampled_span"]
