"""The examples in docstrings run, the Python in the documentation compiles, and its links lead somewhere.

    python tools/check_docs.py

The docstrings are those of the `lighttrace` that is installed; the documentation is the checkout's. Prints each finding
as `file:line: what is wrong` and exits 1 if there is one.
"""

import doctest
import importlib
import os
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = ("_bootstrap", "_shop", "__main__")
"""Directories and modules that are run and not imported."""

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)(?: \"[^\"]*\")?\)|<(?:img|a)[^>]*(?:src|href)=\"(?P<html>[^\"]+)\"")
HEADING = re.compile(r"^#+ +(?P<title>.+?) *$", re.MULTILINE)


def documents() -> list[Path]:
    """The project's Markdown, without what tools keep in hidden directories."""
    found = [
        *ROOT.glob("*.md"),
        *(path for name in ("docs", "examples", "benchmarks", "tests") for path in (ROOT / name).rglob("*.md")),
    ]
    return sorted(found)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def anchor(title: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()).replace(" ", "-")


def check_blocks(text: str) -> Iterator[tuple[int, str]]:
    """Fenced Python that does not compile."""
    for block in FENCE.finditer(text):
        if block["language"] in ("python", "py"):
            try:
                compile(textwrap.dedent(block["body"]), "example", "exec", dont_inherit=True)
            except SyntaxError as error:
                yield line_of(text, block.start()) + (error.lineno or 0), f"the example does not compile: {error.msg}"


def check_links(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Links to files and headings that are not there. The web is not asked."""
    without_code = FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
    for link in LINK.finditer(without_code):
        target = link["target"] or link["html"]
        if re.match(r"[a-z]+:", target):
            continue
        file, _, fragment = target.partition("#")
        aim = (path.parent / file).resolve() if file else path
        if not aim.exists():
            yield line_of(without_code, link.start()), f"no such file: {target}"
        elif fragment and aim.suffix == ".md":
            titles = {anchor(heading["title"]) for heading in HEADING.finditer(FENCE.sub("", aim.read_text(encoding="utf-8")))}
            if fragment not in titles:
                yield line_of(without_code, link.start()), f"no such heading: {target}"


def modules() -> Iterator[str]:
    """The name of every module of the installed package."""
    import lighttrace

    yield "lighttrace"
    for found in pkgutil.walk_packages(lighttrace.__path__, "lighttrace."):
        if not any(part in SKIPPED for part in found.name.split(".")):
            yield found.name


def check_docstrings() -> tuple[int, int]:
    """Run the examples of every module; how many there are, and how many failed. A module that cannot be imported failed."""
    import lighttrace

    examples = failures = 0
    for name in modules():
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            print(f"{name}: cannot be imported: {error}")
            failures += 1
            continue
        result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        examples += result.attempted
        failures += result.failed
        lighttrace.shutdown()  # an example may have switched tracing on
    return examples, failures


def main() -> int:
    """Check everything and give the exit code."""
    findings = 0
    paths = documents()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for line, message in (*check_blocks(text), *check_links(path, text)):
            findings += 1
            print(f"{path.relative_to(ROOT)}:{line}: {message}")
    os.environ["LIGHTTRACE_EXPORTER"] = "none"  # examples send nothing
    examples, failures = check_docstrings()
    print(f"{len(paths)} documents: {findings or 'no'} findings; {examples} examples in docstrings: {failures or 'no'} failures")
    return 1 if findings or failures else 0


if __name__ == "__main__":
    sys.exit(main())
