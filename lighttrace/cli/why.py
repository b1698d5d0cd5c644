"""`lighttrace why`: reads traces and names, for each, the root cause, the line of code and the team."""

import argparse
import json
import sys
from collections.abc import Iterable
from typing import Any, BinaryIO

from lighttrace import semconv
from lighttrace.analysis.decode import from_json_line, from_protobuf
from lighttrace.analysis.model import SpanRecord
from lighttrace.analysis.tree import Tree
from lighttrace.analysis.verdict import SLOW_MS, Verdict, verdict
from lighttrace.terminal import Row, render_trace, wants_color

_PROTOBUF = 0x0A  # how an ExportTraceServiceRequest in protobuf begins; a line of JSON cannot, but for an empty line


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "why",
        help="say who can fix a trace: the span, the line of code and the team",
        description="Read traces, as OTLP JSON lines (LightTrace's file exporter or the Collector's) or OTLP protobuf, and say for "
        "each who can fix it. Exits 1 if there is no trace.",
    )
    parser.add_argument("file", metavar="FILE", help="the traces; - for standard input")
    parser.add_argument("--trace", metavar="ID", help="only the trace whose id begins so")
    parser.add_argument("--json", action="store_true", help="print one JSON object per trace instead")
    parser.add_argument(
        "--slow-ms", type=float, default=SLOW_MS, metavar="MS", help="a request is slow from here on (default %(default).0f)"
    )


def run(options: argparse.Namespace) -> int:
    """Judge every trace in the file and print what was found; gives 0, or 1 if there was no trace."""
    try:
        if options.file == "-":
            spans, problems = read(sys.stdin.buffer)
        else:
            with open(options.file, "rb") as file:
                spans, problems = read(file)
    except OSError as error:
        print(f"lighttrace why: {options.file}: {error.strerror or error}", file=sys.stderr)
        return 1
    for problem in problems:
        print(f"lighttrace why: {options.file}: {problem}", file=sys.stderr)
    traces: dict[str, list[SpanRecord]] = {}
    wanted = (options.trace or "").lower()
    for span in spans:
        if span.trace_id.startswith(wanted):
            traces.setdefault(span.trace_id, []).append(span)
    if not traces:
        which = f" whose id begins with {options.trace}" if options.trace else ""
        print(f"lighttrace why: there is no trace{which} in {options.file}", file=sys.stderr)
        return 1
    color = wants_color(sys.stdout)
    for trace_id, members in traces.items():
        found = verdict(members, options.slow_ms)
        if options.json:
            print(json.dumps(summary(trace_id, members, found), ensure_ascii=False))
        else:
            print(f"trace {trace_id}")
            print(render(members, found, color=color))
            print()
    return 0


def read(stream: BinaryIO) -> tuple[list[SpanRecord], list[str]]:
    """All spans of a file, and what was wrong with it, by line."""
    data = stream.read()
    if data[:1] == bytes((_PROTOBUF,)) and data.lstrip()[:1] != b"{":
        try:
            return from_protobuf(data), []
        except ValueError as error:
            return [], [str(error)]
    spans: list[SpanRecord] = []
    problems = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = raw.strip()
        if not line:
            continue
        try:
            spans.extend(from_json_line(line.decode("utf-8")))
        except UnicodeDecodeError:
            problems.append(f"line {number} is skipped: not UTF-8 text")
        except ValueError as error:
            problems.append(f"line {number} is skipped: {error}")
    return spans, problems


def summary(trace_id: str, spans: list[SpanRecord], found: Verdict) -> dict[str, Any]:
    """What `--json` prints of one trace."""
    tree = Tree(spans)
    return {
        "trace_id": trace_id,
        "root": tree.root.name,
        "spans": len(tree.spans),
        "services": sorted({span.service for span in spans if span.service}),
        "duration_ms": round(tree.root.duration_ns / 1e6, 3),
        "verdict": found.to_json(),
    }


def render(spans: Iterable[SpanRecord], found: Verdict, *, color: bool = False) -> str:
    """The tree with the guilty path marked, the sentence, how to reach the team, and the next question to ask."""
    path = set(found.path)
    handled = set(found.handled)
    rows = []
    for span in Tree(spans).spans.values():
        guilty = span.span_id == found.span_id
        error = _error(span)
        if error and span.span_id in handled:
            error += "   (handled)"
        note = (found.code or "") if guilty else None
        rows.append(
            Row(
                span.span_id,
                span.parent_id,
                span.name,
                span.service,
                span.team,
                span.start_ns,
                span.end_ns,
                error,
                guilty=span.span_id in path,
                note=note,
                kind=span.kind,
            )  # fmt: skip
        )
    bold, plain = ("\033[1m", "\033[0m") if color else ("", "")
    lines = [render_trace(rows, color=color), ""]
    if found.kind == "none":
        lines.append(f"{bold}Nobody needs to do anything:{plain} {found.why}")
    else:
        who = f"team {found.team}" if found.team else "nobody named"
        lines.append(f"{bold}{who}{plain} can fix this ({found.kind}, {found.confidence} confidence): {found.why}")
    reach = ", ".join(part for part in (found.contact, found.url) if part)
    if reach:
        lines.append(f"Reach them: {reach}")
    if len(found.shares) > 1:
        lines.append("Time on the critical path: " + ", ".join(f"{team} {percent:g} %" for team, percent in found.shares[:5]))
    for missing in found.evidence_missing:
        lines.append(f"Missing evidence: {missing}")
    question = _next_question(found)
    if question:
        lines.append(f"Ask next: {question}")
    return "\n".join(lines)


def _error(span: SpanRecord) -> str | None:
    if not span.failed:
        return None
    event = span.exception
    if event is not None:
        attributes = event["attributes"]
        kind, message = attributes.get(semconv.EXCEPTION_TYPE, "exception"), attributes.get(semconv.EXCEPTION_MESSAGE, "")
        return f"{kind}: {message}"
    return span.status_message or str(span.get(semconv.ERROR_TYPE) or "error")


def _next_question(found: Verdict) -> str:
    if found.kind == "none":
        return ""
    if found.n_plus_one is not None:
        return f"can {found.n_plus_one['query']!r} ask for all rows at once?"
    if found.kind == "latency":
        return f"has {found.span!r} become slower, or was it always so? Compare with yesterday's traces."
    if found.code:
        return f"what changed last at {found.code}?"
    if found.evidence_missing:
        return f"can {found.service or 'the other side'} be traced too?"
    return f"what changed last in {found.service}?"
