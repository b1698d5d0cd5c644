"""A package that was built into a wheel with its manifest and installed where no repository is: its spans know their owners."""

import json
import os
import subprocess
import sys
from pathlib import Path

import lighttrace
from lighttrace.analysis import decode
from lighttrace.analysis.model import SpanRecord

APP = """
import lighttrace
from shop_wheel import fraud

@lighttrace.trace
def pay():
    with lighttrace.span("query"):
        pass
    fraud.score({})

lighttrace.init()
try:
    pay()
except KeyError:
    pass
"""
FRAUD = """
import lighttrace

@lighttrace.trace
def score(card):
    return card["country"]
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "shop-wheel"
version = "1.0"
"""
SECONDS = 60


def run(*words: str, cwd: Path, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(lighttrace.__file__).resolve().parent.parent), **variables}
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, text=True, timeout=SECONDS, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(source: Path, folder: Path) -> Path:
    """The package as a wheel, as its own build backend makes it."""
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    run("-m", "pip", "wheel", *offline, "--wheel-dir", str(folder), str(source), cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def spans_in(file: Path) -> dict[str, SpanRecord]:
    return {span.name: span for line in file.read_text().splitlines() for span in decode.from_json_line(line)}


def test_manifest_in_a_wheel_works_without_the_repository(tmp_path: Path) -> None:
    repository, elsewhere, site = tmp_path / "repository", tmp_path / "elsewhere", tmp_path / "venv" / "site-packages"
    package = repository / "shop_wheel"
    package.mkdir(parents=True)
    elsewhere.mkdir()
    (repository / ".git").mkdir()
    (repository / "CODEOWNERS").write_text("* @acme/payments\n/shop_wheel/fraud.py @acme/risk\n")
    (repository / "pyproject.toml").write_text(PROJECT)
    (repository / "lighttrace.toml").write_text('[teams]\nrisk = { contact = "#risk-oncall" }\n')
    (package / "__init__.py").write_text("")
    (package / "app.py").write_text(APP)
    (package / "fraud.py").write_text(FRAUD)

    run("-m", "lighttrace", "owners", "build", "shop_wheel", cwd=repository)
    assert json.loads((package / "lighttrace-owners.json").read_text())["modules"]["shop_wheel.fraud"]["team"] == "risk"
    wheel = build_wheel(repository, tmp_path)
    run("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site), str(wheel), cwd=elsewhere)
    (tmp_path / "repository").rename(tmp_path / "gone")

    installed = os.pathsep.join((str(site), str(Path(lighttrace.__file__).resolve().parent.parent)))
    run("-m", "shop_wheel.app", cwd=elsewhere, PYTHONPATH=installed, LIGHTTRACE_FILE="spans.jsonl")

    spans = spans_in(elsewhere / "spans.jsonl")
    owners = {name: (span.attributes.get("team"), span.attributes.get("lighttrace.team.source")) for name, span in spans.items()}
    assert owners == {"pay": ("payments", "codeowners"), "query": ("payments", "parent"), "score": ("risk", "codeowners")}
    failing = spans["score"].attributes
    assert failing["lighttrace.error.team"] == "risk"
    assert failing["code.file.path"] == "shop_wheel/fraud.py"
    assert failing["code.line.number"] == 6
    resource = spans["pay"].resource
    assert resource["team"] == "payments"
    assert "risk=#risk-oncall" in resource["lighttrace.team.contacts"]
