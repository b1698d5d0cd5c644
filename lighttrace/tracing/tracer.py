"""The tracer: where spans begin.

`start` is the one place that makes a span. It is written flat, because every microsecond here is paid by every span of
every program: one look at the context, one allocation, and stores.
"""

from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.context.context import Context
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.trace import Tracer as ApiTracer

from lighttrace import guard
from lighttrace.tracing.context import HANDED_KEY, LINK_KEY, SPAN_KEY, TEAM_KEY, context_of, read_current
from lighttrace.tracing.extras import Extras, ruled
from lighttrace.tracing.ids import getrandbits, new_span_id, new_trace_id
from lighttrace.tracing.local_trace import RANDOM, SAMPLED, Far, LocalTrace, local_trace
from lighttrace.tracing.owner import Owner
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.sampling import LOW_BITS
from lighttrace.tracing.scope import Options, RootScope, SpanScope
from lighttrace.tracing.shared import MIXED, NOTHING, Shared
from lighttrace.tracing.span import Span, UnsampledSpan, unsampled_span
from lighttrace.tracing.spare import fresh, spare, take
from lighttrace.tracing.values import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.trace import Link
    from opentelemetry.trace.span import TraceState

INTERNAL = SpanKind.INTERNAL
SERVER, CLIENT, PRODUCER = SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER
_put = dict.__setitem__


