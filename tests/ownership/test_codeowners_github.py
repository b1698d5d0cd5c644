"""GitHub's grammar: each thing that its documentation says, by an example."""

import pytest

from lighttrace.ownership.codeowners import CodeOwners, team_name

DOCUMENTED = """\
# A comment.
# The owners of everything that no later line is about.
*       @global-owner1 @global-owner2

# The last matching pattern takes precedence.
*.js    @js-owner #This is an inline comment.

# Mail addresses do too.
*.go docs@example.com

# And teams.
*.txt @octo-org/octocats

# A folder at the root, with all below it.
/build/logs/ @doctocat

# Files right there, not further down.
docs/*  docs@example.com

# A folder anywhere.
apps/ @octocat

# The folder at the root only.
/docs/ @doctocat

# Either of two owners.
/scripts/ @doctocat @octocat

# A folder of that name at any depth.
**/logs @octocat

# All of a folder but one part, which nobody owns.
/apps/ @octocat
/apps/github

# All of a folder but one part, which others own.
/services/ @octocat
/services/github @doctocat
"""


def owners_of(text: str, path: str) -> tuple[str, ...] | None:
    owners = CodeOwners(text, dialect="github")
    assert owners.problems == []
    rule = owners.find(path)
    return rule.owners if rule is not None else None


@pytest.mark.parametrize(
    ("path", "owners"),
    [
        ("README.md", ("@global-owner1", "@global-owner2")),
        ("src/deep/down.py", ("@global-owner1", "@global-owner2")),
        ("web/app.js", ("@js-owner",)),
        ("app.js", ("@js-owner",)),
        ("cmd/main.go", ("docs@example.com",)),
        ("notes.txt", ("@octo-org/octocats",)),
        ("build/logs/2026/01.out", ("@octocat",)),  # **/logs comes later
        ("build/log", ("@global-owner1", "@global-owner2")),
        ("docs/getting-started.md", ("@doctocat",)),  # /docs/ comes later
        ("sub/docs/getting-started.md", ("@global-owner1", "@global-owner2")),  # docs/* has a slash inside: anchored
        ("lib/apps/x/y.py", ("@octocat",)),
        ("apps/web/x.py", ("@octocat",)),
        ("apps/github/x.py", ()),
        ("apps/github", ()),
        ("apps/githubber/x.py", ("@octocat",)),
        ("scripts/run.sh", ("@doctocat", "@octocat")),
        ("deeply/nested/logs/x.log", ("@octocat",)),
        ("services/a.py", ("@octocat",)),
        ("services/github/a.py", ("@doctocat",)),
    ],
)
def test_documented_example(path: str, owners: tuple[str, ...]) -> None:
    assert owners_of(DOCUMENTED, path) == owners


# Which files a pattern means: as in .gitignore, with the exceptions that are documented.
@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("name", "name name/x a/name a/name/x", "name.py a/rename b"),
        ("/name", "name name/x name/x/y", "a/name namely"),
        ("name/", "name/x a/name/x/y", "name a/name"),
        ("/name/", "name/x name/x/y", "name a/name/x"),
        ("a/b", "a/b a/b/c", "a/bc x/a/b"),
        ("/a/b/", "a/b/c a/b/c/d", "a/b x/a/b/c"),
        ("*", "x a/x a/b/x", ""),
        ("/*", "x", "a/x"),
        ("x*", "x xy a/xy xy/b a/xy/b", "yx a/yx"),
        ("/x*", "x xy xy/b", "a/xy"),
        ("x*/", "xy/b a/x/b", "xy a/xy"),
        ("docs/*", "docs/a docs/b.md", "docs docs/a/b x/docs/a"),
        ("docs/*.md", "docs/a.md", "docs/a.txt docs/x/a.md"),
        ("a/*/c", "a/b/c a/b/c/d", "a/c a/b/x/c"),
        ("a?c", "abc x/abc abc/d", "ac abbc"),
        ("**/a/b", "a/b x/a/b x/y/a/b/c", "a/x/b"),
        ("a/**", "a/b a/b/c", "a x/a/b"),
        ("a/**/c", "a/c a/b/c a/b/b/c/d", "x/a/c ac"),
        ("/a/**/*.py", "a/x.py a/b/c/x.py", "x.py a/x.txt"),
        ("**/*.py", "x.py a/b/x.py", "x.txt"),
        ("**", "x a/x", ""),
        ("a**c", "ac abbc x/abc", "a/c"),
        (r"/a\*b", "a*b", "axb"),
        (r"/with\ space/", "with space/x", "with/x"),
        ("/Case.py", "Case.py", "case.py CASE.PY"),
        ("/.hidden/", ".hidden/x", "hidden/x"),
        ("/a.b", "a.b", "axb"),
        ("/ünïcode/", "ünïcode/ß.py", "unicode/x"),
    ],
)
def test_pattern_means_these_files(pattern: str, inside: str, outside: str) -> None:
    owners = CodeOwners(f"{pattern} @x", dialect="github")
    assert owners.problems == []
    separator = None if " " not in pattern else "|"
    for path in inside.split(separator):
        assert owners.find(path) is not None, path
    for path in outside.split(separator):
        assert owners.find(path) is None, path


