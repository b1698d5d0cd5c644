"""The tracer: where spans begin.

`start` is the one place that makes a span. It is written flat, because every microsecond here is paid by every span of
every program: one look at the context, one allocation, and stores.
"""

from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.context.context import Context
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.trace import Tracer as ApiTracer

from lighttrace import guard, semconv
from lighttrace.tracing import errors
from lighttrace.tracing.context import LINK_KEY, SPAN_KEY, TEAM_KEY, current
from lighttrace.tracing.ids import getrandbits, new_span_id, new_trace_id
from lighttrace.tracing.owner import Owner, owner
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.span import RANDOM, SAMPLED, UNSET, LocalTrace, Span, UnsampledSpan
from lighttrace.tracing.values import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.trace import Link

INTERNAL = SpanKind.INTERNAL
SERVER = SpanKind.SERVER
_new_span: "Callable[[type[Span]], Span]" = object.__new__
_new_scope: "Callable[[Any], SpanScope]" = object.__new__
_plain = PLAIN.issuperset
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
        self.covers = name.startswith("opentelemetry.instrumentation.")
        self._sdk_scope: Any = None
        self._only_recording: Tracer | None = None

    # -- the engine's way in ------------------------------------------------------------------------------------

    def start(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Any],
        context: Context | None = None,
        code_owner: Owner | None = None,
        plain: bool = True,
        extras: "Extras | None" = None,
    ) -> Span | UnsampledSpan:
        """Start a span that takes `attributes` over: a dict that nobody else holds, its values already exportable.

        `plain` says that each value is exactly a str or an int. `code_owner` is who owns the code that the span is
        about, where that is known. `extras` is what few spans are started with.
        """
        pipeline = self.pipeline
        if context is None:
            context = current.get()
        parent: Any = context.get(SPAN_KEY)
        cls = type(parent)
        if cls is Span:
            trace = parent._trace
            parent_id = parent._span_id
            who = parent._owner.child
            if parent._end and parent._kind is SERVER:
                # The request is over: what goes on after it is a trace of its own, linked to it.
                return self._start_after(parent, name, kind, attributes, context, code_owner, plain, extras)
        elif parent is None:
            trace = self._new_trace(context)
            parent_id = 0
            who = pipeline.default_owner
        elif cls is UnsampledSpan:
            trace = parent._trace
            parent_id = 0 if pipeline.native is not None else parent._span_id
            who = parent._owner
        else:
            trace, parent_id = self._adopt(parent, context)
            who = pipeline.default_owner
        if code_owner is not None:
            who = code_owner
        if pipeline.rules is not None:
            who = _ruled(pipeline.rules, name, attributes) or who
        if len(context) > 1 or parent is None:
            who = context.get(TEAM_KEY, who)
        if pipeline.native is None:
            return self._ask(name, kind, attributes, plain, context, trace, parent_id, who, extras)
        if not trace.flags & SAMPLED:
            return UnsampledSpan(trace, who)
        span = _new_span(Span)
        span._open = True
        span._tracer = self
        span._name = name
        span._kind = kind
        span._trace = trace
        span._parent_id = parent_id
        span._owner = who
        span._attributes = attributes
        span._plain = plain
        span._status = UNSET
        span._rare = None
        span._end = 0
        span._span_id = getrandbits(64) or new_span_id()
        span._start = time_ns()
        if pipeline.id_generator is not None:
            span._span_id = pipeline.id_generator.generate_span_id()
        if parent is None and len(context):
            link: Any = context.get(LINK_KEY)
            if link is not None:
                span.add_link(link)
        if extras is not None:
            extras.apply(span)
        if pipeline.processors:
            pipeline.started(span, context)
        return span

    def _start_after(
        self,
        ended: Span,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Any],
        context: Context,
        code_owner: Owner | None,
        plain: bool,
        extras: "Extras | None",
    ) -> Span | UnsampledSpan:
        """Start the root of a new trace, linked to the request that caused it and answered before it was done."""
        made = Context({key: value for key, value in context.items() if key != SPAN_KEY})
        _put(made, LINK_KEY, ended.get_span_context())
        if code_owner is None and ended._owner.source != "service":
            code_owner = ended._owner.child
        return self.start(name, kind, attributes, made, code_owner, plain, extras)

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
        return LocalTrace(trace_id, flags)

    def _adopt(self, parent: Any, context: Context) -> tuple[LocalTrace, int]:
        """The trace of a parent that is not a span of ours: another process's, or another tracer's."""
        remote: SpanContext | None = parent.get_span_context()
        if remote is None or not remote.is_valid:
            return self._new_trace(context), 0
        flags = remote.trace_flags & RANDOM
        native = self.pipeline.native
        if native is not None and native.samples(remote.trace_id, remote.trace_flags):
            flags |= SAMPLED
        return LocalTrace(remote.trace_id, flags, remote.trace_state, remote), remote.span_id

    def _ask(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Any],
        plain: bool,
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
            inherited = trace.inherited
            remote = trace.remote
            trace = LocalTrace(trace.trace_id, flags, state, remote)
            trace.inherited = inherited
        if not recording:
            unsampled = UnsampledSpan(trace, who)
            if pipeline.id_generator is not None:
                unsampled._id = pipeline.id_generator.generate_span_id()
            return unsampled
        tracer = self if sampled else self._recorder()
        span = _new_span(Span)
        span._open = True
        span._tracer = tracer
        span._name = name
        span._kind = kind
        span._trace = trace
        span._parent_id = parent_id
        span._owner = who
        span._attributes = attributes
        span._plain = plain
        span._status = UNSET
        span._rare = None
        span._end = 0
        span._start = time_ns()
        span._span_id = pipeline.id_generator.generate_span_id() if pipeline.id_generator is not None else new_span_id()
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
        plain = True
        if not attributes:
            mine: dict[str, Any] = {}
        elif self.pipeline.limits.fits(attributes):
            mine = dict(attributes)
        else:
            mine, dropped = self.pipeline.limits.clean(attributes, self.pipeline.limits.attributes)
            plain = False
        extras = None
        if links or dropped or start_time is not None or not record_exception or not set_status_on_exception:
            extras = Extras(links, start_time, dropped, record_exception, set_status_on_exception)
        return self.start(name if type(name) is str else str(name), kind, mine, context, None, plain, extras)

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
    ) -> "SpanScope":
        """A context manager and decorator around `start_span`, with the span as the current one inside."""
        scope = _new_scope(SpanScope)
        scope._tracer = self
        scope._name = name
        scope._kind = kind
        scope._attributes = attributes
        scope._owner = None
        if context is None and not links and start_time is None and record_exception and set_status_on_exception and end_on_exit:
            scope._options = None
        else:
            scope._options = Options(context, links, start_time, record_exception, set_status_on_exception, end_on_exit)
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


