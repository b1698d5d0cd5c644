"""Teams and traces across await, tasks and threads; work that outlives its request."""

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.trace import SpanKind

import lighttrace
from lighttrace import guard
from lighttrace.tracing.context import Attached, current
from lighttrace.tracing.sampling import named
from tests.tracing.conftest import Tracing


def test_a_team_scope_names_every_span_inside_and_none_outside(tracing: Tracing) -> None:
    with lighttrace.span("before"):
        with lighttrace.team("fraud"), lighttrace.span("inside"), lighttrace.span("below"):
            pass
        with lighttrace.span("after"):
            pass
    assert {span.name: span.team for span in tracing.spans} == {
        "before": None,
        "inside": "fraud",
        "below": "fraud",
        "after": None,
    }
    assert tracing.named("below").attributes["lighttrace.team.source"] == "scope"


def test_a_team_scope_without_a_span_around_it_counts(tracing: Tracing) -> None:
    with lighttrace.team("fraud"), otel.get_tracer("x").start_as_current_span("root"):
        pass
    assert tracing.take().team == "fraud"


def test_the_inner_team_scope_wins_and_the_outer_comes_back(tracing: Tracing) -> None:
    scope = lighttrace.team("outer")
    with scope:
        with lighttrace.team("inner"), lighttrace.span("a"):
            pass
        with scope, lighttrace.span("b"):  # entered again while it is open
            pass
        with lighttrace.span("c"):
            pass
    assert [span.team for span in tracing.spans] == ["inner", "outer", "outer"]


async def test_a_team_scope_is_carried_across_await_and_into_tasks(tracing: Tracing) -> None:
    async def work(name: str) -> None:
        await asyncio.sleep(0)
        with lighttrace.span(name):
            await asyncio.sleep(0)

    async with lighttrace.team("fraud"):
        await work("awaited")
        task = asyncio.create_task(work("task"))
    await task
    await work("outside")
    assert {span.name: span.team for span in tracing.spans} == {"awaited": "fraud", "task": "fraud", "outside": None}


async def test_concurrent_team_scopes_do_not_mix(tracing: Tracing) -> None:
    async def work(team: str) -> None:
        with lighttrace.team(team):
            await asyncio.sleep(0)
            with lighttrace.span(team):
                await asyncio.sleep(0)

    await asyncio.gather(*(work(f"team-{number}") for number in range(20)))
    assert all(span.team == span.name for span in tracing.spans)
    assert len(tracing.spans) == 20


async def test_a_team_scope_is_a_decorator_for_every_kind_of_function(tracing: Tracing) -> None:
    @lighttrace.team("fraud")
    def plain() -> None:
        with lighttrace.span("plain"):
            pass

    @lighttrace.team("fraud")
    async def coroutine() -> None:
        with lighttrace.span("coroutine"):
            pass

    @lighttrace.team("fraud")
    def generator() -> Any:
        yield 1
        with lighttrace.span("generator"):
            pass

    plain()
    await coroutine()
    for _ in generator():
        with lighttrace.span("between"):
            pass
    assert {span.name: span.team for span in tracing.spans} == {
        "plain": "fraud",
        "coroutine": "fraud",
        "generator": "fraud",
        "between": None,
    }


def test_a_team_does_not_travel_to_a_thread_by_itself(tracing: Tracing) -> None:
    """Threads are carried by the integration, not by the context store; see tests/instrument/test_threads.py."""
    seen: list[Any] = []
    with lighttrace.team("fraud"):
        thread = threading.Thread(target=lambda: seen.append(current.get()))
        thread.start()
        thread.join()
    assert not seen[0]


def test_a_context_is_carried_by_hand(tracing: Tracing) -> None:
    with lighttrace.span("outer") as outer:
        carried = otel_context.get_current()

    def work() -> None:
        with Attached(carried), lighttrace.span("inner"):
            pass
        assert not otel_context.get_current()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    parent = tracing.named("inner").parent
    assert parent is not None and parent.span_id == outer.get_span_context().span_id


