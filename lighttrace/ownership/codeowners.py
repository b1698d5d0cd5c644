r"""CODEOWNERS files: who owns a path, and which line says so.

Two grammars, each as its documentation gives it:

- GitHub: the last matching line wins; a line without owners makes a path unowned; `/x/` is anchored, `apps/` matches
  anywhere, `docs/*` is not recursive, `**` is; no `!`, no `[ ]`, no `\#`; a comment may end a line; a line with a broken
  owner is skipped.
- GitLab: patterns as in Ruby's File.fnmatch, so `docs` is a file and `docs/` a folder; `[Section]`, `[Section][2] @default`,
  `^[Optional]`, each section by itself; `!path` takes a path out of its section for good; `\#` and `\ `; `@@role`; a broken
  owner is left out of its line.

A span has one team: where several sections of a GitLab file claim a path, the line that stands last decides.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from lighttrace.ownership import patterns

PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS")
"""Where the hosts look, in their order; the first that is there counts."""

_MOST_PATHS = 10_000
_SECTION = re.compile(r"(\^?)\[([^\]]*)\](?:\[[^\]]*\])?(?=\s|$)(.*)")
_HAS_SECTIONS = re.compile(r"^[ \t]*\^?\[[^\]\n]+\](?:\[[^\]\n]*\])?(?:[ \t\r]|$)", re.MULTILINE)
_MAIL = r"[^@\s]+@[^@\s]+\.[^@\s]+"
_GITHUB_OWNER = re.compile(rf"(?:@[\w.-]+(?:/[\w.-]+)?|{_MAIL})\Z")
_GITLAB_OWNER = re.compile(rf"(?:@@\w+|@[\w.-]+(?:/[\w.-]+)*|{_MAIL})\Z")
_WORD = re.compile(r"(?:\\.|\S)+")  # a backslash keeps the space behind it


class Rule(NamedTuple):
    """One line. `owners` are those written there, or the defaults of its section."""

    pattern: str
    owners: tuple[str, ...]
    line: int
    section: str = ""
    excludes: bool = False


class CodeOwners:
    r"""A parsed file. `problems` names the broken lines, with their numbers.

    `path` is where the file stands in its repository; it decides the grammar where `dialect` ("github" or "gitlab") does not.

    >>> owners = CodeOwners("* @shop/web\n/checkout/ @shop/payments")
    >>> owners.find("checkout/app.py")
    Rule(pattern='/checkout/', owners=('@shop/payments',), line=2, section='', excludes=False)
    """

    def __init__(self, text: str, path: str = "CODEOWNERS", *, dialect: str | None = None) -> None:
        self.path = path
        self.problems: list[str] = []
        self.rules: list[Rule] = []
        text = text.removeprefix("\ufeff")
        self.dialect = dialect or dialect_of(text, path)
        if self.dialect == "gitlab":
            self._read_gitlab(text)
        else:
            self._read_github(text)
        self._index: patterns.Index | None = None
        self._known: dict[str, Rule | None] = {}

    # -- looking up ---------------------------------------------------------------------------------------------

    def find(self, path: str) -> Rule | None:
        """The line that decides who owns `path`, relative to the repository and with `/`; None where no line does.

        A line without owners says that nobody owns it.
        """
        known = self._known
        if path in known:
            return known[path]
        found = self._decide(self.index.hits(path))
        if len(known) > _MOST_PATHS:
            known.clear()
        known[path] = found
        return found

    def find_all(self, path: str) -> list[Rule]:
        """The deciding line of each section, in the order of the file; for GitHub's grammar at most one."""
        return self._winners(self.index.hits(path))

    @property
    def default(self) -> Rule | None:
        """The line that is about every file, usually `*`."""
        found = self._decide(self.index.everywhere())
        return found if found is not None and found.owners else None

    @property
    def index(self) -> patterns.Index:
        """The patterns, made ready for looking up; made on first use."""
        made = self._index
        if made is None:
            made = self._index = self.make_index()
        return made

    def make_index(self, *, every: bool = False) -> patterns.Index:
        """An index of all lines, whose numbers are their places in `rules`."""
        if self.dialect == "gitlab":
            sections = {name: number for number, name in enumerate(dict.fromkeys(rule.section for rule in self.rules))}
            kinds = [(sections[rule.section], rule.excludes) for rule in self.rules]
            rows = [patterns.gitlab(rule.pattern) for rule in self.rules]
            return patterns.Index(rows, kinds=kinds, sets=True, every=every)
        return patterns.Index([patterns.github(rule.pattern) for rule in self.rules], every=every)

    def _winners(self, hits: tuple[int, ...]) -> list[Rule]:
        rules = [self.rules[number] for number in hits]
        excluded = {rule.section for rule in rules if rule.excludes}
        return sorted([rule for rule in rules if rule.section not in excluded], key=_line)

    def _decide(self, hits: tuple[int, ...]) -> Rule | None:
        if not hits:
            return None
        if self.dialect == "github":
            return self.rules[hits[0]]
        winners = self._winners(hits)
        owned = [rule for rule in winners if rule.owners]
        return owned[-1] if owned else winners[-1] if winners else None

    # -- reading ------------------------------------------------------------------------------------------------

    def _problem(self, line: int, message: str) -> None:
        self.problems.append(f"{self.path}:{line}: {message}")

    def _read_github(self, text: str) -> None:
        checked: dict[tuple[str, ...], str | None] = {}  # few different rows of owners, many lines
        add = self.rules.append
        for number, words in _lines(text):
            pattern = words[0]
            wrong = _not_github(pattern) if pattern[0] in "!\\" or "[" in pattern or "**" in pattern or pattern == "/" else None
            if wrong is not None:
                self._problem(number, f"{wrong}; the line is skipped")
                continue
            owners = tuple(words[1:])
            if owners not in checked:
                for index, word in enumerate(owners):
                    if word[0] == "#":
                        checked[owners] = "#" + str(index)  # where the comment begins
                        break
                else:
                    checked[owners] = None
                end = next((index for index, word in enumerate(owners) if word[0] == "#"), len(owners))
                bad = next((word for word in owners[:end] if not _GITHUB_OWNER.match(word)), None)
                if bad is not None:
                    checked[owners] = bad
            state = checked[owners]
            if state is not None:
                if state[0] != "#":
                    self._problem(number, f"{state!r} is no @user, @org/team or mail address; the line is skipped")
                    continue
                owners = owners[: int(state[1:])]
            add(Rule(pattern, owners, number))

    def _read_gitlab(self, text: str) -> None:
        section = ""
        defaults: tuple[str, ...] = ()
        names: dict[str, str] = {}  # sections of one name are one, whatever the case; the first spelling stays
        for number, words in _lines(text):
            first = words[0]
            if first[0] in "[^":
                header = _SECTION.match(" ".join(words))
                if header is not None:
                    if not header[2].strip():
                        self._problem(number, "a section needs a name; the line is skipped")
                        continue
                    name = header[2].strip()
                    section = names.setdefault(name.casefold(), name)
                    defaults = self._gitlab_owners(header[3].split(), number)
                    continue
                if "]" not in " ".join(words):
                    self._problem(number, "the section's heading has no closing bracket; the line is skipped")
                    continue
            excludes = first[0] == "!"
            if excludes:
                first = first[1:]
                if not first:
                    self._problem(number, "there is no path after the !; the line is skipped")
                    continue
                self.rules.append(Rule(first, (), number, section, True))
                continue
            owners = self._gitlab_owners(words[1:], number)
            self.rules.append(Rule(first, owners or defaults, number, section))

    def _gitlab_owners(self, words: list[str], line: int) -> tuple[str, ...]:
        owners = []
        comment = False
        for word in words:
            comment = comment or word[0] == "#"  # GitLab knows no comment behind an entry: owners named in it count
            if _GITLAB_OWNER.match(word):
                owners.append(word)
            elif not comment:
                self._problem(line, f"{word!r} is no @user, @group, @@role or mail address; it is left out")
        return tuple(owners)


