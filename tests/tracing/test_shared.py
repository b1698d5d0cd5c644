"""What spans have in common, and what they have in common beyond that."""

from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from lighttrace.tracing.settling import _claims
from lighttrace.tracing.shared import MIXED, NOTHING, NOTHING_OWN, Shared
from lighttrace.tracing.span import Span
from lighttrace.tracing.weight import weigh
from tests.tracing.conftest import Tracing


def status(code: int) -> dict[str, Any]:
    return {"http.response.status_code": code}


def test_more_is_remembered_from_the_second_time_on() -> None:
    target = Shared({"server.address": "a"})
    assert target.with_more(200, status(200)) is None
    more = target.with_more(200, status(200))
    assert more is not None and more is target.further[200]
    assert more.attributes == {"server.address": "a", "http.response.status_code": 200}
    assert target.attributes == {"server.address": "a"}
    assert (more.encoded, more.plain) == (None, True)


def test_only_a_few_are_remembered() -> None:
    target = Shared({"server.address": "a"})
    made = [target.with_more(code, status(code)) for code in range(100, 600)]
    assert len(target.further) == sum(more is not None for more in made) == 8


def test_where_nothing_is_shared_nothing_more_is() -> None:
    for empty in (NOTHING, MIXED):
        assert [empty.with_more(200, status(200)) for _ in range(3)] == [None] * 3
        assert not empty.further
    target = Shared({"server.address": "a"})
    target.with_more(200, status(200))
    assert not Shared({"server.address": "b"}).further


def test_a_span_with_nothing_of_its_own_gets_a_dict_when_something_is_set(tracing: Tracing) -> None:
    target = Shared({"server.address": "a"})
    first, second = (tracing.tracer.start("GET", SpanKind.CLIENT, NOTHING_OWN, None, None, target) for _ in range(2))
    first.set_attribute("cart.items", 3)
    for span in (first, second):
        span.end()
    assert [dict(span.attributes) for span in tracing.spans] == [
        {"server.address": "a", "cart.items": 3},
        {"server.address": "a"},
    ]
    assert (dict(NOTHING_OWN), target.attributes) == ({}, {"server.address": "a"})


def test_what_is_expected_again_remembers_the_first_that_is_added() -> None:
    target = Shared({"server.address": "a"})
    assert not target.lasts
    target.expect_more()
    assert target.lasts
    more = target.with_more(200, status(200))
    assert more is not None and more is target.further[200]
    target.expect_more()
    assert 200 in target.further
    for empty in (NOTHING, MIXED):
        empty.expect_more()
        assert not empty.lasts


@pytest.mark.parametrize("query", ["a=b", None])
def test_path_and_query_stand_on_the_span_until_something_is_set(tracing: Tracing, query: str | None) -> None:
    caller = Shared({"server.address": "a"})
    expected: dict[str, Any] = {"url.path": "/items"} if query is None else {"url.path": "/items", "url.query": query}
    usual, changed = (tracing.tracer.start("GET", SpanKind.SERVER, NOTHING_OWN, None, None, caller) for _ in range(2))
    for span in (usual, changed):
        span._path, span._query = "/items", query
        assert span.said() == expected
        assert weigh(span) > 600 + 80 * len(expected)
    changed.set_attribute("cart.items", 3)
    assert changed._own == {**caller.attributes, **expected, "cart.items": 3}
    changed.set_attribute("url.path", "/of/its/own")
    assert changed.said()["url.path"] == "/of/its/own"
    for span in (usual, changed):
        span.end()
    assert [dict(span.attributes) for span in tracing.spans] == [
        {**caller.attributes, **expected},
        {**caller.attributes, **expected, "url.path": "/of/its/own", "cart.items": 3},
    ]
    assert usual._own is NOTHING_OWN


class Interrupted(Span):
    """A span to which another thread comes while the `when`th look at its own attributes is being made."""

    __slots__ = ("kept", "others", "when")

    @property
    def _own(self) -> Any:  # type: ignore[override]
        seen = self.kept
        self.when -= 1
        if not self.when:
            self.others = self.own()
        return seen

    @_own.setter
    def _own(self, own: Any) -> None:
        self.kept = own


@pytest.mark.parametrize("when", [1, 2, 3])
def test_threads_that_ask_for_the_first_dict_at_once_get_the_same(when: int) -> None:
    span = Interrupted()
    span.kept, span.when, span._path = NOTHING_OWN, when, None
    assert span.own() is span.others is span.own()
    assert not _claims