# -- what outlives its request --------------------------------------------------------------------------------------


def test_detached_work_is_a_linked_trace_of_its_own(tracing: Tracing) -> None:
    with lighttrace.span("request") as request:
        with lighttrace.detached():
            assert not otel.get_current_span().get_span_context().is_valid
            with lighttrace.span("refresh"), lighttrace.span("below"):
                pass
            with lighttrace.span("again"):
                pass
        assert otel.get_current_span() is request
    refresh, below, again = tracing.named("refresh"), tracing.named("below"), tracing.named("again")
    assert refresh.parent is None
    assert refresh.context.trace_id != request.get_span_context().trace_id
    for span in (refresh, again):
        assert [link.context for link in span.links] == [request.get_span_context()]
    assert not below.links
    assert below.context.trace_id == refresh.context.trace_id


async def test_detached_keeps_team_and_baggage(tracing: Tracing) -> None:
    token = otel_context.attach(baggage.set_baggage("tenant", "acme"))
    with lighttrace.team("fraud"):
        async with lighttrace.detached():
            assert baggage.get_baggage("tenant") == "acme"
            with lighttrace.span("work"):
                pass
    otel_context.detach(token)
    span = tracing.take()
    assert span.team == "fraud"
    assert not span.links


def test_detached_is_seen_by_a_sampler_of_the_programs_own() -> None:
    from lighttrace.tracing import manual
    from tests.tracing.test_sampling import Recorder

    tracing = Tracing(Recorder())
    manual.use(tracing.provider)
    try:
        with lighttrace.span("request") as request, lighttrace.detached(), lighttrace.span("work"):
            pass
    finally:
        manual.use(None)
    assert [link.context for link in tracing.named("work").links] == [request.get_span_context()]


async def test_work_that_goes_on_after_its_request_is_a_linked_trace_of_its_own(tracing: Tracing) -> None:
    go_on = asyncio.Event()

    async def background() -> None:
        with lighttrace.span("during"):
            pass
        await go_on.wait()
        with lighttrace.span("after"):
            with lighttrace.span("below"):
                pass

    with otel.get_tracer("server").start_as_current_span("GET /", kind=SpanKind.SERVER) as request:
        task = asyncio.create_task(background())
        await asyncio.sleep(0)
    go_on.set()
    await task
    during, after, below = tracing.named("during"), tracing.named("after"), tracing.named("below")
    assert during.context.trace_id == request.get_span_context().trace_id
    assert after.parent is None
    assert after.context.trace_id != request.get_span_context().trace_id
    assert [link.context for link in after.links] == [request.get_span_context()]
    assert below.context.trace_id == after.context.trace_id
    assert not below.links


def test_a_task_used_by_many_requests_belongs_to_none(tracing: Tracing) -> None:
    """One request starts a worker, and many use it: only what happened during that request is in its trace."""
    with otel.get_tracer("server").start_as_current_span("GET /", kind=SpanKind.SERVER) as first:
        worker = contextvars.copy_context()
    for number in range(3):
        with otel.get_tracer("server").start_as_current_span(f"GET /{number}", kind=SpanKind.SERVER):
            worker.run(lambda: otel.get_tracer("worker").start_span("job").end())
    jobs = [span for span in tracing.spans if span.name == "job"]
    assert len({span.context.trace_id for span in jobs} | {first.get_span_context().trace_id}) == 4


def test_work_after_a_request_keeps_the_team_of_its_handler(tracing: Tracing) -> None:
    with lighttrace.team("fraud"):
        span = otel.get_tracer("server").start_span("GET /", kind=SpanKind.SERVER)
    context = otel.set_span_in_context(span)
    span.end()
    otel.get_tracer("later").start_span("later", context).end()
    assert tracing.named("later").team == "fraud"


