"""`@trace` and `span` on everything that can be called."""

import asyncio
import functools
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace as otel
from opentelemetry.trace import SpanKind, StatusCode

import lighttrace
from lighttrace.tracing import manual
from lighttrace.tracing.owner import owner
from tests.tracing.conftest import Tracing


@lighttrace.trace
def module_level(cents: int, /, currency: str = "EUR", *, fast: bool = False) -> str:
    """Charge a card."""
    return f"{cents} {currency} {fast}"


@lighttrace.trace
async def module_coroutine() -> str:
    return "done"


class Till:
    @lighttrace.trace
    def method(self, amount: int) -> int:
        return amount

    @lighttrace.trace
    @classmethod
    def class_inside(cls) -> str:
        return cls.__name__

    @classmethod
    @lighttrace.trace
    def class_outside(cls) -> str:
        return cls.__name__

    @lighttrace.trace
    @staticmethod
    def static_inside() -> str:
        return "static"

    @staticmethod
    @lighttrace.trace
    def static_outside() -> str:
        return "static"

    @property
    @lighttrace.trace
    def prop(self) -> int:
        return 7

    @lighttrace.trace
    async def coroutine(self) -> str:
        return "async"


class SubTill(Till):
    pass


def test_a_function_is_a_span_named_as_it_is(tracing: Tracing) -> None:
    assert module_level(100, fast=True) == "100 EUR True"
    span = tracing.take()
    assert (span.name, span.kind, span.status.status_code) == ("module_level", SpanKind.INTERNAL, StatusCode.UNSET)


@pytest.mark.parametrize(
    ("call", "name", "result"),
    [
        (lambda: Till().method(3), "Till.method", 3),
        (Till.class_inside, "Till.class_inside", "Till"),
        (SubTill.class_inside, "Till.class_inside", "SubTill"),
        (SubTill().class_outside, "Till.class_outside", "SubTill"),
        (Till.static_inside, "Till.static_inside", "static"),
        (Till().static_outside, "Till.static_outside", "static"),
        (lambda: Till().prop, "Till.prop", 7),
    ],
)
def test_methods_of_every_kind_are_spans(tracing: Tracing, call: Callable[[], Any], name: str, result: Any) -> None:
    assert call() == result
    assert tracing.take().name == name


async def test_coroutines_are_spans_while_they_run(tracing: Tracing) -> None:
    awaiting = Till().coroutine()
    assert not tracing.spans
    assert await awaiting == "async"
    assert tracing.take().name == "Till.coroutine"


def test_what_is_decorated_looks_as_before() -> None:
    assert module_level.__name__ == "module_level"
    assert module_level.__doc__ == "Charge a card."
    assert str(inspect.signature(module_level)) == "(cents: int, /, currency: str = 'EUR', *, fast: bool = False) -> str"
    assert pickle.loads(pickle.dumps(module_level)) is module_level
    assert inspect.iscoroutinefunction(module_coroutine)
    assert not inspect.iscoroutinefunction(module_level)
    assert inspect.isfunction(vars(Till)["method"])
    assert isinstance(vars(Till)["class_inside"], classmethod)
    assert isinstance(vars(Till)["static_inside"], staticmethod)


def test_name_team_kind_and_attributes_can_be_given(tracing: Tracing) -> None:
    given = {"a": 1}

    @lighttrace.trace("charge", team="fraud", attributes=given, kind=SpanKind.CLIENT)
    def work() -> None:
        manual.current_span().set_attribute("b", 2)

    work()
    work()
    for span in tracing.spans:
        assert (span.name, span.kind, span.team) == ("charge", SpanKind.CLIENT, "fraud")
        assert dict(span.attributes) == {"a": 1, "b": 2, "team": "fraud", "lighttrace.team.source": "span"}
    assert given == {"a": 1}


def test_empty_parentheses_are_as_none(tracing: Tracing) -> None:
    @lighttrace.trace()
    def work() -> None: ...

    work()
    assert tracing.take().name.endswith("work")


