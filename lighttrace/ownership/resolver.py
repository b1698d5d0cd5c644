"""Who owns what, from everything that the configuration and the repository say. Files are read when first needed, once."""

import os
import sys
import threading
from fnmatch import fnmatchcase
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lighttrace import guard
from lighttrace.ownership.codeowners import PLACES, CodeOwners, team_name

if TYPE_CHECKING:
    from lighttrace.config import Config

_MISSING: Any = object()
_MOST = 10_000


class Resolver:
    """Answers, from caches, which team a file, function, route, span or peer belongs to. Never raises."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        self.rules = tuple(config.rules)
        self.has_rules = bool(self.rules)
        self._code: dict[Any, tuple[str, str] | None] = {}
        self._peers: dict[tuple[str, int | None], tuple[str | None, str | None] | None] = {}
        self._user: dict[str, bool] = {}
        self._files: dict[str, CodeOwners | None] = {}
        self._lock = threading.Lock()

    # -- the service's default ----------------------------------------------------------------------------------

    @property
    def default_team(self) -> str | None:
        """The `*` line of CODEOWNERS, where nothing else names a team for the service."""
        try:
            root = self._root_of(self._start())
            owners = self._codeowners(root) if root else None
            if owners is not None:
                for rule in reversed(owners.rules):
                    if rule.pattern in ("*", "/*", "/**", "**") and rule.owners:
                        return team_name(rule.owners[0], self.config.team_aliases)
        except Exception as error:
            guard.site("ownership.default").failed(error)
        return None

    # -- code ---------------------------------------------------------------------------------------------------

    def team_for_code(self, file: str | None, module: str | None) -> tuple[str, str] | None:
        """Team and source (`rule` or `codeowners`) of a source file."""
        key = (file, module)
        found = self._code.get(key, _MISSING)
        if found is _MISSING:
            found = self._look_up(file, module)
            if len(self._code) > _MOST:
                self._code.clear()
            self._code[key] = found
        return found  # type: ignore[no-any-return]  # what was put there

    def team_for_function(self, function: Any) -> tuple[str, str] | None:
        """The same for a function, whatever it is wrapped in."""
        for _ in range(32):
            inner = (
                getattr(function, "__wrapped__", None) or getattr(function, "func", None) or getattr(function, "__func__", None)
            )
            if inner is None:
                break
            function = inner
        code = getattr(function, "__code__", None)
        module = getattr(function, "__module__", None)
        if code is not None:
            return self.team_for_code(code.co_filename, module)
        if not isinstance(function, type):
            function = type(function)
            module = function.__module__
        file = getattr(sys.modules.get(module or ""), "__file__", None)
        return self.team_for_code(file, module)

    def team_for_span(self, name: str, route: str | None, module: str | None, peer: str | None) -> tuple[str, str] | None:
        """The last explicit rule that matches."""
        given = {"span": name, "name": name, "route": route, "module": module, "peer": peer}
        for rule in reversed(self.rules):
            keys = [key for key in rule if key in given]
            if keys and all(given[key] is not None and fnmatchcase(str(given[key]), rule[key]) for key in keys):
                return rule["team"], "rule"
        return None

    def explain(self, path: str) -> tuple[str | None, str]:
        """The team that owns a file, and the rule that says so in words: for people, so nothing is cached."""
        full = os.path.abspath(path)
        root = self._root_of(full)
        owners = self._codeowners(root) if root else None
        if owners is None or root is None:
            return None, "there is no CODEOWNERS file above it"
        shown = os.path.relpath(os.path.realpath(full), os.path.realpath(root)).replace(os.sep, "/")
        line = owners.find(shown)
        if line is None:
            return None, f"no line of {owners.path} matches {shown}"
        where = f"{owners.path}:{line.line}: {' '.join((line.pattern, *line.owners))}"
        return (team_name(line.owners[0], self.config.team_aliases) if line.owners else None), where

    def _look_up(self, file: str | None, module: str | None) -> tuple[str, str] | None:
        try:
            for rule in reversed(self.rules):
                if (
                    set(rule) <= {"module", "team"}
                    and module is not None
                    and "module" in rule
                    and fnmatchcase(module, rule["module"])
                ):
                    return rule["team"], "rule"
            if file is None:
                return None
            root = self._root_of(os.path.abspath(file))
            owners = self._codeowners(root) if root else None
            if owners is None or root is None:
                return None
            line = owners.find(os.path.relpath(os.path.realpath(file), os.path.realpath(root)).replace(os.sep, "/"))
            if line is not None and line.owners:
                return team_name(line.owners[0], self.config.team_aliases), "codeowners"
        except Exception as error:
            guard.site("ownership.code").failed(error)
        return None

    # -- files --------------------------------------------------------------------------------------------------

    def _start(self) -> str:
        main = getattr(sys.modules.get("__main__"), "__file__", None)
        return os.path.abspath(main) if main else os.path.join(os.getcwd(), "_")

    def _root_of(self, file: str) -> str | None:
        """The nearest folder above that has a CODEOWNERS file, no further up than the repository's root."""
        folder = os.path.dirname(file)
        while True:
            if any(os.path.isfile(os.path.join(folder, place)) for place in PLACES):
                return folder
            above = os.path.dirname(folder)
            if above == folder or os.path.exists(os.path.join(folder, ".git")):
                return None
            folder = above

    def _codeowners(self, root: str) -> CodeOwners | None:
        if root not in self._files:
            with self._lock:
                found = None
                for place in PLACES:
                    path = os.path.join(root, place)
                    if os.path.isfile(path):
                        with open(path, encoding="utf-8", errors="replace") as file:
                            found = CodeOwners(file.read(), place)
                        for problem in found.problems:
                            guard.log(f"codeowners.{problem}", problem)
                        break
                self._files[root] = found
        return self._files[root]

    # -- peers and contacts -------------------------------------------------------------------------------------

    def peer(self, address: str, port: int | None) -> tuple[str | None, str | None] | None:
        """Service and team of the other side, from the table of peers."""
        key = (address, port)
        found = self._peers.get(key, _MISSING)
        if found is _MISSING:
            found = None
            for glob, entry in self.config.peers.items():
                if fnmatchcase(address, glob) or fnmatchcase(f"{address}:{port}", glob):
                    found = entry.get("service"), entry.get("team")
                    break
            if len(self._peers) > _MOST:
                self._peers.clear()
            self._peers[key] = found
        return found  # type: ignore[no-any-return]  # what was put there

    def contact(self, team: str) -> tuple[str | None, str | None]:
        """Channel and URL of a team."""
        entry = self.config.teams.get(team, {})
        return entry.get("contact"), entry.get("url")

    # -- the failing line ---------------------------------------------------------------------------------------

    def is_user_code(self, filename: str) -> bool:
        """Whether a file is the program's own, and neither a library's nor Python's nor ours."""
        known = self._user.get(filename)
        if known is None:
            path = os.path.abspath(filename)
            known = not (
                filename.startswith("<")
                or f"{os.sep}site-packages{os.sep}" in path
                or f"{os.sep}dist-packages{os.sep}" in path
                or path.startswith((_STDLIB, _OURS))
            )
            if f"{os.sep}lighttrace{os.sep}_shop{os.sep}" in path:
                known = True
            if len(self._user) > _MOST:
                self._user.clear()
            self._user[filename] = known
        return known

    def failing_frame_of(self, error: BaseException) -> tuple[str, str, int, str | None] | None:
        """File, function, line and team of the innermost frame that is the user's own, of the first error in a group."""
        for _ in range(32):
            inner = getattr(error, "exceptions", None)
            if not inner or not isinstance(error, _GROUP):
                break
            error = inner[0]
        return self.failing_frame(error.__traceback__)

    def failing_frame(self, trace: TracebackType | None) -> tuple[str, str, int, str | None] | None:
        """The same for a traceback. Keeps no frame alive."""
        found = None
        outside = trace.tb_frame.f_back if trace is not None else None
        while trace is not None:
            code = trace.tb_frame.f_code
            if self.is_user_code(code.co_filename):
                found = (
                    code.co_filename,
                    getattr(code, "co_qualname", code.co_name),
                    trace.tb_lineno,
                    trace.tb_frame.f_globals.get("__name__"),
                )
            trace = trace.tb_next
        # Raised in a library that was called from a seam of ours: the innermost caller that is the user's own.
        for _ in range(64):
            if found is not None or outside is None:
                break
            code = outside.f_code
            if self.is_user_code(code.co_filename):
                found = (
                    code.co_filename,
                    getattr(code, "co_qualname", code.co_name),
                    outside.f_lineno,
                    outside.f_globals.get("__name__"),
                )
            outside = outside.f_back
        if found is None:
            return None
        file, function, line, module = found
        owner = self.team_for_code(file, module)
        return self._shown(file), function, line, owner[0] if owner is not None else None

    def _shown(self, file: str) -> str:
        path = os.path.abspath(file)
        root = self._root_of(path) or self.config.project_dir
        shown = os.path.relpath(path, root) if root and path.startswith(root + os.sep) else path
        return shown.replace(os.sep, "/")


_STDLIB = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_GROUP: Any = getattr(__import__("builtins"), "BaseExceptionGroup", ())
