"""What switching tracing on costs before a program's first line: wall and CPU milliseconds over plain Python.

    python benchmarks/startup.py [--rounds 9]

Each command runs `python -c pass` under one tracer's zero-code launcher, with no backend to talk to. Commands take
turns within a round; medians, plain Python's subtracted. What is not installed is left out, and said so.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time

BIN = os.path.dirname(sys.executable)
COMMANDS: dict[str, tuple[list[str], str]] = {
    "python": ([], "pass"),
    "import opentelemetry.trace": ([], "import opentelemetry.trace"),
    "import lighttrace": ([], "import lighttrace"),
    "lighttrace.init()": ([], "import lighttrace; lighttrace.init(service='bench')"),
    "lighttrace run": (["lighttrace", "run", "--service", "bench", "--team", "bench-team", "--"], "pass"),
    "opentelemetry-instrument": (["opentelemetry-instrument"], "pass"),
    "ddtrace-run": (["ddtrace-run"], "pass"),
}


def once(name: str) -> tuple[float, float] | None:
    """Wall and CPU milliseconds of one run; None if it failed."""
    prefix, code = COMMANDS[name]
    environ = {
        **os.environ, "PATH": BIN + os.pathsep + os.environ["PATH"], "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false", "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    }  # fmt: skip
    # A package that pip has installed is compiled already; a checkout is, too, once the first round, which does not count, may do so.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([*prefix, sys.executable, "-c", code], env=environ, capture_output=True, check=False)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return None if done.returncode else (wall * 1e3, cpu * 1e3)


def measure(rounds: int) -> dict[str, tuple[float, float] | None]:
    """Medians over plain Python, by command; None where a command failed."""
    figures: dict[str, list[tuple[float, float] | None]] = {}
    for _ in range(rounds + 1):
        for name, (prefix, _) in COMMANDS.items():
            if not prefix or shutil.which(prefix[0], path=BIN):
                figures.setdefault(name, []).append(once(name))
    medians: dict[str, tuple[float, float] | None] = {}
    for name, runs in figures.items():
        good = [run for run in runs[1:] if run is not None]
        complete = len(good) == len(runs) - 1
        medians[name] = (statistics.median(r[0] for r in good), statistics.median(r[1] for r in good)) if complete else None
    base = medians.pop("python")
    assert base is not None
    return {name: None if run is None else (run[0] - base[0], run[1] - base[1]) for name, run in medians.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    medians = measure(parser.parse_args().rounds)
    print(f"{'added before the first line':28}{'wall ms':>10}{'cpu ms':>10}")
    for name, run in medians.items():
        print(f"{name:28}" + ("    failed" if run is None else f"{run[0]:10.0f}{run[1]:10.0f}"))
    for name in COMMANDS.keys() - medians.keys() - {"python"}:
        print(f"left out: {name} is not installed")


if __name__ == "__main__":
    main()
