"""`lighttrace why`: reads traces and names, for each, the root cause, the line of code and the team."""

import argparse
import gzip
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from typing import Any, BinaryIO

from lighttrace import semconv
from lighttrace.analysis.decode import from_json_line, from_protobuf
from lighttrace.analysis.model import SpanRecord
from lighttrace.analysis.tree import Tree
from lighttrace.analysis.verdict import SLOW_MS, Verdict, judge
from lighttrace.analysis.words import message_of
from lighttrace.config import load
from lighttrace.ownership import Resolver
from lighttrace.terminal import Row, one_line, render_trace, wants_color

_RESOURCE_SPANS = (
    b"\x0a"  # how an ExportTraceServiceRequest in protobuf begins; a file of JSON lines only if its first line is empty
)
_GZIP = b"\x1f\x8b"
_CODE = re.compile("\033\\[[0-9;]*m")
_NARROWEST, _WIDEST = 80, 140


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "why",
        help="say who can fix a trace: the span, the line of code and the team",
        description="Read traces, as OTLP JSON lines (LightTrace's file exporter or the Collector's) or OTLP protobuf, gzipped or "
        "not, and say for each who can fix it. Exits 1 if there is no trace.",
    )
    parser.add_argument("file", metavar="FILE", help="the traces; - for standard input")
    parser.add_argument("--trace", metavar="ID", help="only the trace whose id begins so")
    parser.add_argument("--json", action="store_true", help="print one JSON object per trace instead")
    parser.add_argument(
        "--slow-ms",
        type=float,
        default=SLOW_MS,
        metavar="MS",
        help="a request that succeeded is slow from here on (default %(default).0f)",
    )


def run(options: argparse.Namespace) -> int:
    """Judge every trace in the file and print what was found; gives 0, or 1 if there was no trace."""
    name = "standard input" if options.file == "-" else options.file
    try:
        if options.file == "-":
            spans, problems = read(sys.stdin.buffer)
        else:
            with open(options.file, "rb") as file:
                spans, problems = read(file)
    except (OSError, EOFError) as error:
        print(f"lighttrace why: {name}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    for problem in problems:
        print(f"lighttrace why: {name}: {problem}", file=sys.stderr)
    traces: dict[str, list[SpanRecord]] = {}
    wanted = (options.trace or "").lower()
    for span in spans:
        if span.trace_id.startswith(wanted):
            traces.setdefault(span.trace_id, []).append(span)
    if not traces:
        which = f" whose id begins with {options.trace}" if options.trace else ""
        print(f"lighttrace why: there is no trace{which} in {name}", file=sys.stderr)
        return 1
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a bar shows a question mark
    color = wants_color(sys.stdout)
    width = columns()
    contacts = _Contacts()
    for trace_id, members in traces.items():
        tree = Tree(members)
        found = contacts.complete(judge(tree, options.slow_ms))
        if options.json:
            print(json.dumps(_summary(trace_id, tree, found)))
        else:
            print(f"trace {trace_id}")
            print(_render(tree, found, color, width, wrap=sys.stdout.isatty()))
            print()
    return 0


def read(stream: BinaryIO) -> tuple[list[SpanRecord], list[str]]:
    """All spans of a file, and what was wrong with it, by line. Raises OSError where it cannot be read."""
    data = stream.read()
    if data[:2] == _GZIP:
        data = gzip.decompress(data)
    if data[:1] == _RESOURCE_SPANS and data.strip():
        try:
            spans = from_protobuf(data)
        except ValueError as error:
            if not data.lstrip().startswith(b"{"):
                return [], [str(error)]
        else:
            if spans:
                return spans, []
    spans, problems = _read_lines(data)
    if not spans and problems:  # one request, printed over many lines
        try:
            return from_json_line(data.decode("utf-8-sig")), []
        except ValueError:
            pass
    return spans, problems


def _read_lines(data: bytes) -> tuple[list[SpanRecord], list[str]]:
    spans: list[SpanRecord] = []
    problems = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = raw.strip()
        if not line:
            continue
        try:
            spans.extend(from_json_line(line.decode("utf-8-sig" if number == 1 else "utf-8")))
        except UnicodeDecodeError:
            problems.append(f"line {number} is skipped: not UTF-8 text")
        except ValueError as error:
            problems.append(f"line {number} is skipped: {one_line(str(error), 200)}")
    return spans, problems


def _summary(trace_id: str, tree: Tree, found: Verdict) -> dict[str, Any]:
    """What `--json` prints of one trace."""
    return {
        "trace_id": trace_id,
        "root": tree.root.name,
        "spans": len(tree.spans),
        "services": sorted({span.service for span in tree.spans.values() if span.service}),
        "duration_ms": round(tree.root.duration_ns / 1e6, 3),
        "verdict": found.to_json(),
    }


def columns() -> int:
    """The terminal's width, within what a tree can be drawn in and read; 110 where there is none."""
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((110, 24)).columns))


