"""Where things stand on the disk: the repository around a file, its CODEOWNERS, and the folders where catalogs may be."""

import os
import stat
from collections.abc import Iterable, Iterator

from lighttrace.ownership.codeowners import PLACES

_LEVELS = 32
_FOLDERS = frozenset(place.rpartition("/")[0] for place in PLACES) - {""}


def above(folder: str) -> Iterator[str]:
    """A folder and those above it, up to the repository's root. A shared one, such as /tmp, is not trusted."""
    first = folder
    for _ in range(_LEVELS):
        try:
            mode = os.stat(folder).st_mode
        except OSError:
            mode = 0  # in a zip, or gone: what is above it may be there
        if folder == first or not (mode & stat.S_ISVTX and mode & stat.S_IWOTH):
            yield folder
        parent = os.path.dirname(folder)
        if parent == folder or os.path.exists(os.path.join(folder, ".git")):
            return
        folder = parent


def codeowners_in(folder: str) -> str | None:
    """The CODEOWNERS of a repository whose root `folder` is."""
    for place in PLACES:
        path = os.path.join(folder, *place.split("/"))
        if os.path.isfile(path):
            return path
    return None


def root_of(folder: str) -> tuple[str | None, str | None]:
    """The root of the repository around a folder, and its CODEOWNERS.

    The nearest folder with a CODEOWNERS in one of its places is the root; else the one with `.git`.
    """
    for here in above(folder):
        path = codeowners_in(here)
        if path is not None:
            parent, name = os.path.split(here)
            if name in _FOLDERS and os.path.dirname(path) == here and not os.path.exists(os.path.join(here, ".git")):
                return parent, codeowners_in(parent)  # we came from inside docs/: the file is about the folder above
            return here, path
        if os.path.exists(os.path.join(here, ".git")):
            return here, None
    return None, None


def root_for(codeowners: str) -> str:
    """The root that a CODEOWNERS file is about."""
    folder = os.path.dirname(os.path.abspath(codeowners))
    return os.path.dirname(folder) if os.path.basename(folder) in _FOLDERS else folder


def search_path(starts: Iterable[str]) -> Iterator[str]:
    """Each of these folders and those above it, each once."""
    seen = set()
    for start in starts:
        for folder in above(start):
            if folder not in seen:
                seen.add(folder)
                yield folder
