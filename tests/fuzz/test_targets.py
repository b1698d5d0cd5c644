"""Hostile input by default: anything at all, and what was nearly right. `nox -s fuzz` goes on for longer."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS

BIG_BYTES = 1 << 20
SECONDS = 20  # for a megabyte, on a slow and busy machine; what grows with the square would take minutes


@st.composite
def spoiled(draw: st.DrawFn, name: str) -> bytes:
    """A good input with pieces cut out, doubled or replaced; or nothing like it."""
    data = draw(st.sampled_from([*SEEDS[name], b""]))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 12)))
        data = data[:start] + draw(st.one_of(st.binary(max_size=12), st.just(data[start:end] * 2))) + data[end:]
    return data


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_nothing_that_a_stranger_sends_raises(name: str) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(spoiled(name))
    def feed(data: bytes) -> None:
        TARGETS[name](data)

    feed()


@pytest.mark.parametrize("name", ["otlp_json", "otlp_protobuf"])
def test_seeds_get_through(name: str) -> None:
    assert TARGETS[name](SEEDS[name][0]), "a seed that is refused leads no fuzzer anywhere"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_megabyte_takes_no_longer_than_it_must(name: str) -> None:
    for seed in [*SEEDS[name], b"a", b"(", b"[", b"'", b",", b"=", b"\n", b"{", b"%", b";a=", b"&x"]:
        data = seed * (BIG_BYTES // len(seed))
        begun = time.monotonic()
        TARGETS[name](data)
        took = time.monotonic() - begun
        assert took < SECONDS, f"{name} took {took:.1f} s for a megabyte of {seed[:30]!r}"
