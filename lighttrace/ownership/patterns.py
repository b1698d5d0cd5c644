"""Path patterns of CODEOWNERS, thousands at once: a trie over the segments of paths.

Every pattern becomes a row of segments (a name, a glob, or `**` for any number of folders), and says whether it means
the path itself (`exact`), what lies below it (`contents`), or both. A lookup walks the trie once along the path's
segments, so it costs what the path is long, not what the file has lines; where a folder leads is remembered, so its
second file costs one step.
"""

import re
from collections.abc import Iterable, Iterator

EVERYTHING: tuple[str, ...] = ()
"""The segments of a pattern that means every file."""

_MOST_FOLDERS = 10_000
_FEW_GLOBS = 4  # up to here they are simply tried one after another
_WILD = re.compile(r"[*?\[\\]")
_GITHUB_WILD = re.compile(r"[*?\\]")


def github(pattern: str) -> tuple[tuple[str, ...], bool, bool]:
    """Segments, exact, contents of a GitHub pattern: as in .gitignore, but `docs/*` is not recursive.

    >>> github("/docs/*"), github("apps/")
    ((('docs', '*'), True, False), (('**', 'apps'), False, True))
    """
    body = pattern.removesuffix("/")
    exact = body == pattern
    segments = body.removeprefix("/").split("/") if "/" in body else ["**", body]
    if "*" not in pattern:
        return tuple(segments), exact, True
    return _tidy(segments, exact, not exact or segments[-1] != "*")


def gitlab(pattern: str) -> tuple[tuple[str, ...], bool, bool]:
    """Segments, exact, contents of a GitLab pattern: Ruby's File.fnmatch, where a folder is only meant with its `/`.

    >>> gitlab("/docs/"), gitlab("lib/*.rb")
    ((('docs',), False, True), (('**', 'lib', '*.rb'), True, False))
    """
    if pattern in ("*", "/"):
        return EVERYTHING, False, True
    segments = pattern.split("/")
    if segments[0]:
        segments.insert(0, "**")
    else:
        del segments[0]
    if not segments[-1]:
        return _tidy(segments[:-1], False, True)
    if segments[-1] == "**":  # without a slash behind it, it is one star
        segments[-1] = "*"
    return _tidy(segments, True, False)


def _tidy(segments: list[str], exact: bool, contents: bool) -> tuple[tuple[str, ...], bool, bool]:
    if segments[-2:] == ["**", "*"] and exact and not contents:
        del segments[-2:]  # every file below
        exact, contents = False, True
    while segments and segments[-1] == "**":
        del segments[-1]
        exact, contents = False, True
    kept = [segment for index, segment in enumerate(segments) if segment != "**" or segments[index - 1 : index] != ["**"]]
    return tuple(kept), exact, contents


Row = tuple[tuple[str, ...], bool, bool]
"""Segments, exact, contents."""


