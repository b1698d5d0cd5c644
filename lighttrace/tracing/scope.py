"""A span around a block or a function, current inside: what `start_as_current_span`, `span` and `@trace` give."""

from typing import TYPE_CHECKING, Any

from opentelemetry.context.context import Context
from opentelemetry.trace import SpanKind

from lighttrace import guard
from lighttrace.tracing import errors
from lighttrace.tracing.context import SPAN_KEY, bare, context_of, is_alone, read_current, reset_current, set_current, span_of
from lighttrace.tracing.ids import getrandbits, new_trace_id
from lighttrace.tracing.sampling import LOW_BITS
from lighttrace.tracing.shared import NOTHING
from lighttrace.tracing.span import Span, UnsampledSpan
from lighttrace.tracing.values import PLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.trace import Link

    from lighttrace.tracing.owner import Owner
    from lighttrace.tracing.tracer import Tracer

_plain = PLAIN.issuperset
_put = dict.__setitem__


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

    __slots__ = ("_attributes", "_kind", "_name", "_options", "_span", "_token", "_tracer")

    _tracer: "Tracer"
    _name: str
    _kind: SpanKind
    _attributes: "Mapping[str, Any] | None"
    _options: Options | None
    _span: Any
    _token: Any

    def __enter__(self) -> Any:
        tracer = self._tracer
        context = read_current()
        options = self._options
        if options is not None:
            span: Any = tracer.start_span(
                self._name, options.context, self._kind, self._attributes, options.links, options.start_time
            )
        else:
            pipeline = tracer.pipeline
            given = self._attributes
            if not pipeline.keeps_roots and pipeline.native is not None:
                if context or not pipeline.direct:
                    return self._enter_perhaps(context)
                trace_id = getrandbits(128) or new_trace_id()
                if trace_id & LOW_BITS < pipeline.native.bound:
                    return self._enter_kept(trace_id)
                self._span = span = UnsampledSpan()
                span._root = trace_id
                span._owner = pipeline.default_owner
                self._token = set_current(span)
                return span
            if not given:
                mine = {}
            elif type(given) is dict and len(given) <= pipeline.limits.most_plain and _plain(map(type, given.values())):
                mine = given.copy()
            else:
                mine = None
            if mine is None:
                span = tracer.start_span(self._name, context, self._kind, given)
            elif context or not pipeline.keeps_roots:
                span = tracer.start(self._name, self._kind, mine, context)
            else:
                self._span = span = tracer.start_root(self._name, self._kind, mine)
                self._token = set_current(span)
                return span
        self._span = span
        if not context or type(context) is Span or is_alone(context):
            self._token = set_current(span)
            return span
        # With an explicit context only the parent comes from there: what is current stays, but for the span.
        made = Context(context)
        _put(made, SPAN_KEY, span)
        self._token = set_current(made)
        return span

    def _enter_kept(self, trace_id: int) -> Any:
        """Enter where nothing is current, and a trace of that id is sampled."""
        self._span = span = self._tracer.start_root(self._name, self._kind, {}, NOTHING, trace_id)
        if self._attributes:
            span.set_attributes(self._attributes)
        self._token = set_current(span)
        return span

    def _enter_perhaps(self, context: Any) -> Any:
        """Enter below a span where spans are sampled, but by nobody who wants to see them first."""
        tracer = self._tracer
        span: Any
        span = span_of(context)
        if isinstance(span, UnsampledSpan):
            # Nothing below it is recorded either, and one span that says nothing can stand for all of them.
            self._token = None
            self._span = span
            return span
        self._span = span = tracer.start_span(self._name, context_of(context), self._kind, self._attributes)
        if is_alone(context):
            self._token = set_current(span)
        else:
            made = Context(context)
            _put(made, SPAN_KEY, span)
            self._token = set_current(made)
        return span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        span = self._span
        token = self._token
        if token is not None:
            try:
                reset_current(token)
            except (ValueError, RuntimeError):
                guard.count("context.detached_elsewhere")
        options = self._options
        if error is not None and not span._end:
            if options is None:
                errors.fail(span, error)
            else:
                errors.fail(span, error, record=options.record_exception, status=options.set_status)
        if (options is None or options.end_on_exit) and type(span) is not UnsampledSpan:
            span.end()

    async def __aenter__(self) -> Any:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.__exit__(kind, error, trace)

    def again(self) -> "SpanScope":
        """Another of the same, not entered."""
        scope = type(self)()
        scope._tracer, scope._name, scope._kind = self._tracer, self._name, self._kind
        scope._attributes, scope._options = self._attributes, self._options
        return scope

    def __call__(self, function: Any) -> Any:
        """As a decorator: a span of its own around each call."""
        from lighttrace.tracing.stepping import in_scope

        return in_scope(function, self.again)


