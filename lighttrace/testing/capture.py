"""Capturing spans: a provider of a test's own, expectations with a deadline, and what must not be left behind."""

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from opentelemetry import propagate as otel_propagate
from opentelemetry import trace as otel_trace

from lighttrace import guard, semconv
from lighttrace.config import load
from lighttrace.instrument import egress, engine, propagate
from lighttrace.instrument.registry import registry
from lighttrace.propagation import composite
from lighttrace.testing.spans import CapturedSpan
from lighttrace.tracing import tracer
from lighttrace.tracing.context import read_current, span_of
from lighttrace.tracing.ids import getrandbits, new_span_id
from lighttrace.tracing.limits import Limits
from lighttrace.tracing.owner import owner
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider
from lighttrace.tracing.sampling import named, native
from lighttrace.tracing.span import Span

DEADLINE_S = 5.0


class _CountingIds:
    """The tracer's own source of ids, counted: a span that was started and never ended shows as a difference.

    Not an id generator, which would keep the tracer from starting spans in its usual way.
    """

    def __init__(self) -> None:
        self.started = 0

    def getrandbits(self, bits: int) -> int:
        if bits == 64:
            self.started += 1
        return getrandbits(bits)

    def new_span_id(self) -> int:
        self.started += 1
        return new_span_id()


class _CountedSampler:
    """A sampler of the program's own, and how many spans it has recorded and not sampled: they never end here."""

    def __init__(self, sampler: Any, ids: _CountingIds) -> None:
        self._sampler = sampler
        self._ids = ids

    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        result = self._sampler.should_sample(*args, **kwargs)
        if result.decision.is_recording() and not result.decision.is_sampled():
            self._ids.started -= 1
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


_provider: TracerProvider | None = None


def _home() -> TracerProvider:
    """The provider that captures use: the program's own if it is LightTrace's, else one for the whole process, because a
    tracer that a module got when it was imported stays with the provider it came from.
    """
    global _provider
    there = otel_trace._TRACER_PROVIDER
    if isinstance(there, TracerProvider):
        return there
    if _provider is None:
        _provider = TracerProvider(Pipeline())
    return _provider


