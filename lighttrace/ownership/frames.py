"""Where an exception began, in the program's own code. Keeps no frame, traceback or exception alive."""

from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, NamedTuple

_MOST_ERRORS = 64
_MOST_CALLERS = 64
_GROUP: Any = getattr(__import__("builtins"), "BaseExceptionGroup", ())  # Python 3.11 brought it
_ANONYMOUS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


class Place(NamedTuple):
    """A line of code."""

    file: str
    function: str
    line: int
    module: str | None


def origins(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that `error` is made of, in the order in which they are asked for the place.

    What it was raised `from` comes before it, and what a group holds before the group: they happened first.
    """
    yield from _origins(error, set())


def _origins(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    if id(error) in seen or len(seen) >= _MOST_ERRORS:  # a ring of causes, or a group of thousands
        return
    seen.add(id(error))
    if error.__cause__ is not None:
        yield from _origins(error.__cause__, seen)
    if _GROUP and isinstance(error, _GROUP):
        for inner in error.exceptions:
            yield from _origins(inner, seen)
    yield error


def innermost(trace: TracebackType | None, own: Callable[[str], bool]) -> Place | None:
    """The innermost line in a file of which `own` is true; None where the traceback never was in one."""
    found: Place | None = None
    while trace is not None:
        if own(trace.tb_frame.f_code.co_filename):
            found = _place(trace.tb_frame, trace.tb_lineno, found)
        trace = trace.tb_next
    return found


def caller(trace: TracebackType | None, own: Callable[[str], bool]) -> Place | None:
    """The same among those that called what the traceback begins with, while they still run."""
    frame = trace.tb_frame.f_back if trace is not None else None
    for _ in range(_MOST_CALLERS):
        if frame is None:
            return None
        if own(frame.f_code.co_filename):
            return _place(frame, frame.f_lineno, None)
        frame = frame.f_back
    return None


def _place(frame: FrameType, line: int, outer: Place | None) -> Place:
    code = frame.f_code
    name: str = getattr(code, "co_qualname", code.co_name).replace("<locals>.", "")  # Python 3.11 brought it
    for anonymous in _ANONYMOUS:  # part of the function around it
        name = name.removesuffix(f".{anonymous}")
        if name == anonymous and outer is not None and outer.file == code.co_filename:
            name = outer.function
    module = frame.f_globals.get("__name__")
    return Place(code.co_filename, name, line, module if isinstance(module, str) else None)
