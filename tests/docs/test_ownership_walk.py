"""The walk in docs/ownership.md, done as a newcomer would: the files as they stand there, the commands, what they print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import lighttrace

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ownership.md"
STEP = re.compile(r"(?:^`(?P<file>[^`\n]+)`:\n\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS_SECONDS = 60


def walk() -> str:
    text = PAGE.read_text(encoding="utf-8")
    begin, end = text.index("## A walk"), text.index("## Who owns a span")
    return text[begin:end]


def programs(folder: Path) -> dict[str, str]:
    """An environment in which `lighttrace` and `python` are those under test."""
    folder.mkdir()
    for name, words in (("lighttrace", "-m lighttrace "), ("python", "")):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        program.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(lighttrace.__file__).resolve().parent.parent),
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
    }


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether the lines are those expected, where `...` stands for any number of lines."""
    pattern = "".join("(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in expected)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


def test_walk_works_as_written(tmp_path: Path) -> None:
    here = tmp_path / "shop"
    here.mkdir()
    environment = programs(tmp_path / "bin")
    commands = 0
    for step in STEP.finditer(walk()):
        if step["file"]:
            path = here / step["file"]
            path.parent.mkdir(exist_ok=True)
            path.write_text(step["body"], encoding="utf-8")
            continue
        assert step["language"] == "console", f"a block of the walk is neither a file nor commands: {step['body'][:60]}"
        for command in re.split(r"^\$ ", step["body"], flags=re.MULTILINE)[1:]:
            line, _, rest = command.partition("\n")
            done = subprocess.run(
                ["sh", "-c", line], cwd=here, env=environment, text=True, timeout=COMMANDS_SECONDS,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
            printed = [shown.rstrip() for shown in done.stdout.splitlines() if shown.strip()]
            if done.returncode:
                printed.append(f"[exit code {done.returncode}]")
            expected = [shown.rstrip() for shown in rest.splitlines() if shown.strip()]
            assert matches(expected, printed), (
                f"$ {line}\nprinted:\n" + "\n".join(printed) + "\nexpected:\n" + "\n".join(expected)
            )
            commands += 1
    assert commands > 8
