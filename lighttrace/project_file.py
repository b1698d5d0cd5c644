"""The project's file: where `lighttrace.toml` or `[tool.lighttrace]` in `pyproject.toml` is looked for, and reading it."""

import os
import stat
import sys
from typing import Any

_LEVELS = 32  # directories looked at on the way up


def directories(start: str | None) -> list[str]:
    """Where the search for the project's file begins: the given directory, or the program's and the current one."""
    if start is not None:
        return [os.path.abspath(start)]
    found = []
    try:
        found.append(os.getcwd())
    except OSError:  # the current directory has been deleted
        pass
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is None:  # while `site` runs, the program is only known from the command line
        main = next((word for word in sys.orig_argv[1:] if word.endswith(".py")), None)
    if isinstance(main, str) and os.path.exists(main):
        home = os.path.dirname(os.path.abspath(main))
        # A console script or `python -m uvicorn` says nothing about the project: there, the current directory goes first.
        tool = os.path.basename(home) in ("bin", "Scripts") or "site-packages" in home
        found.insert(len(found) if tool else 0, home)
    return found


def find(start: str | None, problems: list[str]) -> tuple[str | None, str | None, dict[str, Any]]:
    """The project's directory, the name of its file, and its settings.

    Upwards from each start, the nearest `lighttrace.toml` or `pyproject.toml` with `[tool.lighttrace]` wins. The walk
    ends at the repository's root. A shared directory such as /tmp, where anybody may put a file, is not trusted.
    """
    project = None
    for first in directories(start):
        here = first
        for _ in range(_LEVELS):
            try:
                mode = os.stat(here).st_mode
                listing: tuple[str, ...] = ()
                if here == first or not (mode & stat.S_ISVTX and mode & stat.S_IWOTH):
                    listing = ("lighttrace.toml", "pyproject.toml")
            except OSError:
                break
            for candidate in listing:
                path = os.path.join(here, candidate)
                if not os.path.isfile(path):
                    continue
                project = project or here
                settings = read(path, problems)
                if settings is not None:
                    return here, candidate, settings
            above = os.path.dirname(here)
            if above == here or os.path.exists(os.path.join(here, ".git")):
                break
            here = above
        if project is not None:
            break
    return project, None, {}


def read(path: str, problems: list[str]) -> dict[str, Any] | None:
    """The settings in a file; None where it has none. What is wrong with it becomes one line in `problems`."""
    try:
        with open(path, "rb") as file:
            content = file.read(1 << 20)
    except OSError as error:
        problems.append(f"{path} cannot be read ({error.strerror}); it is ignored")
        return None
    inside = os.path.basename(path) == "pyproject.toml"
    if inside and b"lighttrace" not in content:
        return None  # the usual case, without the cost of a TOML parser
    try:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
    except ImportError:
        problems.append(f"{path} is ignored: Python 3.10 has no TOML parser; install tomli")
        return {}
    try:
        found: Any = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        problems.append(f"{path} is ignored, it is not valid TOML: {error}")
        return None if inside else {}
    if inside:
        found = found.get("tool")
        found = found.get("lighttrace") if isinstance(found, dict) else None
        if found is None:
            return None
    if not isinstance(found, dict):
        problems.append(f"{path} is ignored: tool.lighttrace is not a table")
        return {}
    return found