def test_arguments_called_as_ours_are_the_functions_own(tracing: Tracing) -> None:
    @lighttrace.trace
    def work(name: str, team: str, **attributes: Any) -> tuple[Any, ...]:
        return name, team, attributes

    assert work(name="n", team="t", kind=1, attributes=2) == ("n", "t", {"kind": 1, "attributes": 2})
    assert "team" not in tracing.take().attributes


def test_an_exception_is_recorded_and_goes_on_as_the_same_object(tracing: Tracing) -> None:
    error = LookupError("gone")

    @lighttrace.trace
    def work() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        work()
    assert caught.value is error
    span = tracing.take()
    assert span.status.status_code is StatusCode.ERROR
    assert len(span.events) == 1


async def test_cancelling_a_coroutine_is_no_error(tracing: Tracing) -> None:
    started = asyncio.Event()

    @lighttrace.trace
    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tracing.take().status.status_code is StatusCode.UNSET


async def test_concurrent_calls_do_not_mix(tracing: Tracing) -> None:
    @lighttrace.trace("inner")
    async def inner(number: int) -> None:
        await asyncio.sleep(0)
        manual.current_span().set_attribute("number", number)

    @lighttrace.trace("outer")
    async def outer(number: int) -> None:
        manual.current_span().set_attribute("number", number)
        await asyncio.gather(inner(number), inner(number))

    await asyncio.gather(*(outer(number) for number in range(50)))
    outers = {span.context.span_id: span for span in tracing.spans if span.name == "outer"}
    inners = [span for span in tracing.spans if span.name == "inner"]
    assert len(inners) == 100
    for span in inners:
        assert span.parent is not None
        assert outers[span.parent.span_id].attributes["number"] == span.attributes["number"]


def test_recursion_nests(tracing: Tracing) -> None:
    @lighttrace.trace("down")
    def down(depth: int) -> int:
        return depth and down(depth - 1) + 1

    assert down(3) == 3
    parents = [span.parent.span_id if span.parent else None for span in tracing.spans]
    assert parents == [*(span.context.span_id for span in tracing.spans[1:]), None]


@pytest.mark.parametrize("wrapped", [functools.partial(module_level, 5), len])
def test_any_callable_can_be_decorated(tracing: Tracing, wrapped: Any) -> None:
    traced = lighttrace.trace(wrapped)
    assert traced(*([] if isinstance(wrapped, functools.partial) else ["abc"])) in ("5 EUR False", 3)
    assert tracing.spans[-1].name


def test_a_class_is_refused_with_a_reason() -> None:
    with pytest.raises(TypeError, match="decorate the methods of Till"):
        lighttrace.trace(Till)


def test_without_tracing_nothing_happens_and_nothing_breaks() -> None:
    assert manual.tracer() is None
    assert module_level(1) == "1 EUR False"
    with lighttrace.span("nothing", a=1) as span:
        span.set_attribute("a", 1)
        assert not span.is_recording()
    assert asyncio.run(module_coroutine()) == "done"
    assert not lighttrace.current_span().is_recording()


def test_a_span_may_be_made_before_tracing_is_switched_on() -> None:
    scope = lighttrace.span("early")
    tracing = Tracing()
    manual.use(tracing.provider)
    try:
        with scope:
            pass
    finally:
        manual.use(None)
    assert tracing.take().name == "early"


def test_tracing_switched_off_inside_a_span_leaves_nothing_behind() -> None:
    tracing = Tracing()
    manual.use(tracing.provider)
    before = otel.get_current_span()
    with lighttrace.span("open"):
        manual.use(None)
    assert otel.get_current_span() is before
    assert tracing.take().name == "open"


# -- span() ---------------------------------------------------------------------------------------------------------


def test_keywords_of_span_become_attributes(tracing: Tracing) -> None:
    with lighttrace.span("reserve", sku="A", count=2, name="own", **{"a.b": [1]}) as span:
        span.set(left=3).set_attribute("d", True)
    assert dict(tracing.take().attributes) == {"sku": "A", "count": 2, "name": "own", "a.b": (1,), "left": 3, "d": True}