class Index:
    """Numbered patterns. `hits` gives the numbers of those that match a path, of equal kind only the highest.

    `kinds` says of which kind a number is; None is for files in which one line alone decides. With `every`, nothing is
    left out, for whoever wants to know which lines match at all.

    The trie grows where lookups come by: making an index only sorts the patterns by their first segment.
    """

    __slots__ = ("_every", "_folders", "_kinds", "_root", "_rows", "_wild")

    def __init__(
        self, rows: list[Row], *, kinds: "list[tuple[int, bool]] | None" = None, sets: bool = False, every: bool = False
    ) -> None:
        self._rows = rows
        self._kinds = kinds
        self._every = every
        self._wild = _WILD if sets else _GITHUB_WILD
        self._root = _Node(0)
        self._root.waiting = list(range(len(rows)))
        self._grow(self._root)
        self._folders: dict[str, tuple[tuple[int, ...], tuple[_Node, ...]]] = {
            "": (self._root.contents or (), self._closed([self._root]))
        }

    def _grow(self, node: "_Node") -> None:
        """Sort the patterns that wait at a place into the places behind it. Two threads may both do it, to the same end."""
        rows, depth, wild = self._rows, node.depth, self._wild
        waiting = node.waiting
        if waiting is None:
            return
        children: dict[str, _Node] = {}  # by the segment as it is written
        names: dict[str, _Node] = {}
        globs: list[_Glob] = []
        stars: _Node | None = None
        exact: tuple[int, ...] | None = None
        contents: tuple[int, ...] | None = None
        for number in waiting:
            row = rows[number]
            segments = row[0]
            if len(segments) == depth:
                if row[1]:
                    exact = self._merged(exact, number)
                if row[2]:
                    contents = self._merged(contents, number)
                continue
            segment = segments[depth]
            child = children.get(segment)
            if child is None:
                child = children[segment] = _Node(depth + 1)
                name = segment if wild.search(segment) is None else _literal(segment, sets=wild is _WILD)
                if name is not None:
                    child = children[segment] = names.setdefault(name, child)
                elif segment == "**":
                    stars = child
                    stars.repeats = True
                else:
                    globs.append(_Glob(segment, child, sets=wild is _WILD))
            child.waiting.append(number)  # type: ignore[union-attr]  # made here, so it still waits
        node.names, node.stars, node.exact, node.contents = names, stars, exact, contents
        node.globs = globs if len(globs) <= _FEW_GLOBS else _Sorted(globs)
        node.waiting = None  # last: who sees it finds the rest

    def _merged(self, known: tuple[int, ...] | None, number: int) -> tuple[int, ...]:
        if known is None or (self._kinds is None and not self._every):
            return (number,)
        return self._reduced([*known, number])

    def _reduced(self, numbers: list[int]) -> tuple[int, ...]:
        if len(numbers) < 2 or self._every:
            return tuple(dict.fromkeys(numbers))
        if self._kinds is None:
            return (max(numbers),)
        best: dict[tuple[int, bool], int] = {}
        for number in numbers:
            kind = self._kinds[number]
            if number > best.get(kind, -1):
                best[kind] = number
        return tuple(best.values())

    def everywhere(self) -> tuple[int, ...]:
        """The patterns that mean every file."""
        return self._folders[""][0]

    def hits(self, path: str) -> tuple[int, ...]:
        """The numbers of the patterns that match `path`, which is relative and has no empty segments."""
        folder, _, name = path.rpartition("/")
        below, nodes = self._folders.get(folder) or self._enter(folder)
        found = list(below)
        for node in self._step(nodes, name):
            if node.exact is not None:
                found.extend(node.exact)
        return self._reduced(found)

    def _enter(self, folder: str) -> "tuple[tuple[int, ...], tuple[_Node, ...]]":
        """What matches all that is in a folder, and where in the trie one is there."""
        if len(self._folders) > _MOST_FOLDERS:
            self._folders = {"": self._folders[""]}
        folders = self._folders  # another thread may put a new one in its place meanwhile
        below, nodes = folders[""]
        here = ""
        for name in folder.split("/"):
            here = f"{here}/{name}" if here else name
            known = folders.get(here)
            if known is None:
                reached = [*self._step(nodes, name), *[node for node in nodes if node.repeats]]
                found = list(below)
                for node in reached:
                    if node.contents is not None:
                        found.extend(node.contents)
                known = folders[here] = self._reduced(found), self._closed(reached)
            below, nodes = known
        return below, nodes

    def _step(self, nodes: Iterable["_Node"], name: str) -> "Iterator[_Node]":
        """Where a segment leads from these places. (Those behind a `**` also stay: the caller knows if that matters.)"""
        for node in nodes:
            child = node.names.get(name)
            if child is not None:
                if child.waiting is not None:
                    self._grow(child)
                yield child
            globs = node.globs
            if globs:
                for glob in globs if type(globs) is list else globs.candidates(name):  # type: ignore[union-attr]  # one or the other
                    if glob.matches(name):
                        if glob.child.waiting is not None:
                            self._grow(glob.child)
                        yield glob.child

    def _closed(self, nodes: "list[_Node]") -> "tuple[_Node, ...]":
        """These places and, since `**` may also stand for no folder at all, those behind a `**` that follows. Each once."""
        found = dict.fromkeys(nodes)
        for node in nodes:
            stars = node.stars
            if stars is not None:
                if stars.waiting is not None:
                    self._grow(stars)
                found[stars] = None
        return tuple(found)


class _Node:
    """A place in the trie. `waiting` are the patterns that go on from here, until somebody comes by and sorts them.

    `repeats` is the place behind a `**`, where one stays from folder to folder.
    """

    __slots__ = ("contents", "depth", "exact", "globs", "names", "repeats", "stars", "waiting")

    names: "dict[str, _Node]"
    globs: "list[_Glob] | _Sorted"
    stars: "_Node | None"
    exact: tuple[int, ...] | None
    contents: tuple[int, ...] | None

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.repeats = False
        self.waiting: list[int] | None = []