def render(spans: Iterable[SpanRecord], found: Verdict, *, color: bool = False, width: int = 110, wrap: bool = False) -> str:
    """The tree with the guilty path marked, the sentence, how to reach the team, and the next question to ask."""
    return _render(Tree(spans), found, color, width, wrap)


def _render(tree: Tree, found: Verdict, color: bool, width: int, wrap: bool = False) -> str:
    bold, dim, plain = ("\033[1m", "\033[2m", "\033[0m") if color else ("", "", "")
    lines = [render_trace(_rows(tree, found), color=color, width=width), ""]
    why = one_line(found.why, 1000)
    if found.kind == "none":
        lines.append(f"{bold}Nobody needs to do anything:{plain} {why}")
    else:
        who = f"Team {one_line(found.team)}" if found.team else "Whoever owns it (no team is named)"
        lines.append(f"{bold}{who} can fix this{plain} ({found.kind}, {found.confidence} confidence): {why}")
    details = []
    reach = ", ".join(one_line(part) for part in (found.contact, found.url) if part)
    if reach:
        details.append(("Reach them", reach))
    if found.kind == "latency" and len(found.shares) > 1:
        times = ", ".join(f"{one_line(team)} {percent:g} %" for team, percent in found.shares[:5] if percent >= 0.1)
        details.append(("Time by team", times))
    if found.evidence_missing:
        details.append(("Missing", "; ".join(one_line(missing) for missing in found.evidence_missing)))
    question = _question(found)
    if question:
        details.append(("Next", one_line(question, 300)))
    lines += [f"  {dim}{label + ':':<14}{plain}{text}" for label, text in details]
    if wrap:  # for whoever reads; what reads a pipe wants each fact on a line of its own
        lines = lines[:1] + [part for line in lines[1:] for part in _wrapped(line, width)]
    return "\n".join(lines)


def _wrapped(line: str, width: int) -> list[str]:
    """The line, broken between words; what follows stands below the text, not below its label."""
    indent = " " * 16 if line.startswith("  ") else ""
    made, at = "", 0
    for word in line.split(" "):
        size = len(_CODE.sub("", word))
        if made.strip() and at + size > width:
            made, at = made.rstrip() + "\n" + indent, len(indent)
        made, at = f"{made}{word} ", at + size + 1
    return made.rstrip().split("\n")


def _rows(tree: Tree, found: Verdict) -> list[Row]:
    path, handled, also = set(found.path), set(found.handled), set(found.also)
    rows = []
    for span in tree.spans.values():
        parent = tree.parent.get(span.span_id)
        error = _error(span)
        if error and span.span_id in handled:
            error = f"{one_line(error, 90)}   (handled)"
        elif error and span.span_id in also:
            error = f"{one_line(error, 90)}   (another failure)"
        rows.append(
            Row(
                span.span_id,
                parent.span_id if parent is not None else None,  # not the span's own word: rings are cut, orphans are placed
                span.name,
                span.service,
                span.team,
                span.start_ns,
                span.end_ns,
                error,
                guilty=span.span_id in path,
                note=(found.code or "") if span.span_id == found.span_id else None,
                kind=span.kind,
            )
        )
    return rows


def _error(span: SpanRecord) -> str | None:
    if not span.failed:
        return None
    event = span.exception
    if event is not None:
        attributes = event["attributes"]
        kind, message = attributes.get(semconv.EXCEPTION_TYPE, "exception"), message_of(event)
        return f"{kind}: {message}" if message else str(kind)
    said = span.status_message or str(span.get(semconv.ERROR_TYPE) or span.http_status or "error")
    return f"status {said}" if said.isdigit() else said


def _question(found: Verdict) -> str:
    """What to ask next, and whom."""
    if not found.question or found.team is None:
        return found.question or ""
    return f"ask {one_line(found.contact or found.url or f'team {found.team}')}: {found.question}"


class _Contacts:
    """How to reach teams, from the files of the repository in which the command runs."""

    def __init__(self) -> None:
        self._resolver: Resolver | None = None

    def complete(self, found: Verdict) -> Verdict:
        """The verdict with the repository's contact and URL, where the trace itself does not tell them."""
        if found.team is None or (found.contact and found.url):
            return found
        if self._resolver is None:
            self._resolver = Resolver(load(directory=os.getcwd()))
        contact, url = self._resolver.contact(found.team)
        return found._replace(contact=found.contact or contact, url=found.url or url)