class Capture:
    """What `capture()` gives: the spans that have ended, in that order, until they are taken.

    `failures` holds what LightTrace contained: (site, exception) of everything of ours that went wrong.
    """

    def __init__(
        self,
        *,
        service: str,
        team: str | None,
        resolver: Any,
        strict: bool,
        contained: bool,
        patch: bool,
        options: dict[str, Any],
    ) -> None:
        self.service = service
        self.team = team
        self.failures: list[tuple[str, BaseException]] = []
        self.provider: TracerProvider = _home()
        self._resolver = resolver
        self._strict = strict
        self._contained = contained
        self._patch = patch
        self._options = options
        self._arrived = threading.Condition()
        self._spans: list[CapturedSpan] = []
        self.everything: list[CapturedSpan] = []  # taken or not
        self._ids = _CountingIds()
        self._ended = 0
        self._saved: list[Callable[[], None]] = []

    # -- what a test asks ----------------------------------------------------------------------------------------

    def take(self, count: int = 1, deadline: float = DEADLINE_S) -> list[CapturedSpan]:
        """Take exactly `count` spans, waiting up to `deadline` seconds for them; AssertionError if there are fewer or more.

        >>> import lighttrace
        >>> with capture() as spans:
        ...     with lighttrace.span("one"), lighttrace.span("two"):
        ...         pass
        ...     [span.name for span in spans.take(2)]
        ['two', 'one']
        """
        with self._arrived:
            self._arrived.wait_for(lambda: len(self._spans) >= count, deadline)
            taken, self._spans = self._spans, []
        if len(taken) != count:
            raise AssertionError(f"{count} spans expected, and there are {len(taken)}: {_listed(taken)}")
        return taken

    def expect(self, *, deadline: float = DEADLINE_S, **expected: Any) -> CapturedSpan:
        """Take the first span that is as expected, waiting up to `deadline` seconds for it; AssertionError if none comes.

        `name`, `kind`, `status`, `message`, `team`, `team_source`, `service`, `trace_id`, `parent_id`, `scope` are compared
        with the span's; `attributes` must be among its own; `parent` is a span, or None for a root. In the place of a value
        may stand `...` for "anything", a class, or a function that gives True.
        """
        best: list[str] | None = None
        closest: CapturedSpan | None = None
        seen = 0

        def find() -> CapturedSpan | None:
            nonlocal best, closest, seen
            for span in self._spans[seen:]:
                seen += 1
                differences = span.differences(expected)
                if not differences:
                    self._spans.remove(span)
                    return span
                if best is None or len(differences) < len(best):
                    best, closest = differences, span
            return None

        with self._arrived:
            found = self._arrived.wait_for(find, deadline)
            others = list(self._spans)
        if isinstance(found, CapturedSpan):
            return found
        if closest is None:
            raise AssertionError(f"no span came in {deadline} s; expected: {expected}")
        raise AssertionError(
            f"no span is as expected. The closest is {closest}, but {'; '.join(best or ())}. All: {_listed(others)}"
        )

    def expect_none(self) -> None:
        """AssertionError if any span has ended that was not taken, or is still open."""
        self.take(0, 0)
        self.check_ended()

    def check_ended(self, deadline: float = DEADLINE_S) -> None:
        """AssertionError if a span that was started has not ended within `deadline` seconds."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._ids.started <= self._ended, deadline):
                raise AssertionError(f"{self._ids.started - self._ended} spans were started and have not ended: {_open_spans()}")

    def clear(self) -> None:
        """Forget the spans that have arrived."""
        with self._arrived:
            self._spans.clear()

    @property
    def waiting(self) -> list[CapturedSpan]:
        """The spans that have ended and were not taken; they stay."""
        with self._arrived:
            return list(self._spans)

    # -- what it does to the process -----------------------------------------------------------------------------

    def _put(self, span: Span) -> None:
        captured = CapturedSpan(span)
        with self._arrived:
            self._ended += 1
            self._spans.append(captured)
            self.everything.append(captured)
            self._arrived.notify_all()

    def __enter__(self) -> "Capture":
        options = dict(self._options)
        sampler = options.pop("sampler", None)
        directory = options.pop("directory", None)
        config = load(environ={}, directory=directory, service=self.service, team=self.team, exporter="none", **options)
        if config.warnings:
            raise ValueError("; ".join(config.warnings))
        resolver = self._resolver
        if resolver is ...:
            from lighttrace.ownership import Resolver

            resolver = Resolver(config)
        resource: dict[str, Any] = {**config.resource, semconv.SERVICE_NAME: self.service}
        if self.team is not None:
            resource[semconv.TEAM] = resource[semconv.SERVICE_OWNER_NAME] = self.team
        if sampler is None or isinstance(sampler, str):
            sampler = named(sampler or config.sampler, config.sampler_arg)
        elif native(sampler) is sampler:
            sampler = _CountedSampler(sampler, self._ids)
        fresh = Pipeline(
            resource=resource,
            sampler=sampler,
            limits=Limits(
                config.attribute_count_limit, config.attribute_length_limit, config.event_count_limit, config.link_count_limit
            ),
            put=self._put,
            default_owner=owner(self.team, "service"),
            resolver=resolver,
        )
        self._swap_slots(self.provider.pipeline, fresh)
        self._swap(vars(tracer), {"getrandbits": self._ids.getrandbits, "new_span_id": self._ids.new_span_id})
        self._saved.append(engine.forget_tracers)  # once the slots are as before: they go past the setter of the provider
        self._swap_slots(engine.state, engine.State())  # as in a program that has just started
        engine.configure(config, self.provider, resolver)
        before_provider, before_sink = otel_trace._TRACER_PROVIDER, guard.sink
        before_textmap, before = otel_propagate.get_global_textmap(), propagate.as_it_is()
        propagator = composite(config.propagators)
        propagate.use(propagator, fast=set(config.propagators) == {"tracecontext", "baggage"})
        propagate.watch(otel_propagate)
        otel_trace._TRACER_PROVIDER = self.provider
        guard.sink = lambda name, error: self.failures.append((name, error))
        if egress.start():
            self._saved.append(egress.stop)

        def restore() -> None:
            otel_trace._TRACER_PROVIDER = before_provider
            otel_propagate.set_global_textmap(before_textmap)
            propagate.back_to(before)
            guard.sink = before_sink

        self._saved.append(restore)
        if self._patch and not registry.enabled:
            from lighttrace.integrations import TRIGGERS

            registry.enable(TRIGGERS)
            self._saved.append(registry.disable)
        self._outside = span_of(read_current())
        return self

    def _swap(self, where: dict[str, Any], values: dict[str, Any]) -> None:
        before = dict(where)
        where.update(values)
        self._saved.append(lambda: where.update(before))

    def _swap_slots(self, where: Any, values: Any) -> None:
        before = {name: getattr(where, name) for name in type(where).__slots__}
        for name in before:
            setattr(where, name, getattr(values, name))

        def restore() -> None:
            for name, value in before.items():
                setattr(where, name, value)

        self._saved.append(restore)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            if error is None:
                self._check()
        finally:
            while self._saved:
                self._saved.pop()()

    def _check(self) -> None:
        inside = span_of(read_current())
        if inside is not self._outside:
            raise AssertionError(f"a context was left behind: the current span is {inside!r}, and it was {self._outside!r}")
        self.check_ended()
        if not self._contained and self.failures:
            name, error = self.failures[0]
            raise AssertionError(f"{len(self.failures)} failures inside LightTrace, the first in {name}: {error!r}") from error
        if self._strict and self._spans:
            raise AssertionError(f"spans that nobody took: {_listed(self._spans)}")


def capture(
    *,
    service: str = "tests",
    team: str | None = "tests-team",
    resolver: Any = ...,
    strict: bool = False,
    contained: bool = False,
    patch: bool = True,
    **options: Any,
) -> Capture:
    """A context manager under which every span of this process goes to the test and nowhere else.

    `service`, `team` and `options` are those of `lighttrace.init` (the environment is not read; `directory` is where the
    search for the project's file starts, and `sampler` may be a name or an object); `resolver` replaces what finds the
    owners of code. At its end it raises AssertionError if a span is still open, a context was left behind, or something
    inside LightTrace failed (unless `contained` says that the test breaks something on purpose); and, where `strict`, if
    there is a span that nobody took. Libraries are patched meanwhile, if lighttrace.init() has not done so, unless `patch`
    is False.

    One at a time in a process; any number of processes, as pytest-xdist starts them.
    """
    return Capture(
        service=service, team=team, resolver=resolver, strict=strict, contained=contained, patch=patch, options=options
    )


def wait_until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE_S) -> None:
    """Look again and again, yielding the processor, until `condition()` is true; AssertionError naming `what` after `deadline` seconds.

    For what has no event to wait for, such as an object that is to be collected.
    """
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true in {deadline} s")
        os.sched_yield() if hasattr(os, "sched_yield") else time.sleep(0)


def _listed(spans: list[CapturedSpan]) -> str:
    return "".join(f"\n    {span}" for span in spans) or "none"


def _open_spans() -> str:
    import gc

    found = [item for item in gc.get_objects() if type(item) is Span and not item._end]
    return ", ".join(repr(span) for span in found[:10]) or "(their objects are gone)"
