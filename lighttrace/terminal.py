"""Drawing a trace for a person: a tree, a bar on the trace's own time line, owners, errors and the guilty path."""

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

_BOLD, _DIM, _RED, _YELLOW, _CYAN, _PLAIN = "\033[1m", "\033[2m", "\033[31m", "\033[33m", "\033[36m", "\033[0m"
_NAME, _DEEPEST = 44, 60
_MOST_ROWS = 400
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Row(NamedTuple):
    """One span as it is drawn. Times are nanoseconds since the epoch."""

    span_id: str
    parent_id: str | None
    name: str
    service: str
    team: str | None
    start_ns: int
    end_ns: int
    error: str | None = None
    guilty: bool = False
    note: str | None = None
    kind: str = ""


def wants_color(stream: Any) -> bool:
    """Whether to color what goes to `stream`: a terminal, unless NO_COLOR; always with FORCE_COLOR."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    try:
        return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
    except Exception:  # a stream that has been closed, or is none
        return False


def render_trace(rows: Iterable[Row], *, color: bool = False, width: int = 110) -> str:
    """The trace as lines of text. Spans without their parent are drawn as roots of their own.

    >>> print(render_trace([Row("a", None, "GET /", "web", "shop", 0, 2_000_000)], width=70))  # doctest: +ELLIPSIS
    GET /...2.0 ms...web · shop
    """
    spans = {row.span_id: row for row in rows}
    if not spans:
        return ""
    children: dict[str | None, list[Row]] = {}
    for row in spans.values():
        parent = row.parent_id if row.parent_id in spans and row.parent_id != row.span_id else None
        children.setdefault(parent, []).append(row)
    for siblings in children.values():
        siblings.sort(key=lambda row: (row.start_ns, row.end_ns))
    drawn = _walk(children, spans)
    begin = min(row.start_ns for row in spans.values())
    length = max(1, max(row.end_ns for row in spans.values()) - begin)
    left = min(_DEEPEST, max(len(lead) + len(_label(row)) for lead, row, _ in drawn) + 1)
    owner = max(len(_owner(row)) for _, row, _ in drawn)
    bar = max(8, min(30, width - left - owner - 16))
    lines = []
    for lead, row, folded in drawn:
        lines.extend(_lines(lead, row, folded, begin, length, left, bar, color))
        if len(lines) >= _MOST_ROWS:
            lines.append(f"… and {len(spans) - len(drawn[: len(lines)])} more spans")
            break
    return "\n".join(lines)


def _walk(children: dict[str | None, list[Row]], spans: dict[str, Row]) -> list[tuple[str, Row, str]]:
    """Rows in the order of drawing, each with the lines before it; many of a kind in a row become one."""
    drawn: list[tuple[str, Row, str]] = []
    stack: list[tuple[str, str, Row, str]] = [("", "", row, "") for row in reversed(children.get(None, []))]
    seen: set[str] = set()
    while stack:
        lead, below, row, folded = stack.pop()
        if row.span_id in seen:
            continue
        seen.add(row.span_id)
        drawn.append((lead, row, folded))
        groups = _fold(children.get(row.span_id, []), children)
        for index, (child, note) in reversed(list(enumerate(groups))):
            last = index == len(groups) - 1
            stack.append((below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "), child, note))
    for row in spans.values():  # spans that name each other as parents have no way in from above
        if row.span_id not in seen and not children.get(None):
            drawn.append(("", row, ""))
    return drawn


def _fold(siblings: list[Row], children: dict[str | None, list[Row]]) -> list[tuple[Row, str]]:
    """Five childless siblings or more of the same name and outcome, one after the other, are drawn once."""
    groups: list[list[Row]] = []
    for row in siblings:
        previous = groups[-1][-1] if groups else None
        if (
            previous is not None
            and previous.name == row.name
            and bool(previous.error) == bool(row.error)
            and previous.guilty == row.guilty
            and not children.get(previous.span_id)
            and not children.get(row.span_id)
        ):
            groups[-1].append(row)
        else:
            groups.append([row])
    folded: list[tuple[Row, str]] = []
    for group in groups:
        if len(group) < 5:
            folded.extend((row, "") for row in group)
        else:
            total = sum(row.end_ns - row.start_ns for row in group)
            whole = group[0]._replace(end_ns=max(row.end_ns for row in group))
            folded.append((whole, f"× {len(group)}, {_duration(total)} together"))
    return folded


def _lines(lead: str, row: Row, folded: str, begin: int, length: int, left: int, bar: int, color: bool) -> list[str]:
    def paint(code: str, text: str) -> str:
        return f"{code}{text}{_PLAIN}" if color and text else text

    label = _label(row)
    room = max(8, left - len(lead) - 1)
    if len(label) > room:
        label = label[: room - 1] + "…"
    gap = " " * max(1, left - len(lead) - len(label))
    shade = _RED if row.error else _CYAN
    name = paint(_BOLD + (_RED if row.error else _YELLOW), label) if row.guilty else paint(_RED, label) if row.error else label
    took = folded or _duration(row.end_ns - row.start_ns)
    line = (
        f"{paint(_DIM, lead)}{name}{gap}{paint(shade, _bar(row, begin, length, bar))} {took:>9}  {paint(_DIM, _owner(row))}"
        f"{paint(_BOLD, '  ◀ here') if row.guilty and row.note is not None else ''}"
    )
    lines = [line.rstrip()]
    pad = lead.replace("├─", "│ ").replace("└─", "  ") + "  "
    if row.error:
        lines.append(pad + paint(_RED, "✗ " + _one_line(row.error)))
    if row.note:
        lines.append(pad + paint(_BOLD, row.note))
    return lines


def _label(row: Row) -> str:
    mark = "▶ " if row.guilty else ""
    return mark + _one_line(row.name, _NAME)


def _owner(row: Row) -> str:
    return " · ".join(part for part in (row.service, row.team) if part)


def _bar(row: Row, begin: int, length: int, width: int) -> str:
    start = (row.start_ns - begin) * width / length
    size = max(1 / 8, (row.end_ns - row.start_ns) * width / length)
    whole_start = min(int(start), width - 1)
    eighths = max(1, round(min(size, width - whole_start) * 8))
    text = " " * whole_start + "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return text[:width].ljust(width)


def _duration(nanoseconds: int) -> str:
    if nanoseconds >= 1_000_000_000:
        return f"{nanoseconds / 1e9:.2f} s"
    if nanoseconds >= 100_000:
        return f"{nanoseconds / 1e6:.1f} ms"
    return f"{nanoseconds / 1e3:.0f} µs"


def _one_line(text: str, most: int = 110) -> str:
    # Control characters in a span's name must not reach the terminal.
    line = "".join(character if character.isprintable() else " " for character in text.strip().partition("\n")[0])
    return line if len(line) <= most else line[: most - 1] + "…"
