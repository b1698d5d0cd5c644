"""The line of the user's own code that an error began at, and whose it is: as it stands on the failing span."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lighttrace
from lighttrace.testing import capture
from lighttrace.testing.spans import CapturedSpan

CODE = """
import asyncio
import contextlib
import functools
import json

def raises():
    raise KeyError("country")  # line 8

def in_the_library():
    return json.loads("{")  # line 11

def decorated_by(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

@decorated_by
@functools.lru_cache
def decorated():
    raises()

class Rules:
    def check(self):
        return [self.one(n) for n in range(1)]

    def one(self, n):
        raise ValueError(n)  # line 29

def translated():
    try:
        raises()
    except KeyError as error:
        raise RuntimeError("no rule") from error  # line 35

async def awaited():
    await asyncio.sleep(0)
    raises()

async def gathered():
    await asyncio.gather(asyncio.sleep(0), awaited())

@contextlib.contextmanager
def managed():
    yield
    raises()

def in_a_context_manager():
    with managed():
        pass

def generated():
    yield 1
    raises()

def grouped():
    errors = []
    for step in (in_the_library, raises):
        try:
            step()
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("both", errors)
"""


@pytest.fixture
def rules(tmp_path: Path) -> dict[str, Any]:
    """A module of team risk, in a repository, as a dictionary of its names."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "CODEOWNERS").write_text("* @org/payments\n/fraud/ @org/risk\n")
    (tmp_path / "fraud").mkdir()
    path = tmp_path / "fraud" / "rules.py"
    path.write_text(CODE)
    names: dict[str, Any] = {"__name__": "fraud.rules", "__file__": str(path), "root": tmp_path}
    exec(compile(CODE, str(path), "exec"), names)
    return names


def failing(rules: dict[str, Any], call: Callable[[], Any]) -> CapturedSpan:
    with capture(directory=str(rules["root"]), team="payments") as spans:
        with pytest.raises(BaseException), lighttrace.span("request"):  # each case raises what it likes
            call()
        return spans.expect(name="request", status="error")


def place(span: CapturedSpan) -> tuple[Any, ...]:
    keys = ("code.file.path", "code.function.name", "code.line.number", "lighttrace.error.team")
    return tuple(span.attributes.get(key) for key in keys)


@pytest.mark.parametrize(
    ("call", "function", "line"),
    [
        ("raises", "raises", 8),
        ("in_the_library", "in_the_library", 11),
        ("decorated", "raises", 8),
        ("translated", "raises", 8),
        ("in_a_context_manager", "raises", 8),
    ],
)
def test_innermost_line_of_the_users_own(rules: dict[str, Any], call: str, function: str, line: int) -> None:
    assert place(failing(rules, rules[call])) == ("fraud/rules.py", function, line, "risk")


def test_method_is_named_with_its_class(rules: dict[str, Any]) -> None:
    file, function, line, team = place(failing(rules, lambda: rules["Rules"]().check()))
    assert (file, line, team) == ("fraud/rules.py", 29, "risk")
    assert function == ("Rules.one" if sys.version_info >= (3, 11) else "one")


@pytest.mark.parametrize("name", ["awaited", "gathered"])
def test_in_a_coroutine_and_a_task_of_its_own(rules: dict[str, Any], name: str) -> None:
    assert place(failing(rules, lambda: asyncio.run(rules[name]()))) == ("fraud/rules.py", "raises", 8, "risk")


def test_in_a_generator(rules: dict[str, Any]) -> None:
    assert place(failing(rules, lambda: list(rules["generated"]()))) == ("fraud/rules.py", "raises", 8, "risk")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_of_a_group_the_place_of_its_first(rules: dict[str, Any]) -> None:
    assert place(failing(rules, rules["grouped"])) == ("fraud/rules.py", "in_the_library", 11, "risk")


def test_error_of_a_library_with_no_line_of_the_users_own_names_the_caller(rules: dict[str, Any]) -> None:
    with capture(directory=str(rules["root"]), team="payments") as spans:
        with pytest.raises(ValueError, match="bad"), lighttrace.span("outer"):
            raise_it = compile("def f(): raise ValueError('bad')", "<string>", "exec")
            names: dict[str, Any] = {}
            exec(raise_it, names)
            names["f"]()
        span = spans.expect(name="outer")
    assert str(span.attributes["code.file.path"]).endswith("test_frames.py")
    assert span.attributes["code.function.name"].endswith(
        "test_error_of_a_library_with_no_line_of_the_users_own_names_the_caller"
    )
