"""Programs in processes of their own, as a user starts them."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import lighttrace

PACKAGE_ROOT = Path(lighttrace.__file__).resolve().parent.parent
LOADED = str(Path(__file__).with_name("loaded.py"))


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without a developer's settings, so that `lighttrace` is the one that is tested."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LIGHTTRACE_", "OTEL_", "_LIGHTTRACE_"))}
    if PACKAGE_ROOT.name not in ("site-packages", "dist-packages"):
        kept["PYTHONPATH"] = str(PACKAGE_ROOT)
    return kept | variables


class Done(NamedTuple):
    """How a program went."""

    said: list[dict[str, Any]]  # the JSON objects on standard output
    log: list[str]  # lines on standard error
    exit_s: float  # from the "now" that it said last to its end
    killed: bool
    code: int


class Program:
    """One that runs until `wait`."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._log: list[str] = []
        assert self._process.stderr is not None
        self._reading = threading.Thread(target=lambda stream=self._process.stderr: self._log.extend(stream), daemon=True)
        self._reading.start()

    def wait(self, most_s: float = 60.0) -> Done:
        """Its end. What has not ended `most_s` seconds after it first said something is killed."""
        # Read as it comes: what it said before it was killed counts.
        process = self._process
        assert process.stdout is not None
        first = process.stdout.readline()
        killed = False
        try:
            process.wait(most_s)
        except subprocess.TimeoutExpired:
            killed = True
            process.kill()
            process.wait()
        ended_at = time.time()
        self._reading.join()
        assert process.stderr is not None
        lines = [first, *process.stdout.read().splitlines()]
        process.stdout.close()
        process.stderr.close()
        said = [json.loads(line) for line in lines if line.strip()]
        told_at = [entry["now"] for entry in said if "now" in entry]
        took = ended_at - told_at[-1] if told_at else float("nan")
        return Done(said, [line.rstrip("\n") for line in self._log], took, killed, process.returncode)


def loaded(tracer: str, endpoint: str, seconds: float = 1.5, **variables: str) -> Program:
    """The program of `loaded.py`, sending to `endpoint`."""
    return Program(LOADED, tracer, str(seconds), OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY="200", **variables)
