"""Row 23: what tracing adds to the start of a program. That `doctor` has a line for every cause (row 22) is in tests/cli/test_doctor.py."""

import subprocess
import time

import pytest

from tests.faults.backend import Backend
from tests.faults.conftest import Record
from tests.faults.running import PYTHON, TRACERS, environ, launcher

ROUNDS = 4


@pytest.mark.slow
def test_a_program_starts_nearly_as_fast_as_without_us(record: Record) -> None:
    best = dict.fromkeys(("none", *TRACERS), 60.0)
    with Backend() as backend:
        variables = environ(backend)
        for _ in range(ROUNDS):  # in turns, so that a machine that is busy for a while is so for all of them
            for tracer in best:
                begun = time.perf_counter()
                subprocess.run([*launcher(tracer), PYTHON, "-c", "pass"], env=variables, check=True, capture_output=True)
                best[tracer] = min(best[tracer], time.perf_counter() - begun)
    added = {tracer: (best[tracer] - best["none"]) * 1000 for tracer in TRACERS}
    # How many milliseconds it takes is measured by benchmarks/startup.py.
    assert added["lighttrace"] < added["opentelemetry"] / 2, added
    record(23, "python -c pass", *(f"{added[tracer]:.0f} ms more" for tracer in TRACERS))