def test_several_lines_of_one_pattern_the_last_wins() -> None:
    assert owners_of("/a/ @one\n/a/ @two\n", "a/x") == ("@two",)


def test_tabs_and_spaces_and_windows_line_ends_and_a_byte_order_mark() -> None:
    assert owners_of("\ufeff*\t@a\t \t@b\r\n  /x/ @c  \r\n", "x/y") == ("@c",)
    assert owners_of("\ufeff*\t@a\t \t@b\r\n", "x/y") == ("@a", "@b")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("!keep.py @x", "!"),
        ("[ab].py @x", "[ ]"),
        (r"\#file @x", "#"),
        ("/ @x", "/"),
        ("a***b @x", "stars"),
        ("* user", "user"),
        ("* @a/b/c", "@a/b/c"),
        ("* @@developer", "@@developer"),
        ("* @ok nobody@nowhere", "nobody@nowhere"),
    ],
)
def test_broken_line_is_named_with_its_number_and_skipped(line: str, said: str) -> None:
    owners = CodeOwners(f"# one\n/fine/ @a\n{line}\n/later/ @b\n", ".github/CODEOWNERS")
    (problem,) = owners.problems
    assert problem.startswith(".github/CODEOWNERS:3: ")
    assert said in problem
    assert [rule.line for rule in owners.rules] == [2, 4]
    assert owners.find("anything.py") is None


def test_empty_file_and_comments_only_own_nothing() -> None:
    for text in ("", "\n\n", "# only\n  # comments\n"):
        assert owners_of(text, "x") is None


def test_default_is_the_last_line_about_everything() -> None:
    assert CodeOwners("* @a\n/x/ @b\n** @c\n", dialect="github").default == ("**", ("@c",), 3, "", False)
    assert CodeOwners("/* @a\n*.py @b\n", dialect="github").default is None
    assert CodeOwners("* @a\n*\n", dialect="github").default is None  # nobody, in so many words


@pytest.mark.parametrize(
    ("owner", "aliases", "team"),
    [
        ("@org/payments", {}, "payments"),
        ("@group/sub/payments", {}, "payments"),
        ("@jane", {}, "@jane"),
        ("@@developer", {}, "@@developer"),
        ("ops@example.com", {}, "ops@example.com"),
        ("@org/pay-ments", {"pay-ments": "payments"}, "payments"),
        ("@org/x", {"@org/x": "y", "x": "z"}, "y"),
        ("@org/x", {"org/x": "y"}, "y"),
        ("@jane", {"jane": "web"}, "web"),
        ("@jane", {"@jane": "web"}, "web"),
        ("ops@example.com", {"ops@example.com": "ops"}, "ops"),
    ],
)
def test_team_of_an_owner(owner: str, aliases: dict[str, str], team: str) -> None:
    assert team_name(owner, aliases) == team
