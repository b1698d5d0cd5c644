"""The command's frame: what it lists, what it imports, what it says to nonsense."""

import subprocess
import sys

import pytest

import lighttrace
from lighttrace.cli import main as command


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"lighttrace {lighttrace.__version__}\n"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {name}" in text for name in command.COMMANDS)


def test_nothing_chosen_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 2
    assert "doctor" in capsys.readouterr().err


def test_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(["dctor"])
    assert exit_.value.code == 2
    assert "dctor" in capsys.readouterr().err


def test_only_the_chosen_command_is_imported() -> None:
    code = "import sys; from lighttrace.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([n for n in sys.modules if n.startswith('lighttrace.cli.')], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "['lighttrace.cli.main']\n"
