"""Who owns what, from everything that the configuration and the repository say.

The constructor reads nothing. Files are found and read when first needed, once, by one thread; every answer is kept, in
tables that do not grow without bound.
"""

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from lighttrace import guard
from lighttrace.ownership.files import Files, tell

if TYPE_CHECKING:
    from lighttrace.config import Config
    from lighttrace.ownership.discovery import Found
    from lighttrace.ownership.frames import Place
    from lighttrace.ownership.manifest import Manifest
    from lighttrace.ownership.rules import Peers, Rules
    from lighttrace.ownership.usercode import UserCode

_MISSING: Any = object()
_MOST = 10_000
_MOST_CONTACTS = 64
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Decision(NamedTuple):
    """Whose a file is, and what said so.

    `source` is `rule` (the configuration), `codeowners` (the file or a manifest made from it), `default` (the service's) or
    None; `where` the deciding file, relative to its repository, and line; `line` what stands there; `owners` all that the line names,
    and `others` the lines of other sections that claim the file too.
    """

    team: str | None
    source: str | None = None
    where: str | None = None
    line: str | None = None
    owners: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


_NOBODY = Decision(None)


class Resolver:
    """Answers, from caches, which team a file, function, route, span or peer belongs to. Never raises.

    `start` is where the search for the service's own files begins: the program's folder and the current one, unless given.
    Without `manifests` only the repository is asked, as whoever makes one must.
    """

    def __init__(self, config: "Config", *, start: str | None = None, manifests: bool = True) -> None:
        self.config = config
        self._start = start
        self.has_rules = bool(config.rules)
        self._code: dict[tuple[str | None, str | None], tuple[str, str] | None] = {}
        self._peers: dict[tuple[str, int | None], tuple[str | None, str | None] | None] = {}
        self._files = Files(config, manifests=manifests)
        self._rules: Rules | None = None
        self._peer_table: Peers | None = None
        self._own: UserCode | None = None
        self._default: Found | None = _MISSING

    # -- the service's default ----------------------------------------------------------------------------------

    @property
    def default_team(self) -> str | None:
        """The service's owner where the configuration names none: manifest, catalog files, the `*` line of CODEOWNERS."""
        found = self.default
        return found.team if found is not None else None

    @property
    def default(self) -> "Found | None":
        """The same, with the file that says so."""
        if self._default is _MISSING:
            problems: list[str] = []
            try:
                self._default = self._find_default(problems)
            except Exception as error:
                self._default = None
                guard.site("ownership.default").failed(error)
            tell(problems)
        return self._default

    def _find_default(self, problems: list[str]) -> "Found | None":
        from lighttrace.ownership import discovery
        from lighttrace.ownership.repository import search_path

        rename = self.config.team_aliases
        given, manifests, catalogs = self._files.given()
        starts = self._starts()
        for manifest in [*manifests, *self._manifests_of_program(starts)]:
            if manifest.default is not None:
                return discovery.Found(manifest.default, manifest.path)
        found = None
        for catalog in catalogs:
            found = found or discovery.read(catalog, self.config.service, problems)
        found = found or discovery.find(search_path(starts), self.config.service, problems)
        if found is not None:
            return found._replace(team=_renamed(found.team, rename))
        paths = [*[path for _, path in given], *[self._files.root(start)[1] for start in starts]]
        for path in dict.fromkeys(paths):
            owners = self._files.codeowners(path) if path is not None else None
            line = owners.default if owners is not None else None
            if owners is not None and line is not None:
                return discovery.Found(_renamed(line.owners[0], rename), f"{path}:{line.line}")
        return None

    def _starts(self) -> list[str]:
        """The folders where the search for the service's own files begins: the program's and the current one."""
        from lighttrace import project_file

        if self._start is not None:
            return [self._start]
        # The command is no part of the program.
        starts = [start for start in project_file.directories(None) if not (start + os.sep).startswith(_OURS)]
        project = self.config.project_dir
        if project is not None and not any((start + os.sep).startswith(project.rstrip(os.sep) + os.sep) for start in starts):
            starts.insert(0, project)  # named by the configuration, and elsewhere
        return starts

    def _manifests_of_program(self, starts: list[str]) -> "list[Manifest]":
        """Those beside the program, and those in the packages that it has imported; if these disagree, none of them."""
        beside = [self._files.manifest_of(os.path.join(start, "_")) for start in starts]
        loaded = {}
        for name, module in list(sys.modules.items()):
            folders = getattr(module, "__dict__", {}).get("__path__") if "." not in name else None  # asks no lazy module
            if isinstance(folders, list) and folders and isinstance(folders[0], str):
                loaded[folders[0]] = self._files.manifest_in(folders[0])
        found = [manifest for manifest in loaded.values() if manifest is not None and manifest.default is not None]
        if len({manifest.default for manifest in found}) > 1:
            found = []
        return [manifest for manifest in [*beside, *found] if manifest is not None]

    # -- code ---------------------------------------------------------------------------------------------------

    def team_for_code(self, file: str | None, module: str | None) -> tuple[str, str] | None:
        """Team and source (`rule` or `codeowners`) of a source file of the program's own; None where nobody says."""
        key = (file, module)
        found = self._code.get(key, _MISSING)
        if found is _MISSING:
            try:
                decision = self._decide(file, module)
                found = (decision.team, decision.source) if decision.team is not None else None
            except Exception as error:
                found = None
                guard.site("ownership.code").failed(error)
            if len(self._code) > _MOST:
                self._code.clear()
            self._code[key] = found
        return found  # type: ignore[no-any-return]  # what was put there

    def team_for_function(self, function: Any) -> tuple[str, str] | None:
        """The same for a function or class, whatever it is wrapped in."""
        code = getattr(function, "__code__", None)
        if code is None or hasattr(function, "__wrapped__"):
            function = _unwrapped(function)
            code = getattr(function, "__code__", None)
        module = getattr(function, "__module__", None)
        if code is not None:
            return self.team_for_code(code.co_filename, module)
        if not isinstance(function, type):  # an object that can be called
            module = getattr(type(function), "__module__", module)
        return self.team_for_code(_file_of(module), module)

    def team_for_span(self, name: str, route: str | None, module: str | None, peer: str | None) -> tuple[str, str] | None:
        """The last explicit rule that matches."""
        if not self.has_rules:
            return None
        try:
            team = self._explicit.find(name, route, module, peer)
        except Exception as error:
            guard.site("ownership.rules").failed(error)
            return None
        return (team, "rule") if team is not None else None

    def explain(self, path: str) -> Decision:
        """Whose a file is and which line of which file decided, for people. Raises nothing but OSError."""
        decision = self.decide(path)
        if decision.where is not None:  # a line that says nobody says something, too
            return decision
        if self.config.team is not None:
            return Decision(self.config.team, "default", self.config.sources.get("team"))
        found = self.default
        return Decision(found.team, "default", found.path) if found is not None else decision

    def decide(self, path: str) -> Decision:
        """The same without the service's default."""
        from lighttrace.ownership.manifest import module_names

        file = os.path.abspath(path)
        return self._decide_own(file, module_names(file, self._files.root(os.path.dirname(file))[0]))

    @property
    def _explicit(self) -> "Rules":
        if self._rules is None:
            from lighttrace.ownership.rules import Rules

            self._rules = Rules(self.config.rules)
        return self._rules

    def _decide(self, file: str | None, module: str | None) -> Decision:
        """For code that runs: only the program's own is somebody's."""
        if file is None or not self.is_user_code(file):
            # A view made by a framework has the framework's code and the user's module.
            other = _file_of(module)
            if other is not None and self.is_user_code(other):
                file = other
            elif self.has_rules and module is not None:
                return self._ruled([module])
            else:
                return _NOBODY
        file = os.path.abspath(file)
        names = [module] if module is not None and module != "__main__" else []
        if not names and self.has_rules:
            from lighttrace.ownership.manifest import module_names

            names = module_names(file, self._files.root(os.path.dirname(file))[0])
        return self._decide_own(file, names)

    def _decide_own(self, file: str, names: list[str]) -> Decision:
        ruled = self._ruled(names)
        if ruled.team is not None:
            return ruled
        given, given_manifests, _ = self._files.given()
        found = self._files.manifest_of(file)
        for manifest in [*given_manifests, *([found] if found is not None else [])]:
            entry = manifest.find(file, names[0] if names else None)
            if entry is not None:
                return Decision(entry[0], "codeowners" if entry[0] is not None else None, self.shown(manifest.path), entry[1])
        root, path = next(((root, path) for root, path in given if file.startswith(root + os.sep)), (None, None))
        if root is None:
            root, path = self._files.root(os.path.dirname(file))
        if path is None and os.path.realpath(file) != file:  # a farm of symbolic links, as build tools make it
            file = os.path.realpath(file)
            root, path = self._files.root(os.path.dirname(file))
        owners = self._files.codeowners(path) if path is not None else None
        if owners is None or root is None or path is None:
            return _NOBODY
        relative = _below(root, file)
        line = owners.find(relative)
        if line is None:
            return _NOBODY
        others = [other for other in owners.find_all(relative) if other != line and other.owners]
        return Decision(
            _renamed(line.owners[0], self.config.team_aliases) if line.owners else None,
            "codeowners" if line.owners else None,
            f"{_below(root, path)}:{line.line}",
            " ".join([line.pattern, *line.owners]),
            line.owners,
            tuple([f"{_below(root, path)}:{other.line}: {' '.join([other.pattern, *other.owners])}" for other in others]),
        )

    def _ruled(self, names: list[str]) -> Decision:
        modules = self._explicit.modules if self.has_rules else None
        found = modules.find(names) if modules else None
        if found is None:
            return _NOBODY
        number, team = found
        what = f"rule {number + 1}: module = {self.config.rules[number]['module']!r}"
        return Decision(team, "rule", self.config.sources.get("rules"), what)

    # -- peers and contacts -------------------------------------------------------------------------------------

    def peer(self, address: str, port: int | None) -> tuple[str | None, str | None] | None:
        """Service and team of the other side, from the table of peers."""
        key = (address, port)
        found = self._peers.get(key, _MISSING)
        if found is _MISSING:
            try:
                if self._peer_table is None:
                    from lighttrace.ownership.rules import Peers

                    self._peer_table = Peers(self.config.peers)
                found = self._peer_table.find(address, port)
            except Exception as error:
                found = None
                guard.site("ownership.peers").failed(error)
            if len(self._peers) > _MOST:
                self._peers.clear()
            self._peers[key] = found
        return found  # type: ignore[no-any-return]  # what was put there

    def contact(self, team: str) -> tuple[str | None, str | None]:
        """How to reach a team, and its URL: from the configuration, a manifest, or the catalog file that named the team."""
        for table in (self.config.teams, *[manifest.teams for manifest in self._files.manifests()]):
            entry = table.get(team)
            if isinstance(entry, dict):
                return entry.get("contact"), entry.get("url")
        found = self._default if self._default is not _MISSING else None  # only if it was asked for: nothing is read here
        return (found.contact, found.url) if found is not None and found.team == team else (None, None)

    def contacts(self) -> tuple[str, ...]:
        """`team=contact url` of every team that the configuration or a manifest tells how to reach, at most 64."""
        tables = [self.config.teams, *[manifest.teams for manifest in self._files.manifests()]]
        told: dict[str, str] = {}
        for table in tables:
            for team, entry in table.items():
                if isinstance(entry, dict) and len(told) < _MOST_CONTACTS:
                    reach = " ".join([str(entry[key]) for key in ("contact", "url") if entry.get(key)])
                    if reach:
                        told.setdefault(team, f"{team}={reach}"[:256])
        return tuple(told.values())

    # -- the failing line ---------------------------------------------------------------------------------------

    def is_user_code(self, filename: str) -> bool:
        """Whether a file is the program's own, and neither a library's nor Python's nor ours."""
        if self._own is None:
            from lighttrace.ownership.usercode import UserCode

            self._own = UserCode(self._is_marked)
        return self._own.owns(filename)

    def _is_marked(self, path: str) -> bool:
        manifest = self._files.manifest_of(path)
        return manifest is not None and manifest.find(path, None) is not None

    def failing_frame_of(self, error: BaseException) -> tuple[str, str, int, str | None] | None:
        """File, function, line and team of the innermost frame of the user's own where the exception began.

        What it was raised `from` is asked first, and what a group holds before the group.
        """
        from lighttrace.ownership.frames import caller, innermost, origins

        for origin in origins(error):
            place = innermost(origin.__traceback__, self.is_user_code)
            if place is not None:
                return self._failing(place)
        # Raised in a library that was called from a seam of ours: the innermost caller that is the user's own.
        place = caller(error.__traceback__, self.is_user_code)
        return self._failing(place) if place is not None else None

    def failing_frame(self, trace: TracebackType | None) -> tuple[str, str, int, str | None] | None:
        """The same for a traceback."""
        from lighttrace.ownership.frames import caller, innermost

        place = innermost(trace, self.is_user_code) or caller(trace, self.is_user_code)
        return self._failing(place) if place is not None else None

    def _failing(self, place: "Place") -> tuple[str, str, int, str | None]:
        owner = self.team_for_code(place.file, place.module)
        return self.shown(place.file), place.function, place.line, owner[0] if owner is not None else None

    def shown(self, file: str) -> str:
        """A file's path relative to its repository or its package, with `/`; absolute where it is in neither."""
        path = os.path.abspath(file)
        manifest = self._files.manifest_of(path)
        root = self._files.root(os.path.dirname(path))[0]
        if root is None and manifest is not None:
            root = manifest.folder if manifest.package is None else os.path.dirname(manifest.folder)
        return _below(root, path) if root is not None else path.replace(os.sep, "/")


def _below(root: str, path: str) -> str:
    """A path relative to a folder, with `/`; as it is where it lies elsewhere."""
    start = root.rstrip(os.sep) + os.sep
    return (path.removeprefix(start)).replace(os.sep, "/")


def _renamed(owner: str, aliases: dict[str, str]) -> str:
    from lighttrace.ownership.codeowners import team_name

    return team_name(owner, aliases)


def _unwrapped(function: Any) -> Any:
    """What is inside partials, methods and functions that wear another's name."""
    import functools

    for _ in range(32):
        inner = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
        if inner is None and isinstance(function, functools.partial | functools.partialmethod):
            inner = function.func
        if inner is None:
            break
        function = inner
    return function


def _file_of(module: Any) -> str | None:
    found = getattr(sys.modules.get(module), "__file__", None) if isinstance(module, str) else None
    return found if isinstance(found, str) else None
