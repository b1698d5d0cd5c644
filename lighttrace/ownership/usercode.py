"""Which code is the program's own: not Python's, not a library's, not ours.

It decides whose name stands beside an error, so a library that only lies in an unusual place (`pip install --target`)
is recognised too, by what installers leave beside it.
"""

import os
import sys
from collections.abc import Callable

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_SHOP = os.path.join(_OURS, "_shop") + os.sep  # the demo's services, which only live here
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_MOST = 10_000


class UserCode:
    """Remembers the answer for each file. `is_marked` tells of a file that a manifest of owners says is the program's own."""

    __slots__ = ("_installed", "_is_marked", "_known", "_python")

    def __init__(self, is_marked: Callable[[str], bool]) -> None:
        self._is_marked = is_marked
        self._known: dict[str, bool] = {}
        self._installed: dict[str, frozenset[str]] = {}
        self._python: tuple[str, ...] | None = None

    def owns(self, filename: str) -> bool:
        """Whether a file is the program's own."""
        known = self._known.get(filename)
        if known is None:
            known = self._look(filename)
            if len(self._known) > _MOST:
                self._known.clear()
            self._known[filename] = known
        return known

    def _look(self, filename: str) -> bool:
        if not filename or filename.startswith("<"):
            return False  # <string>, <frozen importlib._bootstrap>, <stdin>: there is no file to own
        path = os.path.abspath(filename)
        if path.startswith(_OURS):
            return path.startswith(_SHOP)
        if self._python is None:
            self._python = _python()
        if any(part in path for part in _INSTALLED) or self._is_installed(path):
            return self._is_marked(path)
        return not path.startswith(self._python)

    def _is_installed(self, path: str) -> bool:
        """Whether an installer put the file there, as its notes beside the package say."""
        top = path
        folder = os.path.dirname(path)
        while os.path.isfile(os.path.join(folder, "__init__.py")):
            top, folder = folder, os.path.dirname(folder)
        names = self._installed.get(folder)
        if names is None:
            names = _installed_in(folder)
            if len(self._installed) > _MOST:
                self._installed.clear()
            self._installed[folder] = names
        if names:
            return os.path.basename(top) in names
        above = os.path.dirname(folder)  # a namespace package: its parts have no __init__.py
        return bool(self._installed.get(above)) and os.path.basename(folder) in self._installed[above]


def _python() -> tuple[str, ...]:
    """Where Python's own modules are, and those of OpenTelemetry wherever it is."""
    found = {os.path.dirname(os.path.abspath(os.__file__))}
    found.add(os.path.realpath(os.path.dirname(os.__file__)))
    for name in ("opentelemetry", "wrapt"):
        module = sys.modules.get(name)
        found.update(os.path.abspath(path) for path in getattr(module, "__path__", ()))
    return tuple([path + os.sep for path in found])


def _installed_in(folder: str) -> frozenset[str]:
    """The packages and modules that the `.dist-info` folders beside them name."""
    names = set()
    try:
        entries = [entry for entry in os.listdir(folder) if entry.endswith(".dist-info")]
        for entry in entries:
            try:
                with open(os.path.join(folder, entry, "RECORD"), encoding="utf-8", errors="replace") as file:
                    for line in file:
                        first = line.split(",", 1)[0].strip('"').split("/", 1)[0]
                        if first and first != entry and first not in ("..", "bin"):
                            names.add(first)
            except OSError:
                continue
    except OSError:
        pass
    return frozenset(names)