def test_current_span_is_the_innermost(tracing: Tracing) -> None:
    with lighttrace.span("outer"), lighttrace.span("inner") as inner:
        assert lighttrace.current_span() is inner
    assert not lighttrace.current_span().is_recording()


def test_span_is_a_decorator_too(tracing: Tracing) -> None:
    @lighttrace.span("work", team="fraud", a=1)
    def work() -> None: ...

    @lighttrace.span("later")
    async def later() -> None: ...

    work()
    work()
    asyncio.run(later())
    assert [span.name for span in tracing.spans] == ["work", "work", "later"]
    assert tracing.spans[0].team == "fraud"
    assert tracing.spans[0].context.span_id != tracing.spans[1].context.span_id


async def test_span_works_with_async_with(tracing: Tracing) -> None:
    async with lighttrace.span("async") as span:
        assert lighttrace.current_span() is span
        await asyncio.sleep(0)
    assert tracing.take().name == "async"


def test_opentelemetrys_own_decorator_works(tracing: Tracing) -> None:
    @otel.get_tracer("otel").start_as_current_span("decorated", attributes={"a": 1})
    def work() -> int:
        return 1

    @otel.get_tracer("otel").start_as_current_span("async")
    async def later() -> int:
        return 2

    assert (work(), work(), asyncio.run(later())) == (1, 1, 2)
    assert [span.name for span in tracing.spans] == ["decorated", "decorated", "async"]
    assert dict(tracing.spans[1].attributes) == {"a": 1}


# -- teams ----------------------------------------------------------------------------------------------------------


class Resolver:
    """Knows who owns functions; counts how often it is asked."""

    has_rules = False

    def __init__(self) -> None:
        self.asked = 0

    def team_for_function(self, function: Any) -> tuple[str, str]:
        self.asked += 1
        return "risk", "codeowners"

    def failing_frame_of(self, error: BaseException) -> None:
        return None


@pytest.fixture
def owned() -> Any:
    made = Tracing(owner=owner("payments", "service"), resolver=Resolver())
    manual.use(made.provider)
    yield made
    manual.use(None)


def team_of(span: Any) -> tuple[str | None, str | None]:
    return span.attributes.get("team"), span.attributes.get("lighttrace.team.source")


def test_a_function_belongs_to_whoever_owns_its_file(owned: Tracing) -> None:
    @lighttrace.trace
    def check() -> None:
        with lighttrace.span("query"):
            pass

    for _ in range(3):
        check()
    assert team_of(owned.spans[0]) == ("risk", "parent")
    assert team_of(owned.spans[1]) == ("risk", "codeowners")
    assert owned.pipeline.resolver.asked == 1


def test_the_services_default_says_no_source(owned: Tracing) -> None:
    with lighttrace.span("plain"):
        pass
    assert team_of(owned.take()) == ("payments", None)


def test_the_nearest_says_whose_a_span_is(owned: Tracing) -> None:
    @lighttrace.trace
    def by_code() -> None: ...

    @lighttrace.trace(team="mine")
    def by_argument() -> None: ...

    with lighttrace.team("scope"):
        by_code()
        by_argument()
        with lighttrace.span("plain"):
            pass
        with lighttrace.span("given", team="given"):
            pass
    assert [team_of(span) for span in owned.spans] == [
        ("scope", "scope"),
        ("mine", "span"),
        ("scope", "scope"),
        ("given", "span"),
    ]


@pytest.mark.contained
def test_a_broken_resolver_leaves_the_default(contained: list[Any]) -> None:
    class Broken(Resolver):
        def team_for_function(self, function: Any) -> tuple[str, str]:
            raise RuntimeError("broken")

    made = Tracing(owner=owner("payments", "service"), resolver=Broken())
    manual.use(made.provider)

    @lighttrace.trace
    def work() -> int:
        return 1

    try:
        assert work() == 1
    finally:
        manual.use(None)
    assert made.take().team == "payments"
    assert contained
