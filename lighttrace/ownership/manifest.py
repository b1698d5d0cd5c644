"""Owners for where the repository is not: a manifest in the package itself, made by `lighttrace owners build`.

    {"lighttrace-owners": 1, "package": "checkout", "default": null,
     "modules": {"checkout": {"team": "payments", "rule": "CODEOWNERS:2"}, "checkout.fraud": {"team": "risk", ...}},
     "teams": {"payments": {"contact": "#payments-oncall"}}}

It stands as `lighttrace-owners.json` in the package's directory, where wheels and images carry it, or above several
packages (`"package": null`), and is found there from a module's file; nothing is imported for it.
"""

import os
from typing import Any

NAME = "lighttrace-owners.json"
VERSION = 1

_MOST_BYTES = 64 << 20


class Manifest:
    """A manifest that was read. `folder` is where it stands: the directory of `package`, or the one above several."""

    __slots__ = ("default", "folder", "modules", "package", "path", "teams")

    def __init__(self, content: Any, path: str) -> None:
        if not isinstance(content, dict) or content.get("lighttrace-owners") != VERSION:
            raise ValueError(f"it is no manifest of version {VERSION}; make it again with `lighttrace owners build`")
        modules, teams = content.get("modules"), content.get("teams")
        self.path = path
        self.folder = os.path.dirname(path)
        self.package = _text(content.get("package"))
        self.default = _text(content.get("default"))
        self.teams: dict[str, Any] = teams if isinstance(teams, dict) else {}
        self.modules: dict[str, tuple[str | None, str | None]] = {}
        for name, entry in modules.items() if isinstance(modules, dict) else ():
            if isinstance(entry, dict):
                self.modules[name] = _text(entry.get("team")), _text(entry.get("rule"))

    def find(self, file: str | None, module: str | None) -> tuple[str | None, str | None] | None:
        """Team and deciding line of a module, by its file's place in the package or by its name; None if it is not in here.

        A module that came later than the manifest belongs to whoever has the package around it.
        """
        name = self.name_of(file) or module
        while name:
            if name in self.modules:
                return self.modules[name]
            name = name.rpartition(".")[0]
        return None

    def name_of(self, file: str | None) -> str | None:
        """The dotted name of a file below the manifest."""
        if file is None or not file.startswith(self.folder + os.sep):
            return None
        return dotted(self.package, file[len(self.folder) + 1 :])


def dotted(package: str | None, relative: str) -> str:
    """The module that a file of a package is.

    >>> dotted("checkout", "fraud/__init__.py"), dotted("checkout", "app.py")
    ('checkout.fraud', 'checkout.app')
    """
    parts = relative.replace(os.sep, "/").split("/")
    parts[-1] = parts[-1].partition(".")[0]  # also of an extension module: fraud.cpython-311-x86_64-linux-gnu.so
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts if package is None else [package, *parts])


def read(path: str) -> Manifest:
    """Read a manifest. Raises OSError or ValueError."""
    import json

    with open(path, "rb") as file:
        return Manifest(json.loads(file.read(_MOST_BYTES)), path)


def write(path: str, package: str | None, default: str | None, modules: dict[str, Any], teams: dict[str, Any]) -> None:
    """Write a manifest, the same bytes for the same owners. Raises OSError."""
    import json

    content = {"lighttrace-owners": VERSION, "package": package, "default": default, "modules": modules, "teams": teams}
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def module_names(file: str, root: str | None) -> list[str]:
    """What a file may be imported as: by the packages it lies in first, then by the folders up to the repository's root."""
    path = os.path.abspath(file)
    folder, base = os.path.split(path)
    stem = base.partition(".")[0]
    parts = [] if stem == "__init__" else [stem]
    names = []
    inside = True
    for _ in range(32):
        inside = inside and os.path.isfile(os.path.join(folder, "__init__.py"))
        if not inside and parts:
            names.append(".".join(parts))
        if not inside and (root is None or folder == root or not folder.startswith(root)):
            break
        folder, part = os.path.split(folder)
        if not part:
            break
        parts.insert(0, part)
    return names


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
