"""Which propagator is asked, in one question."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lighttrace.instrument import propagate


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """As in a program that has just started."""
    before = propagate.as_it_is()
    propagate.back_to((None, None, {"": None}, "", None))
    yield
    propagate.back_to(before)


class Module(SimpleNamespace):
    """`opentelemetry.propagate`, which keeps its propagator under one name or another."""

    def set_global_textmap(self, propagator: Any) -> None:
        setattr(self, self.name, propagator)

    def get_global_textmap(self) -> Any:
        return getattr(self, self.name)


def is_plain() -> bool:
    return propagate.watched[propagate.place] is propagate.plain


def test_before_anything_is_said_headers_are_written_by_hand() -> None:
    assert is_plain()
    assert propagate.chosen() is None


@pytest.mark.parametrize("name", ["_HTTP_TEXT_FORMAT", "propagator", "of_a_version_to_come"])
@pytest.mark.parametrize("fast", [True, False])
def test_what_the_program_chooses_is_heeded_once_it_can_choose(name: str, fast: bool) -> None:
    ours, theirs, module = object(), object(), Module(name=name)
    propagate.use(ours, fast=fast)
    assert (is_plain(), propagate.chosen()) == (fast, None if fast else ours)
    read_before = propagate.watched
    propagate.watch(module)
    assert read_before[propagate.place] is ours, "a thread may have read the one and not the other yet"
    assert (is_plain(), propagate.chosen()) == (fast, None if fast else ours)
    module.set_global_textmap(theirs)
    assert (is_plain(), propagate.chosen()) == (False, theirs)
    module.set_global_textmap(ours)
    assert (is_plain(), propagate.chosen()) == (fast, None if fast else ours)


def test_another_configuration_is_followed() -> None:
    module = Module(name="propagator")
    for fast in (True, False, True):
        ours = object()
        propagate.use(ours, fast=fast)
        propagate.watch(module)
        assert (is_plain(), propagate.chosen()) == (fast, None if fast else ours)
