"""Drawing a trace for a person: a tree, a bar on the trace's own time line, owners, errors and the guilty path."""

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

_BOLD, _DIM, _RED, _YELLOW, _CYAN, _PLAIN = "\033[1m", "\033[2m", "\033[31m", "\033[33m", "\033[36m", "\033[0m"
_NAME, _OWNER, _DEEPEST = 44, 28, 60  # characters of a span's name, of a service or team, and where bars begin at the latest
_LEAD = 45  # characters of the lines before a name: 15 levels; of what is deeper, the last 15
_MOST_ROWS = 120
_MANY = 30  # siblings; of so many, those of a kind are drawn once though others stand between them
_MOST_ERRORS = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Row(NamedTuple):
    """One span as it is drawn. Times are nanoseconds since the epoch.

    `guilty` rows are marked, as the way from the root to the culprit; of these the one that has a `note` is the culprit
    itself. The note stands below it, if it is not empty.
    """

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


class _Drawn(NamedTuple):
    """One line of the tree: a row, what stands before it, and instead of its duration what was folded into it."""

    lead: str
    row: Row | None
    folded: str


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
    """The trace as lines of text, of about `width` characters. Spans without their parent are drawn as roots of their own.

    Of a trace that is too large to be looked at, the guilty path and the errors are drawn with what leads to them, then
    what is nearest to the root.

    >>> print(render_trace([Row("a", None, "GET /", "web", "shop", 0, 2_000_000)], width=70))  # doctest: +ELLIPSIS
    GET /...2.0 ms...web · shop
    """
    spans = {row.span_id: row for row in rows}
    if not spans:
        return ""
    roots, children = _forest(spans)
    lead = _LEAD if width >= 110 else max(15, width // 2 - 25)
    drawn = _walk(roots, children, _choose(spans, roots, children), lead)
    begin = min(row.start_ns for row in spans.values())
    length = max(1, max(row.end_ns for row in spans.values()) - begin)
    shown = [(entry.lead, entry.row) for entry in drawn if entry.row is not None]
    right = max(
        len(_took(row, entry.folded) + _owner(row, width) + _here(row)) for entry in drawn if (row := entry.row) is not None
    )
    left = min(_DEEPEST, max(27, width - right - 8), max(len(lead) + len(_label(row)) for lead, row in shown) + 1)
    bar = max(6, min(30, width - left - right))
    lines = []
    for entry in drawn:
        lines.extend(_lines(entry, begin, length, left, bar, color, width))
    return "\n".join(lines)


def _forest(spans: dict[str, Row]) -> tuple[list[Row], dict[str, list[Row]]]:
    """The roots, and children by id, each row once: of a ring of parents the first to start becomes a root."""
    by_parent: dict[str, list[Row]] = {}
    roots = []
    ordered = sorted(spans.values(), key=lambda row: (row.start_ns, row.end_ns))
    for row in ordered:
        if row.parent_id is None or row.parent_id == row.span_id or row.parent_id not in spans:
            roots.append(row)
        else:
            by_parent.setdefault(row.parent_id, []).append(row)
    children: dict[str, list[Row]] = {}
    reached = {row.span_id for row in roots}
    stack = list(roots)
    for row in [*roots, *ordered]:
        if row.span_id not in reached:
            reached.add(row.span_id)
            roots.append(row)
            stack.append(row)
        while stack:
            parent = stack.pop()
            own = [child for child in by_parent.get(parent.span_id, ()) if child.span_id not in reached]
            reached.update(child.span_id for child in own)
            if own:
                children[parent.span_id] = own
                stack.extend(own)
    return roots, children


def _choose(spans: dict[str, Row], roots: list[Row], children: dict[str, list[Row]]) -> set[str] | None:
    """The ids of what is drawn of a large trace; None if it is drawn whole."""
    if len(spans) <= _MOST_ROWS:
        return None
    parent = {child.span_id: row_id for row_id, own in children.items() for child in own}
    errors = [row.span_id for row in spans.values() if row.error][:_MOST_ERRORS]
    chosen: set[str] = set()
    for important in [row.span_id for row in spans.values() if row.guilty] + errors:
        above: str | None = important
        while above is not None and above not in chosen and len(chosen) < _MOST_ROWS:
            chosen.add(above)
            above = parent.get(above)
    level = roots
    while level and len(chosen) < _MOST_ROWS:
        for row in level[: _MOST_ROWS - len(chosen)]:
            chosen.add(row.span_id)
        level = [child for row in level if row.span_id in chosen for child in children.get(row.span_id, ())]
    return chosen


def _walk(roots: list[Row], children: dict[str, list[Row]], chosen: set[str] | None, lead: int) -> list[_Drawn]:
    """Rows in the order of drawing; many of a kind in a row become one, and what is not chosen becomes a number."""
    drawn: list[_Drawn] = []
    stack = [(_Drawn("", row, folded), "") for row, folded in reversed(_fold(roots, children, chosen))]
    while stack:
        entry, below = stack.pop()
        drawn.append(entry)
        if entry.row is None:
            continue
        groups = _fold(children.get(entry.row.span_id, []), children, chosen)
        if len(below) > lead:
            below = "⋯  " + below[3 - lead :]
        for index, (child, folded) in reversed(list(enumerate(groups))):
            last = index == len(groups) - 1
            stack.append((_Drawn(below + ("└─ " if last else "├─ "), child, folded), below + ("   " if last else "│  ")))
    return drawn


def _fold(siblings: list[Row], children: dict[str, list[Row]], chosen: set[str] | None) -> list[tuple[Row | None, str]]:
    """Five childless siblings or more of the same name and outcome are drawn once, where they follow one another or are very many."""
    groups: list[list[Row]] = []
    known: dict[tuple[object, ...], list[Row]] = {}
    for row in siblings:
        if row.span_id in children:
            groups.append([row])
            if len(siblings) < _MANY:
                known.clear()
            continue
        kind = row.name, row.service, row.team, bool(row.error), row.guilty
        group = known.get(kind)
        if group is not None:
            group.append(row)
        else:
            if len(siblings) < _MANY:
                known.clear()
            known[kind] = [row]
            groups.append(known[kind])
    folded: list[tuple[Row | None, str]] = []
    hidden = 0
    for group in groups:
        if chosen is not None and not any(row.span_id in chosen for row in group):
            hidden += len(group)
        elif len(group) < 5:
            folded.extend((row, "") for row in group)
        else:
            total = sum(row.end_ns - row.start_ns for row in group)
            whole = group[0]._replace(end_ns=max(row.end_ns for row in group))
            folded.append((whole, f"× {len(group)}, {_duration(total)} in all"))  # noqa: RUF001 - a multiplication sign is meant
    if hidden:
        folded.append((None, f"… {hidden} more, and what is below them" if hidden > 1 else "… 1 more, and what is below it"))
    return folded


def _lines(entry: _Drawn, begin: int, length: int, left: int, bar: int, color: bool, width: int) -> list[str]:
    def paint(code: str, text: str) -> str:
        return f"{code}{text}{_PLAIN}" if color and text else text

    lead, row = entry.lead, entry.row
    if row is None:
        return [paint(_DIM, lead + entry.folded)]
    label = _label(row)
    room = max(8, left - len(lead) - 1)
    if len(label) > room:
        label = label[: room - 1] + "…"
    gap = " " * max(1, left - len(lead) - len(label))
    shade = _RED if row.error else _CYAN
    name = paint(_BOLD + (_RED if row.error else _YELLOW), label) if row.guilty else paint(_RED, label) if row.error else label
    line = (
        f"{paint(_DIM, lead)}{name}{gap}{paint(shade, _bar(row, begin, length, bar))}{_took(row, entry.folded)}"
        f"{paint(_DIM, _owner(row, width))}{paint(_BOLD, _here(row))}"
    )
    lines = [line.rstrip()]
    pad = lead.replace("├─", "│ ").replace("└─", "  ") + "  "
    if row.error:
        lines.append(paint(_DIM, pad) + paint(_RED, "✗ " + one_line(row.error, max(40, width - len(pad) - 2))))
    if row.note:
        lines.append(paint(_DIM, pad) + paint(_BOLD, one_line(row.note, max(40, width - len(pad)))))
    return lines


def _label(row: Row) -> str:
    mark = "▶ " if row.guilty else ""
    return mark + (one_line(row.name, _NAME) or "(no name)")


def _owner(row: Row, width: int) -> str:
    """Service and team, together at most a third of the width: the team is cut last."""
    most = max(24, width // 3)
    team = one_line(row.team or "", min(_OWNER, most // 2))
    service = one_line(row.service, min(_OWNER, most - len(team) - 3 if team else most))
    return " · ".join(part for part in (service, team) if part)


def _took(row: Row, folded: str) -> str:
    return f" {folded or _duration(row.end_ns - row.start_ns):>9}  "


def _here(row: Row) -> str:
    return "  ◀ here" if row.guilty and row.note is not None else ""


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


def one_line(text: str, most: int = 110) -> str:
    r"""The first line of `text`, at most `most` characters of it, without what could steer a terminal.

    >>> one_line("charge\x1b[2J card\nTraceback")
    'charge [2J card'
    """
    line = "".join(character if character.isprintable() else " " for character in text.strip().partition("\n")[0])
    return line if len(line) <= most else line[: most - 1] + "…"