class _Glob:
    """A segment with wildcards, and the place it leads to."""

    __slots__ = ("_match", "child", "prefix", "shortest", "suffix")

    def __init__(self, text: str, child: _Node, *, sets: bool) -> None:
        self.child = child
        parts = list(_parts(text, sets=sets))
        # What stands before the first wildcard and after the last narrows the search where there are many globs.
        plain = [part for part in parts if part[0] != "text"]
        self.prefix = parts[0][1] if parts and parts[0][0] == "text" else ""
        self.suffix = parts[-1][1] if len(parts) > 1 and parts[-1][0] == "text" else ""
        self.shortest = len(self.prefix) + len(self.suffix)
        # One star and text around it, the usual case, needs no regular expression.
        simple = len(plain) == 1 and plain[0][0] == "star"
        self._match = None if simple else re.compile(_regex(parts), re.DOTALL)

    def matches(self, name: str) -> bool:
        if self._match is not None:
            return self._match.match(name) is not None
        return len(name) >= self.shortest and name.startswith(self.prefix) and name.endswith(self.suffix)


class _Sorted:
    """Many globs of one place, by what they begin with, else by what they end with."""

    __slots__ = ("begin", "begins", "end", "ends", "rest")

    def __init__(self, globs: Iterable[_Glob]) -> None:
        self.begin: dict[str, list[_Glob]] = {}
        self.end: dict[str, list[_Glob]] = {}
        self.rest: list[_Glob] = []
        for glob in globs:
            if glob.prefix:
                self.begin.setdefault(glob.prefix, []).append(glob)
            elif glob.suffix:
                self.end.setdefault(glob.suffix, []).append(glob)
            else:
                self.rest.append(glob)
        self.begins = sorted({len(key) for key in self.begin})
        self.ends = sorted({len(key) for key in self.end})

    def candidates(self, name: str) -> Iterator[_Glob]:
        for length in self.begins:
            if length > len(name):
                break
            yield from self.begin.get(name[:length], ())
        for length in self.ends:
            if length > len(name):
                break
            yield from self.end.get(name[len(name) - length :], ())
        yield from self.rest


def _parts(glob: str, *, sets: bool) -> Iterator[tuple[str, str]]:
    """A segment's pieces: ("text", literal), ("star", ""), ("one", "") and ("set", regular expression)."""
    text = ""
    index = 0
    while index < len(glob):
        character = glob[index]
        piece = None
        if character == "\\" and index + 1 < len(glob):
            index += 1
            text += glob[index]
        elif character == "*":
            piece = ("star", "")
            while glob[index + 1 : index + 2] == "*":
                index += 1
        elif character == "?":
            piece = ("one", "")
        elif character == "[" and sets:
            end, expression = _set(glob, index + 1)
            piece = ("set", expression)
            index = end
        else:
            text += character
        if piece is not None:
            if text:
                yield "text", text
                text = ""
            yield piece
        index += 1
    if text:
        yield "text", text


def _set(glob: str, start: int) -> tuple[int, str]:
    """The regular expression of `[...]` whose inside begins at `start`, and the index of its `]`. Unclosed: never matches."""
    index = start
    negated = glob[index : index + 1] in ("!", "^")
    if negated:
        index += 1
    inside = ""
    first = True
    while index < len(glob) and (first or glob[index] != "]"):
        low, index = _member(glob, index)
        first = False
        if glob[index : index + 1] == "-" and glob[index + 1 : index + 2] not in ("", "]"):
            high, index = _member(glob, index + 1)
            if low <= high:
                inside += f"{re.escape(low)}-{re.escape(high)}"
        else:
            inside += re.escape(low)
    if index >= len(glob):
        return len(glob), "(?!)"
    if not inside:
        return index, "." if negated else "(?!)"
    return index, f"[{'^' if negated else ''}{inside}]"


def _member(glob: str, index: int) -> tuple[str, int]:
    if glob[index] == "\\" and index + 1 < len(glob):
        index += 1
    return glob[index], index + 1


def _regex(parts: list[tuple[str, str]]) -> str:
    """A regular expression that does not backtrack over its stars: each takes the first place where the rest up to the
    next star fits, which is always right, because only the last part must reach the end.
    """
    runs = [""]
    for kind, content in parts:
        if kind == "star":
            runs.append("")
        else:
            runs[-1] += re.escape(content) if kind == "text" else "." if kind == "one" else content
    if len(runs) == 1:
        return runs[0] + r"\Z"
    middle = "".join([f"(?=(?P<g{index}>.*?{run}))(?P=g{index})" for index, run in enumerate(runs[1:-1])])
    return f"{runs[0]}{middle}.*{runs[-1]}\\Z"


def _literal(segment: str, *, sets: bool) -> str | None:
    """The name that a segment means, if its only special characters are escaped ones."""
    parts = list(_parts(segment, sets=sets))
    if len(parts) == 1 and parts[0][0] == "text":
        return parts[0][1]
    return None
