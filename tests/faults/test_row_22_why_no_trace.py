"""Row 22: whatever the reason for a trace that is not there, `lighttrace doctor` has a line for it. All lines: tests/cli/test_doctor.py."""

from pathlib import Path

import pytest

from tests.cli.test_doctor import run
from tests.faults.conftest import Record

REASONS = {
    "tracing is switched off by the environment": ({"OTEL_SDK_DISABLED": "true"}, "switched off by OTEL_SDK_DISABLED"),
    "the exporter is none": ({"OTEL_TRACES_EXPORTER": "none"}, "the exporter is none, by OTEL_TRACES_EXPORTER"),
    "the sampler takes nothing": ({"OTEL_TRACES_SAMPLER": "always_off"}, "the sampler is always_off, by OTEL_TRACES_SAMPLER"),
    "every route is excluded": ({"LIGHTTRACE_EXCLUDE": "*"}, "every route is excluded, by LIGHTTRACE_EXCLUDE"),
    "the library's patch is switched off": ({"LIGHTTRACE_DISABLE": "sqlite3"}, "by configuration"),
    "the backend refuses connections": ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, "127.0.0.1:9"),
    "the backend's address cannot be used": ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "a setting cannot be read": ({"OTEL_BSP_SCHEDULE_DELAY": "soon"}, "OTEL_BSP_SCHEDULE_DELAY"),
}


@pytest.mark.slow
@pytest.mark.parametrize("reason", REASONS)
def test_the_doctor_names_the_reason(reason: str, tmp_path: Path, record: Record) -> None:
    variables, words = REASONS[reason]
    without = run(tmp_path).stdout
    assert words not in without  # else it would say so whatever the reason
    told = run(tmp_path, **variables).stdout
    assert words in told, told
    record(22, reason, "`lighttrace doctor` says so", "")
