"""What the index finds is what a slow reading of the documentation finds, for any file and any path."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lighttrace.ownership.codeowners import CodeOwners
from tests.ownership import reference
from tests.ownership.reference import Line

# Few names, so that patterns and paths meet.
NAME = st.sampled_from(["a", "b", "ab", "a.py", "b.py", "x*", "[a]", "#a"])
SEGMENT = st.sampled_from(
    ["a", "b", "ab", "a.py", "*.py", "*", "**", "a*", "*b", "?", "a?", "*a*b*", "a**", r"x\*", r"\*", "*.*"]
)
SETS = st.sampled_from(["[ab]", "[!a]*", "[a-b]b", "[", r"\[a\]", "[^b].py", "[]a]"])
PATH = st.lists(NAME, min_size=1, max_size=5).map("/".join)
OWNERS = st.sampled_from([(), ("@a",), ("@org/t",), ("m@x.io", "@b")])


def pattern(segments: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from(["", "/"]), st.lists(segments, min_size=1, max_size=4), st.sampled_from(["", "/"])).map(
        lambda parts: parts[0] + "/".join(parts[1]) + parts[2]
    )


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(pattern(SEGMENT), OWNERS), max_size=12), st.lists(PATH, min_size=1, max_size=6))
def test_github_like_the_reference(lines: list[tuple[str, tuple[str, ...]]], paths: list[str]) -> None:
    lines = [line for line in lines if not line[0].startswith("\\")]
    owners = CodeOwners("\n".join(" ".join([text, *names]) for text, names in lines), dialect="github")
    assert owners.problems == []
    slow = [Line(text, names, number) for number, (text, names) in enumerate(lines, 1)]
    for path in paths:
        expected = reference.github_find(slow, path)
        found = owners.find(path)
        assert (found and (found.pattern, found.owners, found.line)) == (expected and expected[:3]), path
        assert owners.find_all(path) == ([found] if found is not None else [])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(pattern(SEGMENT | SETS), OWNERS, st.booleans(), st.sampled_from([None, "A", "B"])),
        max_size=12,
    ),
    st.lists(PATH, min_size=1, max_size=6),
)
def test_gitlab_like_the_reference(lines: list[tuple[str, tuple[str, ...], bool, str | None]], paths: list[str]) -> None:
    text, slow, section, number = [], [], "", 0
    for pattern_, names, excludes, heading in lines:
        if pattern_[0] == "[":
            pattern_ = "/" + pattern_
        if heading is not None:
            number += 1
            text.append(f"[{heading}]")
            section = heading
        number += 1
        text.append(" ".join(["!" + pattern_] if excludes else [pattern_, *names]))
        slow.append(Line(pattern_, () if excludes else names, number, section, excludes))
    owners = CodeOwners("\n".join(text), dialect="gitlab")
    assert owners.problems == []
    for path in paths:
        expected = reference.gitlab_find(slow, path)
        assert [tuple(rule) for rule in owners.find_all(path)] == [tuple(line) for line in expected], path
        last = [line for line in expected if line.owners][-1:] or expected[-1:]
        found = owners.find(path)
        assert ([tuple(found)] if found is not None else []) == [tuple(line) for line in last], path


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["github", "gitlab", None]), st.text(alphabet="abc/.*#[]\\ ", max_size=20))
def test_any_text_is_read_without_an_error(text: str, dialect: str | None, path: str) -> None:
    owners = CodeOwners(text, dialect=dialect)
    owners.find(path)
    owners.find_all(path)
    _ = owners.default
    for problem in owners.problems:
        assert problem.startswith("CODEOWNERS:")


@settings(max_examples=100, deadline=None)
@given(st.lists(pattern(SEGMENT), min_size=1, max_size=30), PATH)
def test_index_of_every_line_finds_each_line_that_matches(patterns: list[str], path: str) -> None:
    patterns = [text for text in patterns if not text.startswith("\\")]
    owners = CodeOwners("\n".join(f"{text} @x" for text in patterns), dialect="github")
    found = sorted(owners.make_index(every=True).hits(path))
    assert found == [number for number, text in enumerate(patterns) if reference.github_matches(text, path)]
