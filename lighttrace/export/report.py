"""What processes say of the spans they dropped, for `lighttrace doctor`, which runs in a process of its own.

One small file for each process that dropped any, in a directory of the user's below the temporary one, for a day.
"""

import json
import os
import time
from typing import Any

_DAY = 86_400.0
_MOST = 100  # files that are kept


def _directory(make: bool = False) -> str | None:
    """Where the files are; None if that is not a directory of this user's own."""
    base = os.environ.get("TMPDIR") or os.environ.get("TEMP") or "/tmp"  # noqa: S108  # checked below
    path = os.path.join(base, f"lighttrace-{os.getuid() if hasattr(os, 'getuid') else 'user'}")
    try:
        if make:
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass
        found = os.lstat(path)
        import stat

        own = stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())
        return path if own else None
    except OSError:
        return None


def write(service: str, stats: dict[str, Any]) -> None:
    """Leave the books of this process where the doctor finds them. Does nothing where that cannot be."""
    directory = _directory(make=True)
    if directory is None:
        return
    path = os.path.join(directory, f"{os.getpid()}.json")
    entry = {"service": service, "pid": os.getpid(), "at": time.time(), **stats}
    try:
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(entry, file)
        os.replace(path + ".new", path)
    except OSError:
        pass


def _files(directory: str) -> list[tuple[float, str]]:
    try:
        with os.scandir(directory) as entries:
            return [(entry.stat(follow_symlinks=False).st_mtime, entry.path) for entry in entries]
    except OSError:  # one of them has just gone
        return []


def read(service: str) -> list[dict[str, Any]]:
    """What processes of that service dropped within a day, the latest first. Older files are removed."""
    directory = _directory()
    found = []
    if directory is None:
        return []
    for number, (written, path) in enumerate(sorted(_files(directory), reverse=True)):
        try:
            if number >= _MOST or time.time() - written > _DAY:
                os.unlink(path)
                continue
            with open(path, encoding="utf-8") as file:
                entry = json.loads(file.read(10_000))
            if entry["service"] == service and isinstance(entry["dropped"], dict):
                found.append(entry)
        except (OSError, ValueError, TypeError, KeyError):
            continue  # another process is writing it, or it is none of ours
    return sorted(found, key=lambda entry: -entry["at"])
