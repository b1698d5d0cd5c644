"""The `lighttrace` command: chooses a subcommand and imports that one alone.

`lighttrace run` stands between a program and its start, so it is taken before argparse (12 ms) is even imported.
"""

import sys

TYPE_CHECKING = False  # typing's own would cost `lighttrace run` 5 ms; type checkers know the name
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

COMMANDS = {
    "run": "run a program with tracing, without changing it",
    "why": "say who can fix a trace: the span, the line of code and the team",
    "owners": "say who owns a file, and which line of CODEOWNERS decides",
    "doctor": "say what is traced, what is not and why, and whether the backend answers",
    "demo": "start a small shop of five services, break it in known ways and explain each trace",
}
"""Every subcommand and what it does. `lighttrace why` lives in `lighttrace/cli/why.py`, and so on."""


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run one command and give its exit code.

    `arguments` are those after the program's name; the process's own by default. What argparse refuses ends in
    `SystemExit(2)`, as everywhere.

    >>> main(["--version"])  # doctest: +ELLIPSIS
    lighttrace ...
    0
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = words[0] if words else ""
    if chosen == "run":
        from lighttrace.cli import run

        return run.main(words[1:])
    if chosen in ("--version", "-V"):
        from lighttrace import __version__

        print(f"lighttrace {__version__}")
        return 0
    return _dispatch(chosen, words)


def _dispatch(chosen: str, words: list[str]) -> int:
    parser, module = _build_parser(chosen)
    options = parser.parse_args(words)
    if module is None:  # nothing chosen: say what there is
        parser.print_help(sys.stderr)
        return 2
    from importlib import import_module

    try:
        code: int = import_module(module).run(options)
    except BrokenPipeError:  # `lighttrace why FILE | head` has seen enough
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _build_parser(chosen: str) -> "tuple[argparse.ArgumentParser, str | None]":
    """The parser, and the module of the chosen command. The other commands are only names with a line of help."""
    import argparse
    from importlib import import_module

    parser = argparse.ArgumentParser(
        prog="lighttrace",
        description="Traces that say which service, which line of code and which team.",
        epilog="`lighttrace COMMAND --help` tells the rest.",
    )
    parser.add_argument("--version", "-V", action="store_true", help="print the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    module = None
    for name, summary in COMMANDS.items():
        if name == chosen:
            module = f"lighttrace.cli.{name}"
            import_module(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser, module


if __name__ == "__main__":
    sys.exit(main())