class Tracer(ApiTracer):
    """Makes the spans of one instrumentation scope. Get one with `opentelemetry.trace.get_tracer`."""

    __slots__ = (
        "_only_recording",
        "_sdk_scope",
        "covers",
        "encoded",
        "pipeline",
        "schema_url",
        "scope_attributes",
        "scope_name",
        "scope_version",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: "Mapping[str, Any] | None" = None,
    ) -> None:
        self.pipeline = pipeline
        self.scope_name = name
        self.scope_version = version
        self.schema_url = schema_url
        self.scope_attributes = dict(attributes) if attributes else None
        self.encoded: Any = None  # the encoder's note of this scope
        # Whether a client span of this scope stands for everything below it: a driver under an ORM makes no second span.
        self.covers = isinstance(name, str) and name.startswith("opentelemetry.instrumentation.")
        self._sdk_scope: Any = None
        self._only_recording: Tracer | None = None

    # -- the engine's way in ------------------------------------------------------------------------------------

    def start(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Any],
        context: Any = None,
        code_owner: Owner | None = None,
        shared: Shared = NOTHING,
        extras: "Extras | None" = None,
    ) -> Span | UnsampledSpan:
        """Start a span that takes `attributes` over: a dict that nobody else holds, its values already exportable. It may
        be NOTHING_OWN beside some that are shared.

        `context` is a context, or a span of ours that stands for one, as in `current`. `shared` is what the span has beside
        them, or says that not each of the values is exactly a str or an int. `code_owner` is who owns the code that the span
        is about, where that is known. `extras` is what few spans are started with.

        What nearly every span is comes first: a child of a span of ours, or a root that is surely recorded, with nobody
        else to be asked. All others are started by `_start_with_care`, which decides the same and more.
        """
        pipeline = self.pipeline
        if context is None:
            context = read_current()
        if context:
            alone = type(context) is Span
            parent: Any = context if alone else context.get(SPAN_KEY) if type(context) is Context else context
            if type(parent) is not Span or not pipeline.direct or extras is not None or (parent._end and parent._kind is SERVER):
                return self._start_with_care(name, kind, attributes, context, code_owner, shared, extras)
            trace = parent._local or parent._trace
            parent_id = parent._span_id
            who = parent._owner.child if code_owner is None else code_owner
            if not alone and len(context) > 1:
                who = context.get(TEAM_KEY, who)
                handed: Any = context.get(HANDED_KEY)
                if handed is not None and handed is not trace.inherited:
                    trace = trace.handing_down(handed)
        elif pipeline.direct and extras is None:
            trace_id = getrandbits(128) or new_trace_id()
            if not pipeline.keeps_roots and trace_id & LOW_BITS >= pipeline.native.bound:  # type: ignore[union-attr]  # `direct`
                unsampled = UnsampledSpan()
                unsampled._root = trace_id
                unsampled._owner = pipeline.default_owner
                return unsampled
            span = self.start_root(name, kind, attributes, shared, trace_id)
            if code_owner is not None:
                span._owner = code_owner
            return span
        else:
            return self._start_with_care(name, kind, attributes, context, code_owner, shared, extras)
        try:
            span = take() if spare else fresh()
        except IndexError:  # another thread took the last one
            span = fresh()
        span._tracer = self
        span._name = name
        span._kind = kind
        span._local = trace
        span._parent_id = parent_id
        span._owner = who
        span._own = attributes
        span._shared = shared
        span._end = 0
        span._span_id = getrandbits(64) or new_span_id()
        span._start = time_ns()
        span._open = shared  # last: whoever ends what is open must not find one half made
        return span

    def start_root(
        self, name: str, kind: SpanKind, attributes: dict[str, Any], shared: Shared = NOTHING, trace_id: int = 0
    ) -> Span:
        """Start the first span of a trace that is surely recorded (`Pipeline.keeps_roots`), where nobody is to be asked."""
        if not trace_id:
            trace_id = getrandbits(128) or new_trace_id()
        try:
            span = take() if spare else fresh()
        except IndexError:  # another thread took the last one
            span = fresh()
        span._tracer = self
        span._name = name
        span._kind = kind
        span._root = trace_id
        span._owner = self.pipeline.default_owner
        span._own = attributes
        span._shared = shared
        span._end = 0
        span._span_id = getrandbits(64) or new_span_id()
        span._start = time_ns()
        span._open = shared
        return span

    def start_entry(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Any],
        shared: Shared,
        caller: tuple[int, int, int],
        state: "TraceState | None",
        inherited: Owner | None,
    ) -> Span | UnsampledSpan:
        """Start the first span here of a trace that began elsewhere, where `Pipeline.direct`: nobody is to be asked.

        `caller` is what its traceparent says: the trace's id, the calling span's, and the flags. The same as with a
        context that holds them, without making one.
        """
        trace_id, parent_id, flags = caller
        pipeline = self.pipeline
        trace = LocalTrace()
        trace.trace_id = trace_id
        trace.id_bytes = trace_id.to_bytes(16, "big")
        trace.header = None
        trace.far = far = Far()
        far.state = state
        far.inherited = inherited
        far.parent_id = parent_id
        far.parent_flags = flags
        far.is_remote = True
        far.parent = None
        if not pipeline.native.samples(trace_id, flags):  # type: ignore[union-attr]  # `direct`
            trace.flags = flags & RANDOM
            return unsampled_span(trace, pipeline.default_owner)
        trace.flags = flags | SAMPLED
        owner = pipeline.default_owner
        return self._make(name, kind, attributes, shared, trace, parent_id, owner, getrandbits(64) or new_span_id())

    def _start_with_care(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Any],
        context: Any,
        code_owner: Owner | None,
        shared: Shared,
        extras: "Extras | None",
    ) -> Span | UnsampledSpan:
        """Start any span: below another process's, unsampled, by the program's own sampler, ids, rules or processors."""
        pipeline = self.pipeline
        context = context_of(context)
        if shared.attributes:  # samplers, rules and processors look at them
            attributes = {**shared.attributes, **attributes}
            shared = NOTHING
        parent: Any = context.get(SPAN_KEY)
        cls = type(parent)
        if cls is Span:
            trace = parent._trace
            parent_id = parent._span_id
            who = parent._owner.child
            if parent._end and parent._kind is SERVER:
                # The request is over: what goes on after it is a trace of its own, linked to it.
                return self._start_after(parent, name, kind, attributes, context, code_owner, shared, extras)
        elif parent is None:
            trace = self._new_trace(context)
            parent_id = 0
            who = pipeline.default_owner
        elif issubclass(cls, UnsampledSpan):
            trace = parent._trace
            parent_id = 0 if pipeline.native is not None else parent._span_id
            who = parent._owner
        else:
            trace, parent_id = self._adopt(parent, context)
            who = pipeline.default_owner
        if code_owner is not None:
            who = code_owner
        if pipeline.rules is not None:
            who = ruled(pipeline.rules, name, kind, attributes) or who
        scoped: Any = context.get(TEAM_KEY, who)
        who = scoped
        handed: Any = context.get(HANDED_KEY)
        if handed is not None and handed is not trace.inherited:
            if cls is Span or issubclass(cls, UnsampledSpan):
                trace = trace.handing_down(handed)
            else:  # it has just been made
                trace.inherited = handed
        if pipeline.native is None:
            return self._ask(name, kind, attributes, shared, context, trace, parent_id, who, extras)
        if not trace.flags & SAMPLED:
            return unsampled_span(trace, who)
        span_id = pipeline.id_generator.generate_span_id() if pipeline.id_generator is not None else new_span_id()
        span = self._make(name, kind, attributes, shared, trace, parent_id, who, span_id)
        link: Any = context.get(LINK_KEY) if parent is None else None
        if link is not None:
            span.add_link(link)
        if extras is not None:
            extras.apply(span)
        if pipeline.processors:
            pipeline.started(span, context)
        return span

    def _make(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Any],
        shared: Shared,
        trace: LocalTrace,
        parent_id: int,
        who: Owner,
        span_id: int,
    ) -> Span:
        try:
            span = take() if spare else fresh()
        except IndexError:  # another thread took the last one
            span = fresh()
        span._tracer = self
        span._name = name
        span._kind = kind
        span._local = trace
        span._parent_id = parent_id
        span._owner = who
        span._own = attributes
        span._shared = shared
        span._end = 0
        span._start = time_ns()
        span._span_id = span_id
        span._open = shared
        return span

    def _start_after(
        self,
        ended: Span,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Any],
        context: Context,
        code_owner: Owner | None,
        shared: Shared,
        extras: "Extras | None",
    ) -> Span | UnsampledSpan:
        """Start the root of a new trace, linked to the request that caused it and answered before it was done."""
        made = Context({key: value for key, value in context.items() if key != SPAN_KEY})
        _put(made, LINK_KEY, ended.get_span_context())
        inherited = ended._inherited
        if inherited is not None and HANDED_KEY not in made:
            _put(made, HANDED_KEY, inherited)
        if code_owner is None and ended._owner.source != "service":
            code_owner = ended._owner.child
        return self.start(name, kind, attributes, made, code_owner, shared, extras)

    def _new_trace(self, context: Context) -> LocalTrace:
        """A trace that begins here."""
        pipeline = self.pipeline
        if pipeline.id_generator is None:
            trace_id, flags = getrandbits(128) or new_trace_id(), RANDOM
        else:
            trace_id = pipeline.id_generator.generate_trace_id()
            asks = getattr(pipeline.id_generator, "is_trace_id_random", None)
            flags = RANDOM if asks is not None and asks() else 0
        if pipeline.native is not None and pipeline.native.samples(trace_id, None):
            flags |= SAMPLED
        return local_trace(trace_id, flags)

    def _adopt(self, parent: Any, context: Context) -> tuple[LocalTrace, int]:
        """The trace of a parent that is not a span of ours: another process's, or another tracer's."""
        remote: SpanContext | None = parent.get_span_context()
        if remote is None or not remote.is_valid:
            return self._new_trace(context), 0
        flags = remote.trace_flags & RANDOM
        native = self.pipeline.native
        if native is not None and native.samples(remote.trace_id, remote.trace_flags):
            flags |= SAMPLED
        return local_trace(remote.trace_id, flags, remote.trace_state, remote), remote.span_id

    def _ask(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Any],
        shared: Shared,
        context: Context,
        trace: LocalTrace,
        parent_id: int,
        who: Owner,
        extras: "Extras | None",
    ) -> Span | UnsampledSpan:
        """Start a span whose fate a sampler of the program's own decides, one by one."""
        pipeline = self.pipeline
        links = extras.links if extras is not None else ()
        try:
            result = pipeline.foreign_sampler.should_sample(context, trace.trace_id, name, kind, attributes, links)
            recording, sampled = result.decision.is_recording(), result.decision.is_sampled()
            extra, state = result.attributes, result.trace_state
        except Exception as error:
            guard.site("tracing.sampler").failed(error)
            recording = sampled = True
            extra, state = None, trace.state
        flags = (trace.flags & ~SAMPLED) | (SAMPLED if sampled else 0)
        if flags != trace.flags or state != trace.state:
            inherited, remote = trace.inherited, trace.remote
            made = local_trace(trace.trace_id, flags, state, remote)
            made.inherited, made.fate = inherited, trace
            trace = made
        if not recording:
            unsampled = unsampled_span(trace, who)
            if pipeline.id_generator is not None:
                unsampled._known_id = pipeline.id_generator.generate_span_id()
            return unsampled
        tracer = self if sampled else self._recorder()
        span_id = pipeline.id_generator.generate_span_id() if pipeline.id_generator is not None else new_span_id()
        span = tracer._make(name, kind, attributes, shared, trace, parent_id, who, span_id)
        for key, value in (extra or {}).items():
            span.set_attribute(key, value)
        link: Any = context.get(LINK_KEY)
        if link is not None and not parent_id:
            span.add_link(link)
        if extras is not None:
            extras.apply(span)
        if pipeline.processors:
            pipeline.started(span, context)
        return span

    def _recorder(self) -> "Tracer":
        """The same tracer for spans that are recorded and not sampled."""
        twin = self._only_recording
        if twin is None:
            twin = Tracer(
                self.pipeline.record_only(), self.scope_name, self.scope_version, self.schema_url, self.scope_attributes
            )
            twin._sdk_scope = self._sdk_scope
            self._only_recording = twin
        return twin

    def move_to(self, pipeline: Pipeline) -> None:
        """Make every span to come in another pipeline."""
        self.pipeline = pipeline
        self._only_recording = None
        self.encoded = None

    # -- OpenTelemetry's way in ---------------------------------------------------------------------------------

    def start_span(  # type: ignore[override]  # our spans are registered as the API's, which mypy does not see
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = INTERNAL,
        attributes: "Mapping[str, Any] | None" = None,
        links: "Sequence[Link] | None" = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span | UnsampledSpan:
        """Start a span and leave the current context as it is (see `opentelemetry.trace.Tracer.start_span`)."""
        dropped = 0
        shared = NOTHING
        if not attributes:
            mine: dict[str, Any] = {}
        elif self.pipeline.limits.fits(attributes):
            mine = dict(attributes)
        else:
            mine, dropped = self.pipeline.limits.clean(attributes, self.pipeline.limits.attributes)
            shared = MIXED
        extras = None
        if links or dropped or start_time is not None or not record_exception or not set_status_on_exception:
            extras = Extras(links, start_time, dropped, record_exception, set_status_on_exception)
        return self.start(name if type(name) is str else text_of(name), kind, mine, context, None, shared, extras)

    def start_as_current_span(  # type: ignore[override]  # the API's own is typed as a generator-made context manager
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = INTERNAL,
        attributes: "Mapping[str, Any] | None" = None,
        links: "Sequence[Link] | None" = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> "SpanScope | RootScope":
        """A context manager and decorator around `start_span`, with the span as the current one inside."""
        options = None
        if context is None and not links and start_time is None and record_exception and set_status_on_exception and end_on_exit:
            if self.pipeline.keeps_below is not None and not read_current():
                # Most likely a root that is not sampled: that costs as little as it can.
                root = RootScope()
                root._tracer = self
                root._name = name
                root._span_kind = kind
                root._attributes = attributes
                root._token = None
                return root
        else:
            options = Options(context, links, start_time, record_exception, set_status_on_exception, end_on_exit)
        scope = SpanScope()
        scope._tracer = self
        scope._name = name
        scope._kind = kind
        scope._attributes = attributes
        scope._options = options
        return scope

    def sdk_scope(self) -> Any:
        """The instrumentation scope as an object of opentelemetry-sdk, for processors written for it."""
        made = self._sdk_scope
        if made is None:
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope

            made = self._sdk_scope = InstrumentationScope(
                self.scope_name, self.scope_version, self.schema_url, self.scope_attributes or {}
            )
        return made
