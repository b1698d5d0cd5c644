"""What the spans of one trace in this process share."""

from typing import Any

from opentelemetry.trace import SpanContext, TraceFlags
from opentelemetry.trace.span import TraceState

from lighttrace.tracing.owner import Owner

SAMPLED, RANDOM = 1, 2
"""Trace flags (W3C trace context, level 2)."""


class LocalTrace:
    """What all spans of one trace in this process share: made once per local root, referenced by each span.

    A root that nobody asks for it, most of all one without children, never has one (see `agreed`).
    """

    __slots__ = ("far", "fate", "flags", "header", "id_bytes", "trace_id")

    fate: Any  # whether it is kept (`keeping.Fate`), or the trace that this was made from; not there until somebody asks

    trace_id: int
    id_bytes: bytes  # the same
    flags: int
    header: str | None  # the traceparent up to the span's id, made when the first header is written
    far: "Far | None"

    def handing_down(self, inherited: Owner) -> "LocalTrace":
        """The same trace for spans that carry these attributes, while those outside go on without them."""
        made = local_trace(self.trace_id, self.flags, self.state, self.remote)
        made.header, made.inherited, made.fate = self.header, inherited, self
        return made

    @property
    def state(self) -> TraceState | None:
        """The tracestate that came with the trace."""
        return self.far.state if self.far is not None else None

    @property
    def remote(self) -> SpanContext | None:
        """The parent in another process, if there is one."""
        far = self.far
        if far is None or not far.parent_id:
            return None
        if far.parent is None:
            far.parent = SpanContext(self.trace_id, far.parent_id, True, TraceFlags(far.parent_flags), far.state)
        return far.parent

    def entered_by(self, parent_id: int) -> bool:
        """Whether `parent_id`, a span's parent, is the span in another process that the trace came from."""
        return self.far is not None and parent_id == self.far.parent_id != 0

    @property
    def inherited(self) -> Owner | None:
        """Attributes from baggage that every span below carries."""
        return self.far.inherited if self.far is not None else None

    @inherited.setter
    def inherited(self, inherited: Owner | None) -> None:
        if self.far is None:
            if inherited is None:
                return
            self.far = far_of(None, None)
        self.far.inherited = inherited


def local_trace(trace_id: int, flags: int, state: TraceState | None = None, remote: SpanContext | None = None) -> LocalTrace:
    """A trace as this process knows it. Not the class's own doing: without an `__init__` it is made in three quarters of the time."""
    made = LocalTrace()
    made.trace_id = trace_id
    made.flags = flags
    made.id_bytes = trace_id.to_bytes(16, "big")
    made.header = None
    made.far = far_of(state, remote) if state or remote is not None else None
    return made


_making: dict[int, LocalTrace] = {}


def agreed(span: Any) -> LocalTrace:
    """The trace of a root that has none yet: its children share it, also where two threads start the first ones at once.

    Without a lock, which a signal's handler or a fork might find taken: of several that were made, all take the one that came
    first into the dict. Who finds it gone from there again finds it on the span.
    """
    number = span._span_id
    try:
        made = _making.setdefault(number, local_trace(span._root, RANDOM | SAMPLED))
        there: LocalTrace | None = span._local
        if there is None:
            span._local = there = made
    finally:
        _making.pop(number, None)
    return there


class Far:
    """What a trace has that came from another process, or is to be told to one: most have nothing."""

    __slots__ = ("inherited", "is_remote", "parent", "parent_flags", "parent_id", "state")

    state: TraceState | None
    inherited: Owner | None
    parent_id: int  # of the span that the trace came from; 0 if there is none
    parent_flags: int
    is_remote: bool  # whether that span is in another process: it may be one of another tracer in this one
    parent: SpanContext | None  # the same; made when somebody asks


def far_of(state: TraceState | None, parent: SpanContext | None) -> Far:
    """What is known of where a trace came from."""
    made = Far()
    made.state = state
    made.inherited = None
    made.parent = parent
    if parent is None:
        made.parent_id = made.parent_flags = 0
        made.is_remote = False
    else:
        made.parent_id, made.parent_flags, made.is_remote = parent.span_id, parent.trace_flags, parent.is_remote
    return made
