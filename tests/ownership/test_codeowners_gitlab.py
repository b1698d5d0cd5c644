"""GitLab's grammar: each thing that its documentation says, by an example."""

import pytest

from lighttrace.ownership.codeowners import CodeOwners, dialect_of


def gitlab(text: str) -> CodeOwners:
    return CodeOwners(text, ".gitlab/CODEOWNERS")


def all_owners(text: str, path: str) -> list[tuple[str, ...]]:
    return [rule.owners for rule in gitlab(text).find_all(path)]


def decided(text: str, path: str) -> tuple[str, ...] | None:
    rule = gitlab(text).find(path)
    return rule.owners if rule is not None else None


EXAMPLE = """\
# Everything.
* @default-owner
README.md @doc-team @tech-lead
*.rb @ruby-owner
\\#file_with_pound.rb @owner-file-with-pound
LICENSE @legal janedoe@gitlab.com
GROUPS @group @group/with-nested/subgroup
/docs/ @all-docs
/docs/* @root-docs
/docs/**/*.md @markdown-docs  # Files of one type, in any folder
/db/**/index.md @index-docs   # A file of one name, in any folder
lib/ @lib-owner
/config/ @@maintainer
path\\ with\\ spaces/ @space-owner
"""


@pytest.mark.parametrize(
    ("path", "owners"),
    [
        ("other", ("@default-owner",)),
        ("README.md", ("@doc-team", "@tech-lead")),
        ("deep/down/README.md", ("@doc-team", "@tech-lead")),
        ("a/b.rb", ("@ruby-owner",)),
        ("#file_with_pound.rb", ("@owner-file-with-pound",)),
        ("LICENSE", ("@legal", "janedoe@gitlab.com")),
        ("GROUPS", ("@group", "@group/with-nested/subgroup")),
        ("docs/a/b.txt", ("@all-docs",)),
        ("docs/a.txt", ("@root-docs",)),
        ("docs/a.md", ("@markdown-docs",)),
        ("docs/a/b/c.md", ("@markdown-docs",)),
        ("db/index.md", ("@index-docs",)),
        ("db/a/b/index.md", ("@index-docs",)),
        ("x/lib/y/z", ("@lib-owner",)),
        ("config/a", ("@@maintainer",)),
        ("x/config/a", ("@default-owner",)),
        ("path with spaces/a/b", ("@space-owner",)),
    ],
)
def test_documented_example(path: str, owners: tuple[str, ...]) -> None:
    assert gitlab(EXAMPLE).problems == []
    assert decided(EXAMPLE, path) == owners


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("/README.md", "README.md", "docs/README.md"),
        ("/docs/README.md", "docs/README.md", "x/docs/README.md"),
        ("README.md", "README.md internal/README.md app/lib/README.md", "README.mdx"),
        ("internal/README.md", "internal/README.md docs/internal/README.md docs/api/internal/README.md", "README.md"),
        ("/docs/", "docs/a docs/a/b", "docs x/docs/a"),
        ("docs", "docs x/docs", "docs/a"),  # without its slash it is a file
        ("/docs/*.md", "docs/a.md docs/.md", "docs/a/b.md"),
        ("/docs/index.*", "docs/index.md docs/index.html", "docs/x/index.md docs/index"),
        ("/docs/*spec*", "docs/qa_specs.rb docs/spec_helpers.rb docs/runtime.spec", "docs/x/spec"),
        ("/docs/*/README.md", "docs/api/README.md", "docs/README.md docs/a/b/README.md"),
        ("/docs/**/index.md", "docs/index.md docs/api/index.md docs/api/graphql/index.md", "index.md"),
        ("**/*.rb", "config/database.rb app/controllers/users/stars.rb x.rb", "x.py"),
        ("*", ".gitignore a/.b/c", ""),
        ("/docs/**", "docs/a", "docs/a/b"),  # two stars at the end are one
        ("/a[0-9].py", "a1.py", "ab.py a10.py"),
        ("/a[!0-9].py", "ab.py", "a1.py"),
        ("/a[^0-9].py", "ab.py", "a1.py"),
        ("/a[]x].py", "a].py ax.py", "ay.py"),
        ("/a[b.py", "", "ab.py a[b.py"),  # never closed: never matches
        (r"/a\[b\].py", "a[b].py", "ab.py"),
        ("/a?c", "abc", "a/c ac"),
        ("/", "a a/b", ""),
    ],
)
def test_pattern_means_these_files(pattern: str, inside: str, outside: str) -> None:
    owners = gitlab(f"{pattern} @x")
    assert owners.problems == []
    for path in inside.split():
        assert owners.find(path) is not None, path
    for path in outside.split():
        assert owners.find(path) is None, path