def test_a_child_of_an_ended_internal_span_stays_in_its_trace(tracing: Tracing) -> None:
    span = otel.get_tracer("x").start_span("quick")
    span.end()
    child = otel.get_tracer("x").start_span("late", otel.set_span_in_context(span))
    assert child.get_span_context().trace_id == span.get_span_context().trace_id
    child.end()


# -- leaving in disorder --------------------------------------------------------------------------------------------


def test_leaving_from_another_context_is_a_count_and_no_error(tracing: Tracing, caplog: pytest.LogCaptureFixture) -> None:
    before = guard.counters.get("context.detached_elsewhere", 0)
    scope = lighttrace.span("elsewhere")
    contextvars.copy_context().run(scope.__enter__)
    scope.__exit__(None, None, None)
    team = lighttrace.team("fraud")
    contextvars.copy_context().run(team.__enter__)
    team.__exit__(None, None, None)
    assert guard.counters["context.detached_elsewhere"] == before + 2
    assert tracing.take().name == "elsewhere"
    assert not caplog.records


def test_spans_left_in_the_wrong_order_are_both_exported(tracing: Tracing) -> None:
    one, two = lighttrace.span("one"), lighttrace.span("two")
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    two.__exit__(None, None, None)
    assert [span.name for span in tracing.spans] == ["one", "two"]
    token = current.set(otel_context.Context())
    assert token is not None


@pytest.mark.parametrize("sampler", [None, "always_off"])
def test_opentelemetry_sees_a_context_around_the_current_span(sampler: str | None) -> None:
    tracer = Tracing(sampler=named(sampler, None) if sampler else None).tracer
    assert otel_context.get_current() == {}
    with tracer.start_as_current_span("outer") as outer:
        context = otel_context.get_current()
        assert type(context) is otel_context.Context
        assert list(context.values()) == [outer]
        assert otel.get_current_span() is outer
        assert otel.get_current_span(context) is outer
        with pytest.raises(ValueError):
            context["key"] = "value"
        token = otel_context.attach(otel_context.set_value("key", "value"))
        assert otel_context.get_value("key") == "value"
        assert otel.get_current_span() is outer
        with tracer.start_as_current_span("inner") as inner:
            assert otel_context.get_value("key") == "value"
            assert otel.get_current_span() is inner
            assert inner.get_span_context().trace_id == outer.get_span_context().trace_id
        otel_context.detach(token)
        assert otel_context.get_value("key") is None
        assert otel.get_current_span() is outer
    assert otel_context.get_current() == {}


def test_what_a_program_attached_that_is_no_context_is_given_back_as_it_is() -> None:
    strange = {"key": "value"}
    token = otel_context.attach(strange)  # type: ignore[arg-type]  # a mistake of the program's
    try:
        assert otel_context.get_current() is strange
    finally:
        otel_context.detach(token)


FOREIGN = """
import sys, types, importlib.metadata
from opentelemetry.context.context import Context, _RuntimeContext

class Own(_RuntimeContext):
    def __init__(self): self.stack = [Context()]
    def attach(self, context):
        assert type(context) is Context, context
        self.stack.append(context)
        return len(self.stack) - 1
    def get_current(self): return self.stack[-1]
    def detach(self, token): del self.stack[token:]

import opentelemetry.context
opentelemetry.context._RUNTIME_CONTEXT = Own()
import lighttrace
from opentelemetry import trace
lighttrace.init(service="s", exporter="memory")
with trace.get_tracer("t").start_as_current_span("outer") as outer:
    assert trace.get_current_span() is outer
    with lighttrace.span("inner") as inner:
        assert trace.get_current_span() is inner
        with lighttrace.team("fraud"), trace.get_tracer("t").start_as_current_span("innermost") as innermost:
            assert innermost.team == "fraud"
    assert inner.parent.span_id == outer.get_span_context().span_id
assert not trace.get_current_span().is_recording()
print("seen")
"""


def test_a_runtime_context_of_the_programs_own_holds_contexts_only() -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", FOREIGN], env=environ, capture_output=True, text=True, timeout=60)
    assert done.stdout == "seen\n", done.stderr
