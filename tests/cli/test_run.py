"""`lighttrace run`, as a person uses it: real interpreters, started from an empty directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lighttrace
from lighttrace.cli import run

PACKAGE_ROOT = str(Path(lighttrace.__file__).resolve().parent.parent)
LIGHTTRACE = [sys.executable, "-m", "lighttrace"]
DEADLINE_S = 60


def start(directory: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("LIGHTTRACE_", "OTEL_", "_LIGHTTRACE_"))}
    environ["LIGHTTRACE_EXPORTER"] = "none"
    if os.path.basename(PACKAGE_ROOT) not in ("site-packages", "dist-packages"):
        environ["PYTHONPATH"] = PACKAGE_ROOT
    environ.update(variables)
    return subprocess.run(
        [*LIGHTTRACE, *arguments], cwd=directory, env=environ, capture_output=True, text=True, timeout=DEADLINE_S
    )


def test_program_is_traced_without_a_line_changed(tmp_path: Path) -> None:
    code = "from lighttrace import runtime; active = runtime.active(); print(active.config.service, active.config.team)"
    done = start(tmp_path, "run", "--service", "checkout", "--team=payments", "--", sys.executable, "-c", code)
    assert (done.stdout, done.stderr, done.returncode) == ("checkout payments\n", "", 0)


def test_arguments_standard_input_and_exit_code_go_through(tmp_path: Path) -> None:
    code = "import sys; print(sys.argv); sys.exit(7)"
    done = start(tmp_path, "run", "--", sys.executable, "-c", code, "--service", "--", "x y")
    assert (done.stdout, done.returncode) == ("['-c', '--service', '--', 'x y']\n", 7)


def test_dashes_before_the_command_may_be_left_out(tmp_path: Path) -> None:
    done = start(tmp_path, "run", "--team", "web", sys.executable, "-c", "print('ran')")
    assert (done.stdout, done.returncode) == ("ran\n", 0)


def test_module_is_run_from_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import lighttrace.runtime as r, sys; print(__name__, r.active() is not None, sys.path[0])")
    done = start(tmp_path, "run", "--", sys.executable, "-m", "app")
    assert done.stdout.split() == ["__main__", "True", str(tmp_path)]


def test_script_without_an_interpreter_gets_ours(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import sys; print(sys.executable, sys.argv)")
    done = start(tmp_path, "run", "--", "app.py", "one")
    assert done.stdout == f"{sys.executable} ['app.py', 'one']\n"


def test_bootstrap_directory_is_not_left_on_the_path_of_the_program(tmp_path: Path) -> None:
    done = start(tmp_path, "run", "--", sys.executable, "-c", "import sys; print([p for p in sys.path if '_bootstrap' in p])")
    assert done.stdout == "[]\n"


def test_spawned_children_are_traced_too(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import multiprocessing\n"
        "def report(queue):\n"
        "    from lighttrace import runtime\n"
        "    queue.put(runtime.active().config.service)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    queue = context.Queue()\n"
        "    child = context.Process(target=report, args=(queue,))\n"
        "    child.start(); print(queue.get(timeout=30)); child.join()\n"
    )
    done = start(tmp_path, "run", "--service", "spawner", "--", sys.executable, "app.py")
    assert (done.stdout, done.stderr) == ("spawner\n", "")


def test_sitecustomize_that_was_there_before_still_runs(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys; sys.was_here = __file__")
    paths = os.pathsep.join([str(site), PACKAGE_ROOT])
    code = "import sys, sitecustomize; print(sys.was_here, sitecustomize.__file__, 'lighttrace' in sys.modules)"
    done = start(tmp_path, "run", "--", sys.executable, "-c", code, PYTHONPATH=paths)
    file = str(site / "sitecustomize.py")
    assert done.stdout == f"{file} {file} True\n"


def test_program_runs_though_tracing_cannot_start(tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "lighttrace"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('planted')")
    environ = run.environment({}, {**os.environ, "PYTHONPATH": str(broken.parent)})
    environ[run.STARTED] = ""
    code = "import os; print('ran')"
    quiet = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_S
    )
    assert (quiet.stdout, quiet.stderr, quiet.returncode) == ("ran\n", "", 0)  # a grandchild does not complain again
    shell = f'{run.STARTED}=$$ exec "{sys.executable}" -c "print(1)"'
    told = subprocess.run(["/bin/sh", "-c", shell], env=environ, capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_S)
    assert (told.stdout, told.stderr) == ("1\n", "lighttrace: this program is not traced: RuntimeError: planted\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "which program?"),
        (["--"], 2, "which program?"),
        (["--team", "--", "python"], 2, "--team needs a value"),
        (["--servce", "x", "--", "python"], 2, "unknown option --servce"),
        (["--", "no-such-program"], 127, "no-such-program: there is no such program on PATH"),
        (["--", "missing.py"], 127, "missing.py: there is no such file"),
        (["--", "/"], 126, "it is a directory"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    done = start(tmp_path, "run", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


HEAVY = {
    "argparse",
    "asyncio",
    "inspect",
    "logging",
    "opentelemetry",
    "socket",
    "ssl",
    "subprocess",
    "tomllib",
    "urllib",
    "wrapt",
}


def test_launcher_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, os\n"
        "os.execvpe = lambda *a: print(*sys.modules)\n"
        "from lighttrace.cli.main import main\n"
        "main(['run', '--service', 's', '--', 'python', '-c', 'pass'])\n"
    )
    environ = {**os.environ, "PYTHONPATH": PACKAGE_ROOT}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_S
    )
    assert "lighttrace.cli.run" in done.stdout, done.stderr
    assert not HEAVY & set(done.stdout.split())
