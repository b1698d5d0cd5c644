"""What CI runs beside the README's two commands. `nox -l` lists the sessions, `nox -s lint` runs one.

Everything is tested as a user gets it: each session installs the wheel built from this checkout, and runs from an
empty directory where the checkout cannot be imported by accident.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "architecture", "docs", "tests"]
nox.options.error_on_external_run = True
nox.options.default_venv_backend = "virtualenv"  # brings a newer pip than most Pythons do; see PIP in dev.py

ROOT = Path(__file__).resolve().parent
OUTSIDE = {"TMPDIR": tempfile.gettempdir()}  # where a test's own repository does not stand inside this one
SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")
OLDEST_DEPENDENCIES = (
    "opentelemetry-api==1.27.*",
    "opentelemetry-sdk==1.27.*",
    "opentelemetry-exporter-otlp==1.27.*",
    "wrapt==1.16.*",
)


def usable_pythons() -> list[str]:
    """The supported versions that this machine has. One that only pyenv knows is put on PATH, where nox looks for it."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = []
    for version in SUPPORTED:
        for directory in ("", *map(str, root.glob(f"versions/{version}.*/bin"))):
            path = directory + os.pathsep + os.environ["PATH"] if directory else os.environ["PATH"]
            program = shutil.which(f"python{version}", path=path)
            # A shim of pyenv's is there and still cannot be started.
            if program and subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0:
                os.environ["PATH"] = path
                found.append(version)
                break
    return found


def install(session: nox.Session, *extras: str) -> None:
    """The wheel of this checkout, with extras."""
    session.install(f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT))


def run_pytest(session: nox.Session, *more: str) -> None:
    """Run the tests from an empty directory. What follows `--` on nox's command line goes to pytest."""
    arguments = session.posargs or [str(ROOT / "tests")]
    if not any(argument.startswith(str(ROOT)) or Path(argument.split("::")[0]).exists() for argument in arguments):
        arguments = [*arguments, str(ROOT / "tests")]
    arguments = [
        str(Path(argument).resolve()) if "/" in argument and Path(argument).exists() else argument for argument in arguments
    ]
    session.chdir(session.create_tmp())
    session.run(
        *("pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), *more, *arguments),
        env={**OUTSIDE, "REQUIRE_INSTALLED_WHEEL": "1", "PYTHONPATH": None},
    )


@nox.session(python=usable_pythons())
def tests(session: nox.Session) -> None:
    """The tests, on every supported Python of this machine."""
    install(session, "test")
    run_pytest(session)


@nox.session
def oldest(session: nox.Session) -> None:
    """The tests with the oldest versions of what is required."""
    # Contrib's releases of that time still import pkg_resources, which setuptools no longer brings.
    session.install(f"{ROOT}[test]", *OLDEST_DEPENDENCIES, "setuptools<81")
    # What is compared with the SDK and contrib is compared with their newest, by the other sessions; and that start-up
    # stays light is up to the API too, whose old versions import more.
    tests = ROOT / "tests"
    newest_only = (tests / "compat", tests / "export" / "test_encoding.py")
    heavier = "tests/test_api.py::test_init_brings_neither_exporters_nor_the_sdk"
    run_pytest(session, *(f"--ignore={path}" for path in newest_only), f"--deselect={heavier}")


BASELINE = ROOT / "benchmarks" / "baseline.json"


@nox.session(
    python=[version for version in usable_pythons() if version in json.loads(BASELINE.read_text())["pythons"]][-1:] or None
)
def regression(session: nox.Session) -> None:
    """Whether tracing became more expensive: instructions counted by valgrind, which do not wobble as times do."""
    if shutil.which("valgrind") is None:
        session.error("valgrind is missing: on Debian, apt-get install valgrind")
    libraries = json.loads(BASELINE.read_text())["libraries"]
    session.install(str(ROOT), *(f"{name}=={version}" for name, version in libraries.items()))
    session.run("python", str(ROOT / "benchmarks" / "regression.py"), *session.posargs, env={"PYTHONPATH": None})


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and formatting."""
    session.install("ruff>=0.11")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict, on the package; mypy and pyright on the public API as a program uses it."""
    install(session, "dev")
    session.run("mypy")
    # Against the installed package, as a user's type checker sees it.
    directory = Path(session.create_tmp())
    shutil.copy(ROOT / "tests" / "typing" / "api.py", directory)
    session.chdir(directory)
    session.run("pyright", "--pythonpath", str(Path(session.bin) / "python"), "api.py")


@nox.session
def architecture(session: nox.Session) -> None:
    """The layers, the size of an integration, and attribute keys in one place only."""
    install(session)
    session.install("import-linter>=2.1")
    session.run("lint-imports", env={"PYTHONPATH": str(ROOT)})
    session.run("python", "tools/check_architecture.py")


@nox.session
def docs(session: nox.Session) -> None:
    """The examples in docstrings run, those in the documentation compile, and links lead somewhere."""
    install(session, "test")
    session.chdir(session.create_tmp())
    session.run("python", str(ROOT / "tools" / "check_docs.py"))


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzzing guided by coverage: a minute for each target, or as many seconds as are given after `--`."""
    install(session, "test")
    session.install("atheris>=2.3")
    targets = session.run("python", "-c", "from tests.fuzz.targets import TARGETS; print(*TARGETS)", silent=True) or ""
    for target in targets.split():
        session.run("python", str(ROOT / "tests" / "fuzz" / "run_atheris.py"), target, *(session.posargs or ["60"]))


@nox.session
def faults(session: nox.Session) -> None:
    """The whole fault matrix; `-- --check` whether docs/reliability.md says what it saw, `-- --write` writes the page."""
    install(session, "faults")
    report = Path(session.create_tmp()).resolve() / "faults.jsonl"
    report.unlink(missing_ok=True)
    session.chdir(report.parent)
    session.run(
        *("pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-n", "2", str(ROOT / "tests" / "faults")),
        env={**OUTSIDE, "REQUIRE_INSTALLED_WHEEL": "1", "PYTHONPATH": None, "FAULTS_REPORT": str(report)},
    )
    for action in session.posargs:
        session.run(
            "python", str(ROOT / "tools" / "document_faults.py"), str(report), *(["--check"] if action == "--check" else [])
        )
