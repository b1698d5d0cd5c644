"""The files that say who owns what, each found and read once."""

import os
import threading
from typing import TYPE_CHECKING, Any

from lighttrace import guard

if TYPE_CHECKING:
    from lighttrace.config import Config
    from lighttrace.ownership.codeowners import CodeOwners
    from lighttrace.ownership.manifest import Manifest

_MISSING: Any = object()
_MOST = 10_000
_MOST_TOLD = 10  # broken lines of one file; the command tells all
_MANIFEST = "lighttrace-owners.json"
_LIBRARIES = ("site-packages", "dist-packages")


def tell(problems: list[str]) -> None:
    """One line in the log for each."""
    for problem in problems:
        guard.log(f"ownership.{problem}", problem)


class Files:
    """Roots of repositories, their CODEOWNERS, manifests, and what the configuration names (`team_sources`)."""

    def __init__(self, config: "Config", *, manifests: bool = True) -> None:
        self._config = config
        self._use_manifests = manifests
        self._roots: dict[str, tuple[str | None, str | None]] = {}
        self._codeowners: dict[str, CodeOwners | None] = {}
        self._by_folder: dict[str, Manifest | None] = {}
        self._manifests: dict[str, Manifest | None] = {}
        self._given: tuple[list[tuple[str, str]], list[Manifest], list[str]] | None = None
        self._lock = threading.RLock()
        self._process = os.getpid()

    def root(self, folder: str) -> tuple[str | None, str | None]:
        """The root of the repository around a folder, and its CODEOWNERS; else the project's directory."""
        found = self._roots.get(folder)
        if found is None:
            from lighttrace.ownership.repository import root_of

            found = root_of(folder)
            if found[0] is None and self._config.project_dir is not None:
                project = self._config.project_dir.rstrip(os.sep)
                if (folder + os.sep).startswith(project + os.sep):
                    found = project, None
            if len(self._roots) > _MOST:
                self._roots.clear()
            self._roots[folder] = found
        return found

    def codeowners(self, path: str) -> "CodeOwners | None":
        """A CODEOWNERS file; None if it cannot be read."""
        found = self._codeowners.get(path, _MISSING)
        if found is not _MISSING:
            return found  # type: ignore[no-any-return]  # what was put there
        from lighttrace.ownership.codeowners import CodeOwners

        if self._process != os.getpid():  # a fork while another thread read: the child has no such thread to wait for
            self._process, self._lock = os.getpid(), threading.RLock()
        problems: list[str] = []
        with self._lock:  # all others wait, so that a large file is read once. Nothing is imported or logged in here
            if path not in self._codeowners:
                self._codeowners[path] = _read_codeowners(CodeOwners, path, problems)
        tell(problems)
        return self._codeowners[path]

    def given(self) -> "tuple[list[tuple[str, str]], list[Manifest], list[str]]":
        """The files that the configuration names: CODEOWNERS with their roots, manifests, catalogs."""
        if self._given is None:
            owners, manifests, catalogs, problems = [], [], [], []
            for given in self._config.team_source_paths:
                from lighttrace.ownership import discovery
                from lighttrace.ownership.repository import root_for

                path = os.path.abspath(os.path.join(self._config.project_dir or "", given))
                name = os.path.basename(path)
                if not os.path.isfile(path):
                    problems.append(f"team_sources: there is no file {path}; it is ignored")
                elif name.startswith("CODEOWNERS"):
                    owners.append((root_for(path), path))
                elif name.endswith(".json"):
                    manifest = self._read_manifest(path)
                    manifests += [manifest] if manifest is not None else []
                elif name in discovery.NAMES:
                    catalogs.append(path)
                else:
                    problems.append(f"team_sources: {path} is no CODEOWNERS, manifest or catalog file; it is ignored")
            self._given = owners, manifests, catalogs
            tell(problems)
        return self._given

    def manifest_of(self, file: str) -> "Manifest | None":
        """The manifest in the package around a file, or above several packages."""
        first = folder = os.path.dirname(file)
        known = self._by_folder.get(folder, _MISSING)
        if known is not _MISSING:
            return known  # type: ignore[no-any-return]  # what was put there
        from lighttrace.ownership.repository import above

        found: Manifest | None = None
        for folder in above(first):
            if os.path.basename(folder) in _LIBRARIES:
                break
            found = self.manifest_in(folder)
            if found is not None:
                break
        if len(self._by_folder) > _MOST:
            self._by_folder.clear()
        self._by_folder[first] = found
        return found

    def manifest_in(self, folder: str) -> "Manifest | None":
        """The manifest that stands in a folder."""
        path = os.path.join(folder, _MANIFEST)
        return self._read_manifest(path) if path in self._manifests or os.path.isfile(path) else None

    def manifests(self) -> "list[Manifest]":
        """Those that were read so far."""
        return [manifest for manifest in list(self._manifests.values()) if manifest is not None]

    def _read_manifest(self, path: str) -> "Manifest | None":
        if not self._use_manifests:
            return None
        if path not in self._manifests:
            from lighttrace.ownership import manifest

            made = None
            try:
                made = manifest.read(path)
            except (OSError, ValueError) as error:
                tell([f"{path} is ignored: {error}"])
            self._manifests[path] = made
        return self._manifests[path]


def _read_codeowners(made: "type[CodeOwners]", path: str, problems: list[str]) -> "CodeOwners | None":
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            owners = made(file.read(), path)
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror}")
        return None
    problems.extend(owners.problems[:_MOST_TOLD])
    if len(owners.problems) > _MOST_TOLD:
        more = len(owners.problems) - _MOST_TOLD
        problems.append(f"{path}: {more} more lines are broken; `lighttrace owners check` lists them")
    _ = owners.index  # made ready while the others wait
    return owners
