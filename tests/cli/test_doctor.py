"""`lighttrace doctor`, as a person runs it: every reason for a trace that is not there has its line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lighttrace
from lighttrace.backend import Receiver

PACKAGE_ROOT = str(Path(lighttrace.__file__).resolve().parent.parent)
DEADLINE_S = 60


def run(directory: Path, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("LIGHTTRACE_", "OTEL_", "_LIGHTTRACE_"))}
    environ.update(PYTHONPATH=PACKAGE_ROOT, **variables)
    command = [sys.executable, "-m", "lighttrace", "doctor", *options]
    return subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, timeout=DEADLINE_S)


def examine(directory: Path, **variables: str) -> dict[str, Any]:
    done = run(directory, "--json", "--no-network", **variables)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_all_is_well_with_a_backend_that_answers(tmp_path: Path) -> None:
    with Receiver() as receiver:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_SERVICE_NAME": "shop", "LIGHTTRACE_TEAM": "web"}
        done = run(tmp_path, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ok  {receiver.endpoint}/v1/traces" in done.stdout
    assert "service = shop  [OTEL_SERVICE_NAME]" in done.stdout
    assert "team = web  [LIGHTTRACE_TEAM]" in done.stdout
    assert done.stdout.endswith("Nothing is broken.\n")
    assert receiver.traces() == {}  # the request was empty, and the doctor itself is not traced


def test_backend_that_is_down_is_broken(tmp_path: Path) -> None:
    done = run(tmp_path, "--json", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["endpoint"]["ok"] is False
    assert "127.0.0.1:9" in found["problems"][0]


def test_libraries_are_listed_with_what_became_of_them(tmp_path: Path) -> None:
    found = {entry["name"]: entry for entry in examine(tmp_path, LIGHTTRACE_DISABLE="flask")["integrations"]}
    assert found["sqlite3"]["state"] == "patched"
    assert found["flask"]["state"] == "disabled"
    assert found["flask"]["reason"] == "by configuration"


def test_library_that_is_too_old_is_skipped_and_told(tmp_path: Path) -> None:
    (tmp_path / "httpx.py").write_text('__version__ = "0.1"')
    found = {entry["name"]: entry for entry in examine(tmp_path)["integrations"]}
    assert found["httpx"]["state"] == "skipped"
    assert "0.1 is installed and httpx>=" in found["httpx"]["reason"]


@pytest.mark.parametrize(
    ("variables", "note"),
    [
        ({"OTEL_SDK_DISABLED": "true"}, "tracing is switched off by OTEL_SDK_DISABLED"),
        ({"OTEL_TRACES_EXPORTER": "none"}, "the exporter is none, by OTEL_TRACES_EXPORTER"),
        (
            {"LIGHTTRACE_KEEP_RATIO": "0.1", "LIGHTTRACE_KEEP_SLOWER_THAN": "2"},
            "only some traces are kept: those that failed, those of 2.0 s and more, 0.1 of the rest",
        ),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "nothing is sampled: the sampler is always_off, by OTEL_TRACES_SAMPLER"),
        ({"LIGHTTRACE_EXCLUDE": "*"}, "every route is excluded, by LIGHTTRACE_EXCLUDE"),
        ({}, "the service has no name"),
        ({}, "no team owns this service"),
    ],
)
def test_reason_for_a_missing_trace_has_its_line(tmp_path: Path, variables: dict[str, str], note: str) -> None:
    assert any(note in told for told in examine(tmp_path, **variables)["notes"])


def test_value_that_cannot_be_used_is_told_and_is_no_fault(tmp_path: Path) -> None:
    found = examine(tmp_path, OTEL_BSP_SCHEDULE_DELAY="soon")
    assert any("OTEL_BSP_SCHEDULE_DELAY" in warning for warning in found["warnings"])
    assert found["problems"] == []


def test_owners_are_found_where_the_project_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "CODEOWNERS").write_text("* @org/web\n/fraud.py @org/risk\n")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.lighttrace]\nservice = "shop"\n[tool.lighttrace.teams]\nweb = "#web-oncall"\n'
    )
    (tmp_path / "fraud.py").touch()
    (tmp_path / "app.py").touch()
    found = examine(tmp_path)
    assert found["owners"]["team"] == "web"
    assert found["owners"]["contact"] == "#web-oncall"
    assert found["owners"]["code"] == {"web": 1, "risk": 1}
    assert found["config"]["service"]["source"] == "pyproject.toml"


def test_keys_of_the_backend_are_not_shown(tmp_path: Path) -> None:
    headers, endpoint = "api-key=s3cret", "http://user:s3cret@127.0.0.1:9"
    for options in (("--json",), ()):
        done = run(tmp_path, *options, OTEL_EXPORTER_OTLP_HEADERS=headers, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        assert "s3cret" not in done.stdout + done.stderr


def test_spans_that_a_process_of_the_service_dropped_are_told(tmp_path: Path) -> None:
    program = "import lighttrace\nlighttrace.init(exit_timeout=2.0)\nfor n in range(100):\n    with lighttrace.span('s'): pass\n"
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SERVICE_NAME": "shop", "TMPDIR": str(tmp_path)}
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("LIGHTTRACE_", "OTEL_", "_LIGHTTRACE_"))}
    environ.update(PYTHONPATH=PACKAGE_ROOT, **variables)
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environ, timeout=DEADLINE_S, check=True, capture_output=True
    )
    found = examine(tmp_path, **variables)
    assert [entry["dropped"] for entry in found["drops"]] == [{"connection": 100}]
    assert any("dropped spans" in note and "100 connection" in note for note in found["notes"])
    assert examine(tmp_path, **{**variables, "OTEL_SERVICE_NAME": "another"})["drops"] == []
    (directory,) = tmp_path.glob("lighttrace-*")
    assert directory.stat().st_mode & 0o077 == 0


def test_spans_that_keep_decisions_let_go_are_told_apart_from_what_was_dropped(tmp_path: Path) -> None:
    program = "import lighttrace\nlighttrace.init()\nfor n in range(100):\n    with lighttrace.span('s'): pass\n"
    variables = {
        "OTEL_TRACES_EXPORTER": "none",
        "LIGHTTRACE_KEEP_RATIO": "0",
        "OTEL_SERVICE_NAME": "shop",
        "TMPDIR": str(tmp_path),
    }
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("LIGHTTRACE_", "OTEL_", "_LIGHTTRACE_"))}
    environ.update(PYTHONPATH=PACKAGE_ROOT, **variables)
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environ, timeout=DEADLINE_S, check=True, capture_output=True
    )
    found = examine(tmp_path, **variables)
    assert found["drops"] == []
    assert any("let 100 spans go" in note for note in found["notes"])