_LEFT = object()


class _Entries(list[Any]):
    """What is to be undone on the ways out of a `RootScope` that was entered in an unusual way: tokens, or scopes in its place."""


class RootScope(UnsampledSpan):
    """The scope of a root where not all are sampled, and its span as well if it is not: one object, as that is most of its cost.

    Made where nothing is current. Where there is more to it on entry, it has a `SpanScope` do what is to be done.
    """

    __slots__ = ("_attributes", "_name", "_span_kind", "_token", "_tracer")

    _tracer: "Tracer"
    _name: str
    _span_kind: SpanKind
    _attributes: "Mapping[str, Any] | None"
    _token: Any  # None before the first entry, `_LEFT` after; between them what undoes it, or `_Entries`

    @property
    def _owner(self) -> "Owner":  # type: ignore[override]
        return self._tracer.pipeline.default_owner

    def __enter__(self) -> Any:
        bound = self._tracer.pipeline.keeps_below
        if self._token is not None or bound is None or read_current():  # by now
            return self._enter_again()
        if bound:
            self._root = trace_id = getrandbits(128) or new_trace_id()
            if trace_id & LOW_BITS < bound:
                return self._give_way(self.again()._enter_kept, trace_id)
        self._token = set_current(self)
        return self

    def _enter_again(self) -> Any:
        token = self._token
        if token is None or token is _LEFT or (type(token) is _Entries and isinstance(token[-1], SpanScope)):
            return self._give_way(self.again().__enter__)
        # The span, used as a context manager by whoever has it, as any span may be: nothing happens, and nothing on the way out.
        # Which of the ways out that is, where several threads or tasks have it, the tokens tell: each is good in its own context.
        if type(token) is not _Entries:
            self._token = token = _Entries([token])
        token.append(set_current(read_current()))
        return self

    def _give_way(self, enter: Any, *arguments: Any) -> Any:
        """Enter by a method of another scope, and leave by it, too."""
        span = enter(*arguments)
        if type(self._token) is not _Entries:
            self._token = _Entries()
        self._token.append(enter.__self__)
        return span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        token = self._token
        if type(token) is _Entries:
            self._leave_one(token, kind, error, trace)
            return
        self._token = _LEFT
        try:
            reset_current(token)
        except (ValueError, RuntimeError, TypeError):  # another context's, or it has been left already
            guard.count("context.detached_elsewhere")

    def _leave_one(self, entries: _Entries, kind: Any, error: BaseException | None, trace: Any) -> None:
        for index in reversed(range(len(entries))):
            entry = entries[index]
            try:
                if isinstance(entry, SpanScope):
                    entry.__exit__(kind, error, trace)
                else:
                    reset_current(entry)
            except (ValueError, RuntimeError):  # another context's
                continue
            del entries[index]
            break
        else:
            guard.count("context.detached_elsewhere")
        if not entries:
            self._token = _LEFT

    async def __aenter__(self) -> Any:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.__exit__(kind, error, trace)

    def again(self) -> SpanScope:
        """A scope of the usual kind for the same."""
        scope = SpanScope()
        scope._tracer, scope._name, scope._kind, scope._attributes = self._tracer, self._name, self._span_kind, self._attributes
        scope._options = None
        return scope

    def __call__(self, function: Any) -> Any:
        """As a decorator: a span of its own around each call."""
        from lighttrace.tracing.stepping import in_scope

        return in_scope(function, self.again)


bare.add(RootScope)
