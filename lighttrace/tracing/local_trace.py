"""What the spans of one trace in this process share."""

from typing import Any

from opentelemetry.trace import SpanContext
from opentelemetry.trace.span import TraceState

from lighttrace.tracing.owner import Owner

SAMPLED, RANDOM = 1, 2
"""Trace flags (W3C trace context, level 2)."""


class LocalTrace:
    """What all spans of one trace in this process share: made once per local root, referenced by each span."""

    __slots__ = ("far", "fate", "flags", "header", "id_bytes", "trace_id")

    fate: Any  # whether it is kept (`keeping.Fate`), or the trace that this was made from; not there until somebody asks

    trace_id: int
    id_bytes: bytes  # the same
    flags: int
    header: str | None  # "00-<trace id>-", made when the first header is written
    far: "Far | None"

    def handing_down(self, inherited: Owner) -> "LocalTrace":
        """The same trace for spans that carry these attributes, while those outside go on without them."""
        made = local_trace(self.trace_id, self.flags, self.state, self.remote)
        made.header, made.inherited, made.fate = self.header, inherited, self
        return made

    def parent_prefix(self) -> str:
        """The traceparent header up to the span's id."""
        header = self.header = f"00-{self.id_bytes.hex()}-"
        return header

    @property
    def state(self) -> TraceState | None:
        """The tracestate that came with the trace."""
        return self.far.state if self.far is not None else None

    @property
    def remote(self) -> SpanContext | None:
        """The parent in another process, if there is one."""
        return self.far.remote if self.far is not None else None

    @property
    def inherited(self) -> Owner | None:
        """Attributes from baggage that every span below carries."""
        return self.far.inherited if self.far is not None else None

    @inherited.setter
    def inherited(self, inherited: Owner | None) -> None:
        if self.far is None:
            if inherited is None:
                return
            self.far = Far(None, None)
        self.far.inherited = inherited


def local_trace(trace_id: int, flags: int, state: TraceState | None = None, remote: SpanContext | None = None) -> LocalTrace:
    """A trace as this process knows it. Not the class's own doing: without an `__init__` it is made in three quarters of the time."""
    made = LocalTrace()
    made.trace_id = trace_id
    made.flags = flags
    made.id_bytes = trace_id.to_bytes(16, "big")
    made.header = None
    made.far = Far(state, remote) if state or remote is not None else None
    return made


class Far:
    """What a trace has that came from another process, or is to be told to one: most have nothing."""

    __slots__ = ("inherited", "remote", "state")

    def __init__(self, state: TraceState | None, remote: SpanContext | None) -> None:
        self.state = state
        self.remote = remote
        self.inherited: Owner | None = None
