"""Traces as they are drawn."""

import io
import time
import tracemalloc

import pytest

from lighttrace.terminal import Row, one_line, render_trace, wants_color

MS = 1_000_000


def row(span_id: str, parent: str | None, name: str, at: float, took: float, **more: object) -> Row:
    return Row(span_id, parent, name, "shop", "web", int(at * MS), int((at + took) * MS), **more)  # type: ignore[arg-type] # fields of Row by name


def test_tree_is_drawn_with_bars_durations_owners_and_the_guilty_path() -> None:
    rows = [
        row("a", None, "GET /", 0, 100, guilty=True, error="HTTPError: 500"),
        row("b", "a", "SELECT stock", 10, 20),
        row("c", "a", "POST", 50, 50, guilty=True, error="KeyError: 'BE'\nand more", note="fraud.py:7 in score"),
    ]
    assert render_trace(rows, width=90).splitlines() == [
        "▶ GET /         ██████████████████████████████  100.0 ms  shop · web",
        "  ✗ HTTPError: 500",
        "├─ SELECT stock    ██████                        20.0 ms  shop · web",
        "└─ ▶ POST                      ███████████████   50.0 ms  shop · web  ◀ here",
        "     ✗ KeyError: 'BE'",
        "     fraud.py:7 in score",
    ]


def test_spans_without_their_parent_are_roots_and_rings_are_cut() -> None:
    drawn = render_trace(
        [row("a", "gone", "orphan", 0, 1), row("b", "c", "one", 1, 1), row("c", "b", "two", 2, 1), row("d", "d", "self", 3, 1)]
    )
    names = [line.split()[0] + " " + line.split()[1] for line in drawn.splitlines()]
    assert [name.split(" █")[0].split(" ▏")[0] for name in names] == ["orphan", "self", "one", "└─ two"]


def test_many_of_a_kind_are_drawn_once() -> None:
    rows = [row("a", None, "GET /", 0, 100)] + [row(f"q{number}", "a", "SELECT stock", number * 5, 4) for number in range(20)]
    drawn = render_trace(rows)
    assert drawn.count("SELECT stock") == 1
    assert "× 20, 80.0 ms in all" in drawn  # noqa: RUF001 - a multiplication sign is meant


def test_one_that_failed_among_many_is_drawn_by_itself() -> None:
    rows = [row("a", None, "GET /", 0, 100)]
    rows += [row(f"q{number}", "a", "SELECT", number * 5, 4, error="it broke" if number == 10 else None) for number in range(20)]
    drawn = render_trace(rows)
    assert drawn.count("SELECT") == 3
    assert drawn.count("✗ it broke") == 1


def test_control_characters_never_reach_the_terminal() -> None:
    evil = "x\x1b[2J\x07\u202e\ud800"
    drawn = render_trace([Row("a", None, evil, evil, evil, 0, 1, error=evil, guilty=True, note=evil)])
    assert not any(character in drawn for character in evil[1:] if character not in "[2J")
    assert drawn.encode("utf-8")


def test_color_is_only_there_when_asked_for() -> None:
    rows = [row("a", None, "GET /", 0, 1, guilty=True, error="it broke", note="here")]
    assert "\x1b[" not in render_trace(rows)
    assert "\x1b[31m" in render_trace(rows, color=True)


def test_trace_of_100_000_spans_shows_the_culprit_in_a_few_hundred_lines() -> None:
    rows = [row("s0", None, "root", 0, 100_000, guilty=True)]
    rows += [row(f"s{number}", f"s{(number - 1) // 3}", f"span {number}", number, 1) for number in range(1, 100_000)]
    path = [99_999]
    while path[-1]:
        path.append((path[-1] - 1) // 3)
    for number in path:
        rows[number] = rows[number]._replace(guilty=True)
    rows[99_999] = rows[99_999]._replace(note="guilty.py:1", error="it broke")
    begun = time.process_time()
    lines = render_trace(rows).splitlines()
    assert time.process_time() - begun < 3
    assert 100 < len(lines) < 400
    assert sum("◀ here" in line for line in lines) == 1
    assert sum("▶" in line for line in lines) == len(path)
    assert any("more, and what is below" in line for line in lines)


def test_very_deep_trace_is_drawn_in_bounded_memory_and_width() -> None:
    rows = [row(f"s{number}", f"s{number - 1}", "deeper", 0, 1) for number in range(20_000)]
    tracemalloc.start()
    try:
        lines = render_trace(rows, width=110).splitlines()
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert max(map(len, lines)) < 130


def test_nothing_is_drawn_of_nothing() -> None:
    assert render_trace([]) == ""
    assert render_trace([Row("a", None, "", "", None, 5, 5)]).startswith("(no name)")


def test_color_is_wanted_by_terminals_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_color(Terminal())
    assert not wants_color(io.StringIO())
    assert not wants_color(object())
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_color(Terminal())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert wants_color(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(Terminal())


def test_long_lines_are_cut() -> None:
    assert one_line("x" * 200, 10) == "x" * 9 + "…"
