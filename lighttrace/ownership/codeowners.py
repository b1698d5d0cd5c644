r"""CODEOWNERS files: who owns a path, and which line says so.

GitHub's grammar as its documentation gives it: the last matching line wins, a line without owners makes a path unowned,
`/x/` is anchored, `apps/` matches anywhere, `docs/*` is not recursive, `**` is; no `!`, no `[ ]`, no `\#`.
"""

import re
from functools import cache
from typing import NamedTuple

PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS")
"""Where hosts look, in their order; the first that is there counts."""

_OWNER = re.compile(r"@@?[\w.-]+(?:/[\w./-]+)?$|[^@\s]+@[^@\s]+\.[^@\s]+$")


class Rule(NamedTuple):
    """One line."""

    pattern: str
    owners: tuple[str, ...]
    line: int


class CodeOwners:
    """A parsed file. `problems` names the lines that were skipped, with their numbers."""

    def __init__(self, text: str, path: str = "CODEOWNERS") -> None:
        self.path = path
        self.problems: list[str] = []
        self.rules: list[Rule] = []
        for number, line in enumerate(text.splitlines(), 1):
            self._read(line, number)
        # Looked up from the end: the first hit is the last line that matches.
        self._backwards = list(reversed(self.rules))
        self._known: dict[str, Rule | None] = {}

    def _read(self, line: str, number: int) -> None:
        words = re.split(r"(?<!\\)\s+", line.strip())
        for index, word in enumerate(words):
            if word.startswith("#"):
                words = words[:index]
                break
        if not words or not words[0]:
            return
        pattern = words[0].replace("\\ ", " ")
        if pattern.startswith(("!", "\\#")) or "[" in pattern:
            self.problems.append(
                f"{self.path}:{number}: {pattern!r} is not something that CODEOWNERS can say; the line is skipped"
            )
            return
        bad = [word for word in words[1:] if not _OWNER.match(word)]
        if bad:
            self.problems.append(f"{self.path}:{number}: {bad[0]!r} is no @user, @org/team or mail address; the line is skipped")
            return
        self.rules.append(Rule(pattern, tuple(words[1:]), number))

    def find(self, path: str) -> Rule | None:
        """The line that decides who owns `path` (relative to the repository, with `/`), or None."""
        if path in self._known:
            return self._known[path]
        found = next((rule for rule in self._backwards if _compiled(rule.pattern).match(path)), None)
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[path] = found
        return found


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    anchored = pattern.startswith("/") or "/" in pattern.rstrip("/")
    folder = pattern.endswith("/")
    body = pattern.strip("/")
    wild = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    text = "".join([wild.get(piece) or re.escape(piece) for piece in re.split(r"(\*\*/|/\*\*|\*\*|\*|\?)", body)])
    # What names a file or folder names all that is in it; `docs/*` alone names only files right there.
    if folder:
        tail = "/.*"
    elif body.endswith(("/*", "**")):
        tail = ""
    else:
        tail = "(?:/.*)?"
    return re.compile(("" if anchored else "(?:.*/)?") + text + tail + r"\Z", re.DOTALL)


def team_name(owner: str, aliases: dict[str, str]) -> str:
    """`@org/team` as `team`, users and mail addresses as they are; an alias renames either form."""
    if owner in aliases:
        return aliases[owner]
    name = owner.rpartition("/")[2] if owner.startswith("@") and "/" in owner else owner
    return aliases.get(name, name)