SECTIONS = """\
* @admin

[README Owners]
README.md @user1 @user2
internal/README.md @user4

[README other owners]
README.md @user3
"""


def test_sections_are_evaluated_separately() -> None:
    assert all_owners(SECTIONS, "README.md") == [("@admin",), ("@user1", "@user2"), ("@user3",)]
    assert all_owners(SECTIONS, "internal/README.md") == [("@admin",), ("@user4",), ("@user3",)]
    assert all_owners(SECTIONS, "other") == [("@admin",)]


def test_of_several_sections_the_line_that_stands_last_decides() -> None:
    assert decided(SECTIONS, "README.md") == ("@user3",)
    assert decided(SECTIONS, "other") == ("@admin",)


def test_default_owners_of_a_section() -> None:
    text = """\
[Documentation] @docs-team
docs/
README.md

[Database] @database-team @agarcia
model/db/
config/db/database-setup.md @docs-team
"""
    assert decided(text, "docs/x") == ("@docs-team",)
    assert decided(text, "a/README.md") == ("@docs-team",)
    assert decided(text, "model/db/x") == ("@database-team", "@agarcia")
    assert decided(text, "config/db/database-setup.md") == ("@docs-team",)


def test_regular_entries_and_sections_both_claim_a_path() -> None:
    text = """\
* @general-approvers

[Documentation] @docs-team
docs/
README.md
*.txt

[Database] @database-team
model/db/
config/db/database-setup.md @docs-team
"""
    assert all_owners(text, "model/db/CHANGELOG.txt") == [("@general-approvers",), ("@docs-team",), ("@database-team",)]


@pytest.mark.parametrize(
    "heading",
    ["[Docs] @team", "^[Docs] @team", "[Docs][2] @team", "^[Docs][5] @team", "[Docs][x] @team", "  [Docs]   @team  "],
)
def test_headings(heading: str) -> None:
    owners = gitlab(f"{heading}\ndocs/\n")
    assert owners.problems == []
    found = owners.find("docs/x")
    assert found == ("docs/", ("@team",), 2, "Docs", False)


def test_sections_with_one_name_are_combined_whatever_the_case() -> None:
    text = """\
[Documentation]
ee/docs/    @docs
docs/       @docs

[Database]
README.md  @database
model/db/   @database

[DOCUMENTATION]
README.md  @docs
"""
    assert [rule.section for rule in gitlab(text).rules] == ["Documentation"] * 2 + ["Database"] * 2 + ["Documentation"]
    both = "[A]\n*.py @one\n[b]\n*.py @b\n[a]\nx.py @two\n"
    assert all_owners(both, "x.py") == [("@b",), ("@two",)]


def test_later_heading_of_a_section_has_its_own_default_owners() -> None:
    text = "[A] @one\na/\n[A] @two\nb/\n"
    assert decided(text, "a/x") == ("@one",)
    assert decided(text, "b/x") == ("@two",)


def test_last_entry_of_a_section_is_used() -> None:
    assert decided("*.md @doc-team\nterms.md @legal-team\n", "terms.md") == ("@legal-team",)


EXCLUSIONS = """\
* @username
!pom.xml

[Ruby]
*.rb @ruby-team
!/config/**/*.rb
/config/routes.rb @ops

[Config]
/config/ @ops-team
"""


