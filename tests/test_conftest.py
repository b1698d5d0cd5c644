"""The watch that conftest keeps over every other test: what it must see, seen in tests of their own process."""

import subprocess
import sys
from pathlib import Path

import pytest

import lighttrace
from lighttrace import guard

CONFTEST = Path(__file__).with_name("conftest.py")


def run_tests(directory: Path, code: str) -> str:
    """Run a test file of its own under our conftest, and give what pytest prints."""
    tests = directory / "tests"
    tests.mkdir()
    for name in ("__init__.py", "conftest.py", "servers.py"):
        (tests / name).write_text(CONFTEST.with_name(name).read_text())
    (tests / "test_it.py").write_text(code)
    (directory / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nmarkers = contained: on purpose\n")
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv.pop(1)); import pytest; sys.exit(pytest.main())"]
    options = ["--import-mode=importlib", "-q", "-p", "no:cacheprovider", "tests"]
    package_root = str(Path(lighttrace.__file__).resolve().parent.parent)
    return subprocess.run([*command, package_root, *options], cwd=directory, capture_output=True, text=True, timeout=60).stdout


def test_contained_failure_fails_the_test_that_caused_it(tmp_path: Path) -> None:
    said = run_tests(tmp_path, "from lighttrace import guard\ndef test_it(): guard.call(guard.site('x.y'), lambda: 1 / 0)\n")
    assert "ZeroDivisionError" in said
    assert "1 failures were contained, at x.y" in said


@pytest.mark.contained
def test_marked_test_finds_what_was_contained(contained: list[tuple[str, str]]) -> None:
    guard.call(guard.site("example"), lambda: int("x"))
    assert contained == [("example", "ValueError: invalid literal for int() with base 10: 'x'")]


@pytest.mark.parametrize("prefix", ["", "async "])
def test_span_left_current_fails_the_test(tmp_path: Path, prefix: str) -> None:
    said = run_tests(
        tmp_path,
        "from opentelemetry import context, trace\n"
        f"{prefix}def test_leak():\n"
        "    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, False))\n"
        "    context.attach(trace.set_span_in_context(span))\n"
        f"{prefix}def test_next():\n"
        "    assert not trace.get_current_span().get_span_context().is_valid\n",
    )
    assert "left behind a current span" in said
    assert "test_next" not in said


def test_thread_left_running_fails_the_test(tmp_path: Path) -> None:
    said = run_tests(
        tmp_path,
        "import threading\ndef test_it(): threading.Thread(target=threading.Event().wait, name='lighttrace-x', daemon=True).start()\n",
    )
    assert "left behind threads: lighttrace-x" in said
