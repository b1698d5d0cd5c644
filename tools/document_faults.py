"""Write docs/reliability.md from what tests/faults saw.

    FAULTS_REPORT=report.jsonl python -m pytest tests/faults
    python tools/document_faults.py report.jsonl            # writes the page
    python tools/document_faults.py report.jsonl --check    # exits 1 if the page says something else of LightTrace

The check compares rows and words. Figures differ from run to run and from machine to machine, and are not compared. What
opentelemetry-sdk did is shown where it differs and decides nothing: its workers race with their end.
"""

import argparse
import difflib
import json
import re
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"

FAULTS = {
    1: "A fork",
    2: "gevent and eventlet",
    3: "The backend down, hanging, slow or refusing",
    4: "The exporter traces or logs itself",
    5: "Generators and streaming",
    6: "Spans lost at exit",
    7: "Patches that miss or break",
    8: "Memory that grows",
    9: "Spans dropped in silence",
    10: "One bad attribute costs the batch",
    11: "Tasks that outlive their request",
    12: "Thread pools",
    13: "The same ids twice",
    14: "Instrumented twice",
    15: "What counts as an error",
    16: "Names without number",
    17: "Noise",
    18: "Secrets",
    19: "Signed requests broken",
    20: "Callers that lie",
    21: "Servers that spawn and reload",
    22: "“Why is there no trace?”",
    23: "Slow start-up",
    24: "Testing",
    25: "Types",
    26: "Propagation formats",
}

HEAD = """\
# Reliability

What bites the users of tracers, tried on LightTrace and on opentelemetry-sdk: real processes, real servers, real sockets, and a
backend that fails on purpose. This page is written by `nox -s faults -- --write` from what the tests in `tests/faults` saw, and a
check holds what it says of LightTrace to that; figures are those of one run. Where a cell is empty, nothing was tried: the
question does not arise there, or its answer is no property of the SDK's.
"""


def read(path: Path) -> list[tuple[int, str, str, str]]:
    """The lines of a report, each once, by row and in the order of their words. Raises SystemExit for one that says two things."""
    found: dict[tuple[int, str], tuple[int, str, str, str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        row = (entry["row"], entry["tried"], entry["lighttrace"], entry["opentelemetry"])
        if row[0] not in FAULTS:
            raise SystemExit(f"{entry['test']} records a row {row[0]}, which this tool has no name for")
        before = found.setdefault(row[:2], row)
        if without_figures(" ".join(before[2:])) != without_figures(" ".join(row[2:])):
            raise SystemExit(f"row {row[0]} is said in two ways: {row[1]}: {before[2:]} and {row[2:]}")
    return sorted(found.values())


def without_figures(text: str) -> str:
    """The text with every number replaced."""
    return re.sub(r"\d+(?:[.,]\d+)*", "0", text)


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def render(rows: list[tuple[int, str, str, str]]) -> str:
    """The page."""
    parts = [HEAD]
    for number, title in FAULTS.items():
        of_this = [row for row in rows if row[0] == number]
        if of_this:
            parts.append(f"\n## {number}. {title}\n\n| tried | LightTrace | OpenTelemetry |\n|---|---|---|\n")
            parts += [f"| {' | '.join(map(cell, row[1:]))} |\n" for row in of_this]
    return "".join(parts)


def main() -> int:
    """Write or check the page and give the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if rows or words of ours differ")
    options = parser.parse_args()
    page = render(read(options.report))
    if not options.check:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    there = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    print("\n".join(difference(there, page)) or f"{PAGE.name} says what was seen")
    return 1 if difference(ours(there), ours(page)) else 0


def difference(old: str, new: str) -> list[str]:
    """The lines that differ by more than figures."""
    before, after = (without_figures(text).splitlines() for text in (old, new))
    return list(difflib.unified_diff(before, after, PAGE.name, "what was seen", lineterm="", n=0))


def ours(page: str) -> str:
    """A page without its last column."""
    return "\n".join(re.sub(r"(?<!\\)\|(?:[^|\\]|\\.)*\|$", "|", line) for line in page.splitlines())


if __name__ == "__main__":
    sys.exit(main())
