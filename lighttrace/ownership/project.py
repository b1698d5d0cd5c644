"""All of a project at once: its files, modules and routes, what nobody owns, and what can never decide anything.

For `lighttrace owners check` and `build`; nothing of it is loaded in a traced program.
"""

import ast
import os
import subprocess
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from lighttrace.ownership import manifest as manifests
from lighttrace.ownership.codeowners import CodeOwners
from lighttrace.ownership.repository import codeowners_in, root_of

if TYPE_CHECKING:
    from lighttrace.ownership.resolver import Resolver

_NOT_CODE = frozenset({"node_modules", "site-packages", "dist-packages", "__pycache__", "build", "dist", "venv"})
_ROUTES = frozenset("route get post put delete patch head options trace query websocket api_route add_url_rule Route WebSocketRoute Mount path re_path add_api_route add_route".split())  # fmt: skip
_GIT_SECONDS = 30


class Finding(NamedTuple):
    """Something that `check` complains about. `kind` is `broken`, `unowned`, `unused` or `stale`."""

    kind: str
    where: str
    message: str


def files_below(folder: str) -> list[str]:
    """The files of a project, absolute: what git knows or would add, else (or if that is nothing) all not hidden, built or installed."""
    try:
        known = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=folder, capture_output=True, timeout=_GIT_SECONDS, check=True,
        ).stdout  # fmt: skip
        found = [os.path.join(folder, os.fsdecode(name)) for name in known.split(b"\0") if name]
    except (OSError, subprocess.SubprocessError):
        found = []
    # Git also knows nothing of a folder that the repository around it ignores.
    return sorted(path for path in found if os.path.isfile(path)) or sorted(_walk(folder))


def _walk(folder: str) -> Iterator[str]:
    for directory, names, files in os.walk(folder):
        names[:] = [
            name
            for name in names
            if (not name.startswith(".") or name in (".github", ".gitlab"))
            and name not in _NOT_CODE
            and not os.path.exists(os.path.join(directory, name, "pyvenv.cfg"))
        ]
        yield from (os.path.join(directory, name) for name in files)


def is_module(path: str) -> bool:
    """Whether a file is Python that somebody imports or runs."""
    return path.endswith(".py") and not any(part in _NOT_CODE for part in path.split(os.sep)[:-1])


