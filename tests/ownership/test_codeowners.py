"""CODEOWNERS as GitHub's documentation describes it, each of its examples a case."""

import time
from pathlib import Path

import pytest

from lighttrace.cli.main import main
from lighttrace.config import load
from lighttrace.ownership import Resolver
from lighttrace.ownership.codeowners import CodeOwners, team_name

EXAMPLE = """
# Everything, unless a later line says otherwise.
*       @global-owner1 @global-owner2
*.js    @js-owner #This is an inline comment.
*.go docs@example.com
*.txt @octo-org/octocats
/build/logs/ @doctocat
docs/* docs@example.com
apps/ @octocat
/docs/ @doctocat
/scripts/ @doctocat @octocat
**/logs @octocat
/apps/ @octocat
/apps/github
with\\ space.md @spacer
"""


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("README", "@global-owner1"),
        ("src/deep/app.js", "@js-owner"),
        ("main.go", "docs@example.com"),
        ("notes/a.txt", "@octo-org/octocats"),
        ("build/logs/today", "@octocat"),  # `**/logs` comes later than `/build/logs/`
        ("sub/build/logs/today", "@octocat"),
        ("docs/getting-started.md", "@doctocat"),
        ("sub/docs/x.md", "@global-owner1"),  # docs/* is anchored, for it has a slash within
        ("x/apps/y", "@octocat"),
        ("scripts/run.sh", "@doctocat"),
        ("deep/logs", "@octocat"),
        ("deep/logs/file", "@octocat"),
        ("apps/web/x.py", "@octocat"),
        ("apps/github/x.py", None),  # a line without owners makes it unowned
        ("with space.md", "@spacer"),
    ],
)
def test_each_documented_example_holds(path: str, owner: str | None) -> None:
    rule = CodeOwners(EXAMPLE).find(path)
    assert rule is not None
    assert (rule.owners[0] if rule.owners else None) == owner


def test_star_does_not_cross_folders_and_case_counts() -> None:
    owners = CodeOwners("docs/* @a\nSrc/ @b\n")
    assert owners.find("docs/one.md") is not None
    assert owners.find("docs/build/two.md") is None
    assert owners.find("src/x.py") is None


def test_broken_lines_are_named_with_their_number_and_skipped() -> None:
    owners = CodeOwners("!a @x\n[ab].py @x\n* @good\nsrc/ not-an-owner\n\\#file @x\n")
    assert [problem.split(" ")[0] for problem in owners.problems] == [
        "CODEOWNERS:1:",
        "CODEOWNERS:2:",
        "CODEOWNERS:4:",
        "CODEOWNERS:5:",
    ]
    found = owners.find("src/x.py")
    assert found is not None
    assert found.line == 3


@pytest.mark.parametrize(
    ("owner", "team"),
    [("@org/payments", "payments"), ("@user", "@user"), ("a@b.org", "a@b.org"), ("@org/old", "new"), ("@org/x-team", "x")],
)
def test_owners_become_teams_by_name_or_alias(owner: str, team: str) -> None:
    assert team_name(owner, {"@org/old": "new", "x-team": "x"}) == team


def test_large_file_is_read_quickly_and_looked_up_from_a_cache() -> None:
    owners = CodeOwners("\n".join(f"/services/s{i}/ @org/t{i}" for i in range(100_000)))
    assert len(owners.rules) == 100_000
    assert owners.find("services/s99999/app.py") is not None
    begun = time.process_time()
    for _ in range(1000):
        owners.find("services/s99999/app.py")
    assert time.process_time() - begun < 0.5


def repository(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".github").mkdir()
    (tmp_path / ".github" / "CODEOWNERS").write_text("* @shop/web\n/fraud/ @shop/risk\n/legacy/\n")
    for folder in ("fraud", "legacy"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "code.py").write_text("def check():\n    raise ValueError('no')\n")
    (tmp_path / "app.py").write_text("")
    return tmp_path


def test_command_prints_owner_and_deciding_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = repository(tmp_path)
    assert main(["owners", str(root / "fraud" / "code.py"), str(root / "app.py")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(": risk   (.github/CODEOWNERS:2: /fraud/ @shop/risk)")
    assert said[1].endswith(": web   (.github/CODEOWNERS:1: * @shop/web)")
    assert main(["owners", str(root / "legacy" / "code.py")]) == 1
    assert main(["owners", str(root / "absent.py")]) == 1


def test_failing_line_is_the_users_own_and_so_is_its_team(tmp_path: Path) -> None:
    root = repository(tmp_path)
    space: dict[str, object] = {"__name__": "fraud.code"}
    file = root / "fraud" / "code.py"
    exec(compile(file.read_text(), str(file), "exec"), space)
    resolver = Resolver(load(environ={}, directory=str(root)))
    with pytest.raises(ValueError, match="no") as caught:
        space["check"]()  # type: ignore[operator]  # a function
    assert resolver.failing_frame_of(caught.value) == ("fraud/code.py", "check", 2, "risk")
    assert resolver.team_for_function(space["check"]) == ("risk", "codeowners")
    assert not resolver.is_user_code(pytest.__file__)
