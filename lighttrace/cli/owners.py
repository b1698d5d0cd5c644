"""`lighttrace owners`: who owns a file, and which line says so; what nobody owns; the manifest for where no repository is."""

import argparse
import json
import os
import sys

from lighttrace.config import load
from lighttrace.ownership import Resolver
from lighttrace.ownership.resolver import Decision

_LABELS = {
    "broken": "lines that cannot be read",
    "unowned": "modules that nobody owns",
    "unused": "lines and rules that never decide",
    "stale": "manifests that are out of date",
}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "owners",
        help="say who owns a file, check that everything has an owner, build the manifest",
        usage="lighttrace owners [--json] PATH…\n       lighttrace owners check [--json] [DIRECTORY]\n"
        "       lighttrace owners build [--output FILE] [PACKAGE…]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="PATH…   the team that owns each file, and the file and line that decided; a directory stands for the Python\n"
        "        files below it. Exits 1 if one of them has no owner.\n"
        "check   modules that nobody owns, lines and rules that never decide anything, lines that cannot be read. Exits 1 if\n"
        "        there are any: for CI.\n"
        "build   write lighttrace-owners.json into each package, so that wheels and images carry their owners along.",
    )
    parser.add_argument("words", metavar="PATH", nargs="*", help="files or directories; or check, or build (./check is a file)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line instead")
    parser.add_argument(
        "--output", metavar="FILE", help="build: one manifest for all packages, to stand in the folder above them"
    )


def run(options: argparse.Namespace) -> int:
    """Do what was asked for and give the exit code."""
    words = list(options.words)
    action = words.pop(0) if words and words[0] in ("check", "build") else "show"
    if action == "check":
        return _check(words, as_json=options.json)
    if action == "build":
        return _build(words, options.output)
    if not words:
        print("lighttrace owners: whose? Name files or directories, or check, or build", file=sys.stderr)
        return 2
    return _show(words, as_json=options.json)


# -- lighttrace owners PATH… ------------------------------------------------------------------------------------------


def _show(paths: list[str], *, as_json: bool) -> int:
    from lighttrace.ownership.project import files_below, is_module

    unowned = False
    resolvers: dict[str, Resolver] = {}
    for path in paths:
        if not os.path.exists(path):
            print(f"lighttrace owners: {path}: there is no such file", file=sys.stderr)
            unowned = True
            continue
        below = [path]
        if os.path.isdir(path):
            full = os.path.abspath(path)
            below = [os.path.join(path, os.path.relpath(file, full)) for file in files_below(full) if is_module(file)]
        for file in below:
            folder = os.path.dirname(os.path.abspath(file))
            resolver = resolvers.get(folder)
            if resolver is None:
                resolver = resolvers[folder] = Resolver(load(directory=folder), start=folder)
            decision = resolver.explain(file)
            unowned = unowned or decision.team is None
            print(_json(file, decision, resolver) if as_json else _line(file, decision))
    return 1 if unowned else 0


def _line(path: str, decision: Decision) -> str:
    shown = path.replace(os.sep, "/").removeprefix("./")
    text = f"{shown}: {decision.team or 'nobody'}   ({_why(decision)})"
    return "\n".join([text, *[f"    also {other}" for other in decision.others]])


def _why(decision: Decision) -> str:
    if decision.where is None:
        return "no line, rule or default"
    if decision.source == "default":
        return f"the service's default: {_near(decision.where)}"
    return f"{decision.where}: {decision.line}" if decision.line else decision.where


def _near(place: str) -> str:
    if not os.path.isabs(place):
        return place
    shown = os.path.relpath(place)
    return place if shown.startswith("..") else shown


def _json(path: str, decision: Decision, resolver: Resolver) -> str:
    contact, url = resolver.contact(decision.team) if decision.team else (None, None)
    file, _, line = (decision.where or "").rpartition(":")
    return json.dumps(
        {
            "path": path,
            "team": decision.team,
            "source": decision.source,
            "file": file if line.isdigit() else decision.where,
            "line": int(line) if line.isdigit() else None,
            "rule": decision.line,
            "owners": list(decision.owners),
            "also": list(decision.others),
            "contact": contact,
            "url": url,
        },
        ensure_ascii=False,
    )


# -- lighttrace owners check ------------------------------------------------------------------------------------------


def _check(words: list[str], *, as_json: bool) -> int:
    from lighttrace.ownership.project import check

    folder = os.path.abspath(words[0] if words else ".")
    if len(words) > 1 or not os.path.isdir(folder):
        print(f"lighttrace owners check: one directory is checked at a time; {' '.join(words)} is none", file=sys.stderr)
        return 2
    config = load(directory=folder)
    for warning in config.warnings:
        print(f"lighttrace owners check: {warning}", file=sys.stderr)
    findings, teams = check(Resolver(config, start=folder, manifests=False), folder)
    if as_json:
        for finding in findings:
            print(json.dumps(finding._asdict(), ensure_ascii=False))
        return 1 if findings else 0
    for kind, label in _LABELS.items():
        found = [finding for finding in findings if finding.kind == kind]
        if found:
            print(f"{label}:")
            for finding in found:
                print(f"  {finding.where}: {finding.message}")
    owned = ", ".join(f"{team} {count}" for team, count in sorted(teams.items(), key=lambda item: (-item[1], item[0])))
    total = sum(teams.values()) + sum(finding.kind == "unowned" for finding in findings)
    print(
        f"{total} modules: {owned or 'none has an owner'}. {f'{len(findings)} findings' if findings else 'Nothing to complain of'}."
    )
    return 1 if findings else 0


# -- lighttrace owners build ------------------------------------------------------------------------------------------


def _build(words: list[str], output: str | None) -> int:
    from lighttrace.ownership.project import packages_below

    packages = [os.path.abspath(word) for word in words] or packages_below(os.path.abspath("."))
    for package in packages:
        if not os.path.isdir(package):
            print(f"lighttrace owners build: {package} is no directory", file=sys.stderr)
            return 2
    if not packages:
        print("lighttrace owners build: there is no package here; name their directories", file=sys.stderr)
        return 1
    if output is not None:
        path = os.path.abspath(output)
        return _write(path, os.path.dirname(path), None, packages)
    return max(_write(os.path.join(package, _name()), package, os.path.basename(package), [package]) for package in packages)


def _name() -> str:
    from lighttrace.ownership.manifest import NAME

    return NAME


def _write(path: str, folder: str, package: str | None, packages: list[str]) -> int:
    from lighttrace.ownership import manifest
    from lighttrace.ownership.project import files_below, is_module, owners_of

    config = load(directory=packages[0])
    resolver = Resolver(config, start=packages[0], manifests=False)
    files = [file for directory in packages for file in files_below(directory) if is_module(file)]
    modules = owners_of(files, folder, package, resolver)
    default = config.team or resolver.default_team
    named = {entry["team"] for entry in modules.values() if entry["team"] is not None} | ({default} if default else set())
    teams = {team: config.teams[team] for team in sorted(named) if team in config.teams}
    try:
        manifest.write(path, package, default, modules, teams)
    except OSError as error:
        print(f"lighttrace owners build: {path} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    unowned = sum(entry["team"] is None for entry in modules.values())
    owned = sorted({entry["team"] for entry in modules.values() if entry["team"] is not None})
    print(
        f"{_near(path)}: {len(modules)} modules; {', '.join(owned) or 'no team'}{f'; {unowned} without an owner' if unowned else ''}"
    )
    return 0
