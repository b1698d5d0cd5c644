"""Row 25: what a decorator makes of a function has the function's type, for mypy as a user runs it."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.faults.conftest import Record
from tests.faults.running import PYTHON, TRACERS, needs

DECORATED = """
from collections.abc import AsyncIterator, Iterator
{setup}

@{decorator}
def function(sku: str, count: int = 1) -> float:
    return 1.0

@{decorator}
async def coroutine(sku: str) -> float:
    return 1.0

@{decorator}
def generator(sku: str) -> Iterator[int]:
    yield 1

@{decorator}
async def steps(sku: str) -> AsyncIterator[int]:
    yield 1

class Cart:
    @{decorator}
    def method(self, sku: str) -> int:
        return 1

    @classmethod
    @{decorator}
    def made(cls, sku: str) -> "Cart":
        return cls()

reveal_type(function)
reveal_type(coroutine)
reveal_type(generator)
reveal_type(steps)
reveal_type(Cart().method)
reveal_type(Cart.made)
"""
PLAIN = {"setup": "from typing import TypeVar\nT = TypeVar('T')\ndef same(given: T) -> T:\n    return given", "decorator": "same"}
OURS = {"setup": "import lighttrace", "decorator": "lighttrace.trace"}
THEIRS = {
    "setup": "from opentelemetry import trace\ntracer = trace.get_tracer('shop')",
    "decorator": "tracer.start_as_current_span('span')",
}


def revealed(directory: Path, words: dict[str, str]) -> list[str]:
    """What mypy says of each."""
    program = directory / "program.py"
    program.write_text(DECORATED.format(**words))
    command = [PYTHON, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(directory / "cache"), str(program)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)
    assert "error:" not in done.stdout, done.stdout + done.stderr
    return re.findall(r'Revealed type is "(.*)"', done.stdout)


@pytest.mark.slow
def test_a_decorated_function_keeps_its_type(tmp_path: Path, record: Record) -> None:
    needs("mypy")
    expected = revealed(tmp_path, PLAIN)
    assert len(expected) == 6
    seen = {}
    for tracer, words in zip(TRACERS, (OURS, THEIRS), strict=True):
        same = [kept == type_ for kept, type_ in zip(revealed(tmp_path, words), expected, strict=True)]
        seen[tracer] = f"{sum(same)} of {len(same)} keep their type"
    assert seen["lighttrace"] == "6 of 6 keep their type"
    record(25, "function, coroutine, generators, method and class method, decorated", seen["lighttrace"], seen["opentelemetry"])