def test_exclusions_apply_in_their_section() -> None:
    assert decided(EXCLUSIONS, "pom.xml") is None
    assert decided(EXCLUSIONS, "a/pom.xml") is None
    assert all_owners(EXCLUSIONS, "x.rb") == [("@username",), ("@ruby-team",)]
    assert all_owners(EXCLUSIONS, "config/x.rb") == [("@username",), ("@ops-team",)]


def test_what_is_excluded_cannot_be_included_again() -> None:
    assert all_owners(EXCLUSIONS, "config/routes.rb") == [("@username",), ("@ops-team",)]
    assert decided("* @default\n!*.rb   # none of Ruby\n/special/*.rb @ruby-owner  # too late\n", "special/x.rb") is None
    assert decided("!*.rb\n*.rb @too-late\n", "x.rb") is None


def test_exclusions_of_generated_files() -> None:
    text = "* @default\n!package-lock.json\n!**/generated/          # any files in there\n!.gitlab-ci.yml\n"
    assert gitlab(text).problems == []
    for path in ("package-lock.json", "a/generated/b/c", "generated/x", ".gitlab-ci.yml"):
        assert decided(text, path) is None, path
    assert decided(text, "degenerated/x") == ("@default",)


def test_unclosed_heading_is_named_and_what_follows_belongs_to_the_section_before() -> None:
    owners = gitlab("[Docs]\ndocs/**/* @group\n\n[Section name\nother/ @docs_group\n")
    assert [problem.split(": ")[0] for problem in owners.problems] == [".gitlab/CODEOWNERS:4"]
    found = owners.find("other/x")
    assert found is not None
    assert found.section == "Docs"


def test_heading_without_a_name_is_named() -> None:
    assert ":1:" in gitlab("[] @x\ndocs/ @a\n").problems[0]


def test_malformed_owners_are_left_out_and_the_rest_counts() -> None:
    owners = gitlab("/path/* @group user_without_at_symbol @user_with_at_symbol\n")
    found = owners.find("path/x")
    assert found is not None
    assert found.owners == ("@group", "@user_with_at_symbol")
    assert len(owners.problems) == 1
    assert "user_without_at_symbol" in owners.problems[0]


def test_path_with_spaces_that_are_not_escaped() -> None:
    owners = gitlab("folder with spaces/*.md @group\n")
    assert [rule[:2] for rule in owners.rules] == [("folder", ("@group",))]
    assert len(owners.problems) == 2


def test_entry_without_owners_is_nobodys() -> None:
    assert decided("* @a\n/x/\n", "x/y") == ()


def test_section_that_says_nobody_does_not_take_it_from_the_others() -> None:
    assert decided("* @a\n[S]\n/x/\n", "x/y") == ("@a",)


def test_owners_named_in_a_comment_count_as_gitlab_has_it() -> None:
    assert decided("/x/ @a # and @b too\n", "x/y") == ("@a", "@b")


def test_roles() -> None:
    assert decided("file.md @@developer @@maintainers\n", "file.md") == ("@@developer", "@@maintainers")


def test_default_of_a_file_with_sections() -> None:
    default = gitlab("* @a\n[S] @s\n*\n!x\n").default
    assert default is not None
    assert default.owners == ("@s",)


@pytest.mark.parametrize(
    ("path", "text", "dialect"),
    [
        (".gitlab/CODEOWNERS", "* @a", "gitlab"),
        (".github/CODEOWNERS", "[Section]\n* @a", "github"),
        ("CODEOWNERS", "* @a\n[Section]\nx @b", "gitlab"),
        ("docs/CODEOWNERS", "^[Section][2] @b\nx", "gitlab"),
        ("CODEOWNERS", "* @a", "github"),
        ("CODEOWNERS", "[ab].py @a", "github"),  # a set of characters, which GitHub does not know, is no section
        ("CODEOWNERS", "# [Section]\n* @a", "github"),
        ("/repo/.gitlab/CODEOWNERS", "* @a", "gitlab"),
    ],
)
def test_dialect_by_place_then_by_sections(path: str, text: str, dialect: str) -> None:
    assert dialect_of(text, path) == dialect
    assert CodeOwners(text, path).dialect == dialect
