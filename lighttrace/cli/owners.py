"""`lighttrace owners`: who owns a file, and which line says so."""

import argparse
import json
import os
import sys

from lighttrace.config import load
from lighttrace.ownership import Resolver


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "owners",
        help="say who owns a file, and which line of CODEOWNERS decides",
        description="Print the team that owns each file, and the file and line that decided. Exits 1 if one of them has no owner.",
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", help="files of the repository")
    parser.add_argument("--json", action="store_true", help="print one JSON object per file instead")


def run(options: argparse.Namespace) -> int:
    """Print an owner per path; gives 1 if one of them has none or does not exist."""
    unowned = False
    for path in options.paths:
        if not os.path.exists(path):
            print(f"lighttrace owners: {path}: there is no such file", file=sys.stderr)
            unowned = True
            continue
        directory = path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
        team, rule = Resolver(load(directory=directory)).explain(path)
        unowned = unowned or team is None
        if options.json:
            print(json.dumps({"path": path, "team": team, "rule": rule}, ensure_ascii=False))
        else:
            print(f"{path}: {team or 'nobody'}   ({rule})")
    return 1 if unowned else 0
