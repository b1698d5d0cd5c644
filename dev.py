#!/usr/bin/env python3
"""The two commands of the README, on a machine with nothing but Python:

    python3 dev.py demo     install LightTrace into .venv and run `lighttrace demo`
    python3 dev.py test     the same with what the tests need, and run the tests

What follows the command goes on to `lighttrace demo` or to pytest. The second time, nothing is installed that is
already there. Both use the installed wheel, built from this checkout, and never the checkout itself.

LIGHTTRACE_VENV names another directory than .venv.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.abspath(os.environ.get("LIGHTTRACE_VENV") or os.path.join(ROOT, ".venv"))
OLDEST = (3, 10)
NEWEST = (3, 14)
PIP = 25  # the oldest major version whose resolver does not lose itself in opentelemetry's many releases
EXTRAS = {"demo": "demo,toml,yaml", "test": "test"}

# What ends up in the wheel: when one of these changes, it is built again.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "lighttrace", os.path.join("examples", "shop"))


class Failed(Exception):
    """It cannot go on; the message says what to do."""


def main(arguments):
    """Run one command and give its exit code."""
    if sys.version_info < OLDEST:
        return run_with_newer_python()
    command = arguments[0] if arguments else ""
    if command not in EXTRAS:
        print(__doc__.strip())
        return 0 if command in ("-h", "--help") else 2
    try:
        make_venv()
        install(command)
    except Failed as failure:
        print("\n%s" % failure, file=sys.stderr)
        return 1
    return run_demo(arguments[1:]) if command == "demo" else run_tests(arguments[1:])


def run_with_newer_python():
    """Start again with a Python that is new enough, or say that there is none."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        name = "python3.%d" % minor
        if shutil.which(name) and subprocess.call([name, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            say("Python %d.%d is too old, going on with %s" % (sys.version_info[0], sys.version_info[1], name))
            return subprocess.call([name, os.path.abspath(__file__), *sys.argv[1:]])
    print("LightTrace needs Python 3.10 or newer; this is %s." % sys.version.split()[0], file=sys.stderr)
    return 1


def say(what):
    """One line of progress."""
    print("--- " + what, flush=True)


def venv_program(name):
    """A program of the virtual environment."""
    windows = os.name == "nt"
    return os.path.join(VENV, "Scripts" if windows else "bin", name + (".exe" if windows else ""))


def make_venv():
    """Make the virtual environment, with pip in it, unless it is there and works with this Python."""
    python = venv_program("python")
    wanted = "%d.%d" % sys.version_info[:2]
    if os.path.exists(python) and first_line([python, "-c", "import sys, pip; print('%d.%d' % sys.version_info[:2])"]) == wanted:
        return
    say("making %s with Python %s" % (os.path.relpath(VENV), sys.version.split()[0]))
    try:
        import venv
    except ImportError as error:
        raise Failed("This Python has no `venv` module. %s" % advice()) from error
    try:
        import ensurepip
    except ImportError:
        ensurepip = None
    try:
        venv.EnvBuilder(clear=True, with_pip=ensurepip is not None).create(VENV)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failed("The virtual environment could not be made: %s\n%s" % (error, advice())) from error
    if ensurepip is None:
        say("this Python cannot put pip into a virtual environment (no ensurepip): fetching pip from PyPI")
        install_pip_from_pypi(python)


def advice():
    """How to get what is missing."""
    if shutil.which("apt-get"):
        return "Install it with:  sudo apt-get install python3-venv"
    return "Install your system's package for it (it is often called python3-venv) or a Python from python.org."


def install_pip_from_pypi(python):
    """Debian's Python without python3-venv has no pip to copy. pip's own wheel can install itself."""
    import json
    from urllib.parse import urljoin
    from urllib.request import urlopen

    about = "https://pypi.org/pypi/pip/json"
    directory = tempfile.mkdtemp(prefix="lighttrace-pip-")
    try:
        with urlopen(about, timeout=60) as answer:
            files = json.load(answer)["urls"]
        wheel = next(found for found in files if found["packagetype"] == "bdist_wheel")
        with urlopen(urljoin(about, wheel["url"]), timeout=60) as answer:
            content = answer.read()
        if hashlib.sha256(content).hexdigest() != wheel["digests"]["sha256"]:
            raise OSError("what came is not what PyPI says it is")
        path = os.path.join(directory, wheel["filename"])
        with open(path, "wb") as file:
            file.write(content)
        subprocess.check_call([python, os.path.join(path, "pip"), "install", "--no-index", path])
    except (OSError, LookupError, StopIteration, ValueError, subprocess.CalledProcessError) as error:
        raise Failed("pip could not be fetched: %s\n%s" % (error, advice())) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def install(command):
    """Install the wheel of this checkout with what the command needs. Nothing is done where nothing changed."""
    extras = EXTRAS[command]
    stamp = os.path.join(VENV, "lighttrace-%s.installed" % command)
    source = os.path.join(VENV, "lighttrace-source.installed")
    requirements, sources = digest(["pyproject.toml"]), digest(SOURCES)
    if read(stamp) == requirements and read(source) == sources:
        return
    pip = [venv_program("python"), "-m", "pip", "install", "--disable-pip-version-check"]
    if int(first_line([venv_program("python"), "-c", "import pip; print(pip.__version__.split('.')[0])"]) or 0) < PIP:
        say("a newer pip, whose resolver needs seconds where the one that came with this Python may need minutes")
        call_pip([*pip, "--upgrade", "pip"])
    if read(stamp) != requirements:
        say("installing LightTrace and what `%s` needs (pip says how far it is)" % command)
        call_pip([*pip, "%s[%s]" % (ROOT, extras)])
    else:
        say("the sources have changed: building and installing the wheel again")
        call_pip([*pip, "--no-deps", "--force-reinstall", ROOT])
    write(stamp, requirements)
    write(source, sources)


def call_pip(command):
    """pip, with its own output as progress."""
    if subprocess.call(command, cwd=ROOT) != 0:
        raise Failed("pip could not install it; what it says above tells why. Is PyPI reachable from here?")


def digest(paths):
    """A hash over the content of files and directories."""
    total = hashlib.sha256(sys.version.encode())
    for path in paths:
        for file in sorted(files_below(os.path.join(ROOT, path))):
            with open(file, "rb") as content:
                total.update(os.path.relpath(file, ROOT).encode() + b"\0" + hashlib.sha256(content.read()).digest())
    return total.hexdigest()


def files_below(path):
    """The file itself, or every file in the directory that can end up in the wheel."""
    if os.path.isfile(path):
        yield path
    for directory, directories, files in os.walk(path):
        directories[:] = [name for name in directories if name != "__pycache__"]
        for name in files:
            yield os.path.join(directory, name)


def read(path):
    """A file's text, empty if there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def first_line(command):
    """What a command prints, empty if it fails."""
    try:
        return subprocess.check_output(command, stderr=subprocess.DEVNULL).decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def run_demo(arguments):
    say("lighttrace demo")
    return run([venv_program("lighttrace"), "demo", *arguments])


def run_tests(arguments):
    say("the tests, against the installed wheel")
    # pytest is not started here but in an empty directory, so that paths have to be made absolute.
    paths = [argument for argument in arguments if is_path(argument)]
    arguments = [os.path.abspath(argument) if argument in paths else argument for argument in arguments]
    where = [] if paths else [os.path.join(ROOT, "tests")]
    settings = ["-c", os.path.join(ROOT, "pyproject.toml"), "--rootdir", ROOT]
    return run([venv_program("pytest"), *settings, *where, *arguments])


def is_path(argument):
    """Whether an argument for pytest is a file, a directory or a test in a file."""
    path = argument.split("::")[0]
    return (os.sep in path or path.endswith(".py")) and os.path.exists(path)


def run(command):
    """Run a program from an empty directory: no `lighttrace` of the checkout there that could be imported by accident."""
    environ = dict(os.environ, REQUIRE_INSTALLED_WHEEL="1")
    for variable in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environ.pop(variable, None)
    environ["PATH"] = os.path.dirname(command[0]) + os.pathsep + environ.get("PATH", os.defpath)
    directory = tempfile.mkdtemp(prefix="lighttrace-")
    try:
        return subprocess.call(command, cwd=directory, env=environ)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