def routes_in(path: str) -> list[str]:
    """The routes that a file declares with the usual decorators and calls, as far as they are literal strings."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, ValueError, SyntaxError, RecursionError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            given = [*node.args[:1], *[keyword.value for keyword in node.keywords if keyword.arg in ("path", "rule")]]
            literal = given[0].value if given and isinstance(given[0], ast.Constant) else None
            if name in _ROUTES and isinstance(literal, str) and literal.startswith("/"):
                found.append(literal)
    return found


def check(resolver: "Resolver", folder: str) -> tuple[list[Finding], dict[str, int]]:
    """Everything wrong with the owners of what is below `folder`, and how many modules each team owns."""
    root = root_of(folder)[0] or folder
    everything = files_below(root)
    inside = folder.rstrip(os.sep) + os.sep
    modules = [path for path in everything if is_module(path) and path.startswith(inside)]
    findings: list[Finding] = []
    teams: dict[str, int] = {}
    for path in modules:
        decision = resolver.decide(path)
        owner = decision.team or resolver.config.team
        if decision.team is None and owner is None and decision.where is None:
            default = resolver.default
            owner = default.team if default is not None else None
        if owner is None:
            shown = _relative(path, root)
            why = f"{decision.where} says so: {decision.line}" if decision.where is not None else "no line, rule or default"
            routes = routes_in(path)
            serves = f"; it serves {', '.join(routes[:5])}{', …' if len(routes) > 5 else ''}" if routes else ""
            findings.append(Finding("unowned", shown, f"nobody owns it ({why}){serves}"))
        else:
            teams[owner] = teams.get(owner, 0) + 1
    codeowners = codeowners_in(root)
    if codeowners is not None:
        findings += _check_codeowners(codeowners, root, everything)
    findings += _check_rules(resolver, modules, root)
    findings += _check_manifests(resolver, everything, root)
    return findings, teams


def _check_codeowners(path: str, root: str, files: list[str]) -> Iterator[Finding]:
    with open(path, encoding="utf-8", errors="replace") as file:
        owners = CodeOwners(file.read(), _relative(path, root))
    for problem in owners.problems:
        place, _, message = problem.partition(": ")
        yield Finding("broken", place, message)
    relative = [_relative(file, root) for file in files]
    every = owners.make_index(every=True)
    matching: dict[int, str] = {}
    deciding: set[int] = set()
    for name in relative:
        for number in every.hits(name):
            matching.setdefault(number, name)
        deciding.update(rule.line for rule in owners.find_all(name))
    for number, rule in enumerate(owners.rules):
        if rule.line in deciding:
            continue
        where, text = f"{owners.path}:{rule.line}", " ".join([f"{'!' if rule.excludes else ''}{rule.pattern}", *rule.owners])
        if number not in matching:
            yield Finding("unused", where, f"no file matches: {text}")
        elif not rule.excludes:
            yield Finding("unused", where, f"other lines decide all that it matches: {text}")


def _check_rules(resolver: "Resolver", modules: list[str], root: str) -> Iterator[Finding]:
    rules = resolver.config.rules
    names = {name for path in modules for name in manifests.module_names(path, root)} if rules else set()
    routes = {route for path in modules for route in routes_in(path)} if any("route" in rule for rule in rules) else set()
    where = resolver.config.sources.get("rules", "rules")
    for number, rule in enumerate(rules):
        text = ", ".join(f"{key} = {value!r}" for key, value in rule.items())
        label = f"{where} rule {number + 1}"
        later = next((place for place, other in enumerate(rules[number + 1 :], number + 2) if _covers(other, rule)), None)
        if later is not None:
            yield Finding("unused", label, f"rule {later} decides all that it matches: {text}")
        elif "module" in rule and not any(fnmatchcase(name, rule["module"]) for name in names):
            yield Finding("unused", label, f"no module matches: {text}")
        elif "route" in rule and routes and not any(_may_match(rule["route"], route) for route in routes):
            yield Finding("unused", label, f"no route that the code declares matches: {text}")


def _covers(other: dict[str, str], rule: dict[str, str]) -> bool:
    """Whether a rule matches wherever another does: each of its globs is the same one, or matches anything."""
    return all(key in rule and value in (rule[key], "*") for key, value in other.items() if key != "team")


def _may_match(glob: str, route: str) -> bool:
    """Whether a glob can match a declared route below some prefix, which only the running application knows."""
    pieces = glob.split("/")
    return any(fnmatchcase(route, "/" + "/".join(pieces[start:])) for start in range(len(pieces))) or fnmatchcase(route, glob)


def _check_manifests(resolver: "Resolver", files: list[str], root: str) -> Iterator[Finding]:
    for path in files:
        if os.path.basename(path) == manifests.NAME:
            where = _relative(path, root)
            try:
                found = manifests.read(path)
            except (OSError, ValueError) as error:
                yield Finding("broken", where, str(error))
                continue
            folder = os.path.dirname(path)
            fresh = owners_of([file for file in files if is_module(file)], folder, found.package, resolver)
            if {name: entry.get("team") for name, entry in fresh.items()} != {
                name: team for name, (team, _) in found.modules.items()
            }:
                yield Finding("stale", where, "it is older than what it was made from; run `lighttrace owners build` again")


def owners_of(files: Iterable[str], folder: str, package: str | None, resolver: "Resolver") -> dict[str, dict[str, Any]]:
    """What a manifest in `folder` says of these files."""
    inside = folder.rstrip(os.sep) + os.sep
    made: dict[str, dict[str, Any]] = {}
    for path in files:
        if path.startswith(inside):
            decision = resolver.decide(path)
            entry: dict[str, Any] = {"team": decision.team}
            if decision.where is not None:
                entry["rule"] = decision.where if decision.source == "codeowners" else f"{decision.where} {decision.line}"
            made[manifests.dotted(package, path[len(inside) :])] = entry
    made.pop("", None)  # an __init__.py above several packages
    return made


def packages_below(folder: str) -> list[str]:
    """The outermost packages: folders with an `__init__.py` whose parent has none."""
    found = []
    for path in files_below(folder):
        directory, name = os.path.split(path)
        if (
            name == "__init__.py"
            and is_module(path)
            and not os.path.exists(os.path.join(os.path.dirname(directory), "__init__.py"))
        ):
            found.append(directory)
    return sorted(found)


def _relative(path: str, root: str) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")