class Extras:
    """What few spans are started with; on the span before a processor is told of it."""

    __slots__ = ("dropped", "links", "record_exception", "set_status", "start_time")

    def __init__(
        self,
        links: "Sequence[Link] | None",
        start_time: int | None,
        dropped: int,
        record_exception: bool = True,
        set_status: bool = True,
    ) -> None:
        self.links = links or ()
        self.start_time = start_time
        self.dropped = dropped
        self.record_exception = record_exception
        self.set_status = set_status

    def apply(self, span: Span) -> None:
        """Put them on the span."""
        if self.start_time is not None:
            span._start = self.start_time
        if self.dropped:
            span.rare().dropped_attributes += self.dropped
        if not (self.record_exception and self.set_status):
            span.rare().on_error = self.record_exception, self.set_status
        for link in self.links:
            span.add_link(link.context, link.attributes)


def _ruled(rules: Any, name: str, attributes: dict[str, Any]) -> Owner | None:
    """Whom an explicit rule gives a span to. A rule that cannot be applied gives it to nobody, and breaks nothing."""
    try:
        found = rules.team_for_span(name, attributes.get(semconv.HTTP_ROUTE), None, None)
        return owner(*found) if found is not None else None
    except Exception as error:
        guard.site("ownership.rules").failed(error)
        return None


class Options:
    """What few callers of `start_as_current_span` ask for."""

    __slots__ = ("context", "end_on_exit", "links", "record_exception", "set_status", "start_time")

    def __init__(
        self,
        context: Context | None,
        links: "Sequence[Link] | None",
        start_time: int | None,
        record_exception: bool,
        set_status: bool,
        end_on_exit: bool,
    ) -> None:
        self.context = context
        self.links = links
        self.start_time = start_time
        self.record_exception = record_exception
        self.set_status = set_status
        self.end_on_exit = end_on_exit


class SpanScope:
    """A span around a block or a function: it starts on entry, is current inside, and ends and records on the way out.

    A context manager, sync and async, and a decorator. It starts nothing before it is entered.
    """

    __slots__ = ("_attributes", "_code_owner", "_kind", "_name", "_options", "_owner", "_span", "_token", "_tracer")

    _tracer: Tracer
    _name: str
    _kind: SpanKind
    _attributes: "Mapping[str, Any] | None"
    _owner: Owner | None  # set by the caller: whose the span is, whatever the rules say
    _code_owner: Owner | None
    _options: Options | None
    _span: Any
    _token: Any

    def __enter__(self) -> Any:
        tracer = self._tracer
        context = current.get()
        options = self._options
        if options is None:
            given = self._attributes
            limits = tracer.pipeline.limits
            if not given:
                span: Any = tracer.start(self._name, self._kind, {}, context)
            elif (
                type(given) is dict
                and limits.attribute_length is None
                and len(given) <= limits.attributes
                and _plain(map(type, given.values()))
            ):
                span = tracer.start(self._name, self._kind, given.copy(), context)
            else:
                span = tracer.start_span(self._name, context, self._kind, given)
            if self._owner is not None and type(span) is Span:
                span._owner = self._owner
        else:
            span = tracer.start_span(self._name, options.context, self._kind, self._attributes, options.links, options.start_time)
        self._span = span
        # With an explicit context only the parent comes from there: what is current stays, but for the span.
        made = Context(context)
        _put(made, SPAN_KEY, span)
        self._token = current.set(made)
        return span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            current.reset(self._token)
        except (ValueError, RuntimeError):
            guard.count("context.detached_elsewhere")
        span = self._span
        options = self._options
        if error is not None and not span._end:
            if options is None:
                errors.fail(span, error)
            else:
                errors.fail(span, error, record=options.record_exception, status=options.set_status)
        if options is None or options.end_on_exit:
            span.end()

    async def __aenter__(self) -> Any:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.__exit__(kind, error, trace)

    def again(self) -> "SpanScope":
        """Another of the same, not entered."""
        scope = _new_scope(type(self))
        scope._tracer, scope._name, scope._kind = self._tracer, self._name, self._kind
        scope._attributes, scope._owner, scope._options = self._attributes, self._owner, self._options
        return scope

    def __call__(self, function: Any) -> Any:
        """As a decorator: a span of its own around each call."""
        from lighttrace.tracing.stepping import in_scope

        return in_scope(function, self.again)
