"""Any value that a program hands over becomes something that OTLP can carry."""

import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import math
import pathlib
import uuid
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lighttrace.tracing.limits import Limits
from lighttrace.tracing.values import exportable
from tests.tracing.conftest import Tracing

INT64 = range(-(2**63), 2**63)


class Colour(enum.Enum):
    RED = 1


class Code(enum.IntEnum):
    OK = 200


class Kind(str, enum.Enum):  # not StrEnum, which Python 3.10 has not
    A = "a"


class Text(str):
    """A str that may carry anything along."""

    __slots__ = ("more",)


class Number(int):
    def __str__(self) -> str:
        return "not the number"


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Numpy:
    """What a numpy scalar or array looks like, where numpy is not installed."""

    dtype = "float64"

    def __init__(self, value: Any) -> None:
        self.value = value

    def tolist(self) -> Any:
        return self.value


class Endless(deque[int]):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


Point = namedtuple("Point", "x y")


def check(value: Any, depth: int = 0) -> None:
    """AssertionError unless the value is one that OTLP has a form for, all the way down."""
    assert depth <= 9
    if type(value) is int:
        assert value in INT64
    elif type(value) is tuple:
        for item in value:
            check(item, depth + 1)
    elif type(value) is dict:
        for key, item in value.items():
            assert type(key) is str
            check(item, depth + 1)
    else:
        assert value is None or type(value) in (str, bool, float, bytes), type(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (decimal.Decimal("1.50"), "1.50"),
        (fractions.Fraction(1, 3), "1/3"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc), "2026-01-02T03:04:05+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.timedelta(seconds=90), "0:01:30"),
        (ipaddress.ip_address("::1"), "::1"),
        (Colour.RED, "Colour.RED"),
        (Code.OK, 200),
        (Kind.A, "a"),
        (Text("text"), "text"),
        (Number(5), 5),
        (Point(1, 2), (1, 2)),
        ({"a": {"b": [1, None]}}, {"a": {"b": (1, None)}}),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict({1: "one"}), {"1": "one"}),
        (range(3), (0, 1, 2)),
        (deque([1]), (1,)),
        (frozenset({1}), (1,)),
        (b"\xff\x00", b"\xff\x00"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (None, None),
        (True, True),
        (1.5, 1.5),
        (math.inf, math.inf),
        ([], ()),
        ({}, {}),
        (Numpy(1.5), 1.5),
        (Numpy([[1, 2], [3, 4]]), ((1, 2), (3, 4))),
        (ValueError("no"), "no"),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_a_value_becomes_its_nearest_form(value: Any, expected: Any) -> None:
    got = exportable(value)
    assert got == expected
    assert type(got) is type(expected)
    check(got)


if find_spec("numpy") is not None:  # what it looks like from outside is tested above in any case

    def test_numpy_values_become_pythons() -> None:
        import numpy as np

        for value, expected in [
            (np.float64(1.5), 1.5),
            (np.float32(1.5), 1.5),
            (np.int64(3), 3),
            (np.bool_(True), True),
            (np.str_("a"), "a"),
            (np.array([1, 2]), (1, 2)),
        ]:
            got = exportable(value)
            assert (got, type(got)) == (expected, type(expected))


def test_what_cannot_even_be_printed_becomes_the_name_of_its_type() -> None:
    assert exportable(Broken()) == f"<{__name__}.Broken>"
    assert exportable([Broken(), 1]) == (f"<{__name__}.Broken>", 1)


def test_a_number_too_long_to_print_is_contained() -> None:
    check(exportable(10**5000))  # Python refuses to turn it into decimal text


def test_a_structure_that_holds_itself_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    check(exportable(loop))
    table: dict[str, Any] = {}
    table["self"] = table
    check(exportable(table))


def test_long_and_deep_structures_are_bounded() -> None:
    assert len(exportable(list(range(100_000)))) <= 1000
    assert len(exportable({number: number for number in range(100_000)})) <= 1000
    nested: Any = 1
    for _ in range(10_000):
        nested = [nested]
    check(exportable(nested))


def test_wide_and_deep_structures_are_bounded() -> None:
    bush: Any = "leaf"
    for _ in range(8):
        bush = [bush] * 10  # a hundred million leaves in all, and ten lists
    assert count(exportable(bush)) <= 20_000


def count(value: Any) -> int:
    return 1 + sum(map(count, value)) if type(value) is tuple else 1


def test_a_collection_without_end_is_bounded() -> None:
    check(exportable(Endless([1])))


def test_text_that_is_no_utf_8_survives_until_it_is_encoded(tracing: Tracing) -> None:
    span = tracing.tracer.start_span("broken")
    span.set_attribute("surrogate", "a\ud800b")
    span.end()
    assert tracing.take().attributes["surrogate"] == "a\ud800b"


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.uuids()
    | st.datetimes()
    | st.timedeltas()
    | st.fractions()
    | st.ip_addresses()
    | st.complex_numbers()
    | st.sampled_from([Colour.RED, Code.OK, Kind.A, Broken(), object()])
    | st.characters(categories=["Cs"]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner)
        | st.tuples(inner)
        | st.frozensets(st.integers())
        | st.builds(Numpy, inner)
    ),
    max_leaves=20,
)


@given(anything)
def test_every_value_can_be_exported(value: Any) -> None:
    check(exportable(value))


@given(anything, st.integers(0, 5))
def test_every_text_in_a_value_keeps_the_limit(value: Any, limit: int) -> None:
    def within(item: Any) -> bool:
        if isinstance(item, str | bytes):
            return len(item) <= limit
        if isinstance(item, dict):
            return all(map(within, item.values()))
        return all(map(within, item)) if isinstance(item, tuple) else True

    assert within(exportable(value, limit))


@given(st.dictionaries(st.text() | st.integers() | st.none(), anything), anything, anything)
def test_every_value_can_be_set_anywhere_on_a_span(attributes: dict[Any, Any], key: Any, value: Any) -> None:
    for limits in (None, Limits(attribute_length=3, attributes=2, event_attributes=2)):
        tracing = Tracing(limits=limits)
        with tracing.tracer.start_as_current_span("any", attributes=attributes) as span:
            span.set_attribute(key, value)
            span.set_attributes(attributes)
            span.add_event("any", attributes)
            span.add_link(span.get_span_context(), attributes)
            span.record_exception(ValueError(value), attributes)
        done = tracing.take()
        for mapping in (done.attributes, *(event.attributes for event in done.events), *(link.attributes for link in done.links)):
            for name, item in mapping.items():
                assert type(name) is str
                check(item)


@given(anything)
def test_plain_is_never_claimed_of_a_span_that_is_not(value: Any) -> None:
    tracing = Tracing()
    span = tracing.tracer.start_span("plain", attributes={"a": value})
    span.set_attribute("b", value)
    span.end()
    done = tracing.take()
    if done._shared.plain:
        assert all(type(item) in (str, int) for item in done._attributes.values())


def test_names_and_keys_that_have_no_text_break_nothing() -> None:
    broken: Any = Broken()
    tracing = Tracing()
    with tracing.tracer.start_as_current_span(broken) as span:
        span.set_attribute(broken, 1)
        span.set_attributes({broken: 2})
        span.add_event(broken, {broken: 3})
        span.update_name(broken)
    done = tracing.take()
    assert done._name.endswith(".Broken>")
    assert list(done._attributes.values()) == [2]