def dialect_of(text: str, path: str) -> str:
    """Which grammar a file is in: the place decides, then whether it has sections."""
    folder = path.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
    if folder in (".gitlab", ".github"):
        return folder[1:]
    return "gitlab" if _HAS_SECTIONS.search(text) else "github"


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that say something, with their numbers, as words."""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split() if "\\" not in line else _WORD.findall(line)
        if words and words[0][0] != "#":
            yield number, words


def _not_github(pattern: str) -> str | None:
    """What is wrong with a pattern that GitHub does not understand."""
    if pattern[0] == "!":
        return "GitHub knows no ! in CODEOWNERS"
    if pattern.startswith("\\#"):
        return "GitHub knows no escaped # in CODEOWNERS"
    if "[" in pattern:
        return "GitHub knows no [ ] in CODEOWNERS"
    if "***" in pattern:
        return "a pattern has at most two stars in a row"
    if pattern == "/":
        return "the pattern / matches nothing; * means everything"
    return None


def _line(rule: Rule) -> int:
    return rule.line


def team_name(owner: str, aliases: dict[str, str]) -> str:
    """`@org/team` as `team`; users, roles and mail addresses as they are. An alias renames any of them, with `@` or without.

    >>> team_name("@shop/payments", {}), team_name("@jane", {"jane": "web"}), team_name("ops@example.com", {})
    ('payments', 'web', 'ops@example.com')
    """
    name = owner.rpartition("/")[2] if owner.startswith("@") and "/" in owner else owner
    for key in (owner, owner.lstrip("@"), name):
        if key in aliases:
            return aliases[key]
    return name
