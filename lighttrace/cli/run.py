"""`lighttrace run`: start a program with tracing on, without changing a line of it.

It puts a directory with a `sitecustomize.py` in front of PYTHONPATH and becomes the program. Every Python that starts
from there on, workers and reloaders included, runs that file before its first line, and so `lighttrace.init()`.

Two interpreters start where one did before, so nothing is imported here that `python -c pass` has not imported already.
"""

import os
import sys

BOOTSTRAP = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_bootstrap")
"""Where our `sitecustomize.py` lies."""

STARTED = "_LIGHTTRACE_RUN_PID"
"""The process that `lighttrace run` became: the one that may complain when tracing cannot start."""

USAGE = "usage: lighttrace run [--service NAME] [--team TEAM] [--exporter NAME] [--] COMMAND [ARGUMENT...]"
HELP = f"""{USAGE}

Run a program with tracing on, without changing it. Whatever Python it starts (gunicorn's and uvicorn's workers, a
reloader, multiprocessing) is traced too.

  --service NAME    what the service is called (LIGHTTRACE_SERVICE)
  --team TEAM       the team that owns it (LIGHTTRACE_TEAM)
  --exporter NAME   otlp (the default), console, file or none (LIGHTTRACE_EXPORTER)

  lighttrace run --service checkout --team payments -- gunicorn app:app
  lighttrace run -- python app.py
  lighttrace run -- python -m my.package
"""
_VARIABLES = {"--service": "LIGHTTRACE_SERVICE", "--team": "LIGHTTRACE_TEAM", "--exporter": "LIGHTTRACE_EXPORTER"}


class UsageError(Exception):
    """The command line cannot be understood; the message says what to write instead."""


def parse(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Split the command line into environment variables and the program's own command.

    Raises UsageError.

    >>> parse(["--team", "web", "--", "gunicorn", "app:app"])
    ({'LIGHTTRACE_TEAM': 'web'}, ['gunicorn', 'app:app'])
    """
    variables: dict[str, str] = {}
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            position += 1
            break
        if not word.startswith("-"):
            break
        name, equals, value = word.partition("=")
        variable = _VARIABLES.get(name)
        if variable is None:
            raise UsageError(f"unknown option {name} (options of the program go after its name)")
        if not equals:
            position += 1
            if position == len(words) or words[position] == "--":
                raise UsageError(f"{name} needs a value")
            value = words[position]
        if not value.strip():
            raise UsageError(f"{name} needs a value that is not empty")
        variables[variable] = value
        position += 1
    command = words[position:]
    if not command:
        raise UsageError("which program? For example: lighttrace run -- python app.py")
    return variables, command


def environment(variables: dict[str, str], environ: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    """The program's environment: the given one, our variables, and our directory in front of PYTHONPATH.

    >>> environment({}, {"PYTHONPATH": "lib"})["PYTHONPATH"] == BOOTSTRAP + os.pathsep + "lib"
    True
    """
    result = {**environ, **variables, STARTED: str(os.getpid())}
    # Empty entries stay: they mean the current directory, and the program may live by them.
    before = result.get("PYTHONPATH")
    paths = [path for path in before.split(os.pathsep) if path != BOOTSTRAP] if before else []
    result["PYTHONPATH"] = os.pathsep.join([BOOTSTRAP, *paths])
    return result


def resolve(command: list[str], path: str | None) -> list[str]:
    """The command as it can be executed: a script without an interpreter gets ours, a tool beside our Python is found.

    >>> resolve(["no-such-program"], "") == ["no-such-program"]
    True
    """
    program = command[0]
    if program.endswith((".py", ".pyz")) and os.path.isfile(program) and not os.access(program, os.X_OK):
        return [sys.executable, *command]
    if os.sep in program or _on_path(program, path):
        return command
    beside = os.path.join(os.path.dirname(sys.executable), program)  # a virtual environment that was not activated
    if os.access(beside, os.X_OK):
        return [beside, *command[1:]]
    if program.endswith(".py") and os.path.isfile(program):  # executable, but `.` is not on the path
        return [sys.executable, *command]
    if program in ("python", "python3"):
        return [sys.executable, *command[1:]]
    return command


def _on_path(program: str, path: str | None) -> bool:
    for directory in (os.defpath if path is None else path).split(os.pathsep):
        candidate = os.path.join(directory or os.curdir, program)
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return True
    return False


def explain(command: list[str], error: OSError) -> str:
    """What to tell somebody whose program could not be started.

    >>> explain(["gunicorm", "app:app"], FileNotFoundError(2, "No such file or directory"))
    'lighttrace run: gunicorm: there is no such program on PATH'
    """
    program = command[0]
    if isinstance(error, FileNotFoundError):
        if os.path.exists(program):  # the kernel means the interpreter in its first line
            reason = "the interpreter named in its first line does not exist"
        elif os.sep in program or program.endswith(".py"):
            reason = "there is no such file"
        else:
            reason = "there is no such program on PATH"
    elif isinstance(error, PermissionError):
        reason = "it is a directory" if os.path.isdir(program) else "it is not executable"
    else:
        reason = error.strerror or str(error)
    return f"lighttrace run: {program}: {reason}"


def main(words: list[str]) -> int:
    """Become the program. Comes back only if that failed: 2 for a command line that is wrong, else as a shell has it."""
    if words and words[0] in ("--help", "-h"):
        print(HELP, end="")
        return 0
    try:
        variables, command = parse(words)
    except UsageError as error:
        print(f"{USAGE}\nlighttrace run: {error}", file=sys.stderr)
        return 2
    environ = environment(variables, os.environ)
    command = resolve(command, environ.get("PATH"))
    try:
        if os.name == "nt":  # there, exec returns to the shell before the program has ended
            import subprocess

            return subprocess.call(command, env=environ)
        os.execvpe(command[0], command, environ)
    except OSError as error:
        print(explain(command, error), file=sys.stderr)
        return 126 if isinstance(error, PermissionError) else 127
