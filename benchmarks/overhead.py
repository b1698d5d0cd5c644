"""What tracing costs a program: CPU microseconds that each tracer adds to one operation, side by side.

    python benchmarks/overhead.py [--tracers none,lighttrace,otel] [--workloads flask,sqlite3] [--rounds 5]

Every tracer records every operation, encodes it and posts it over loopback HTTP to `sink.py`, another process. The
figure is this process's CPU time (all threads, export included) per operation, the median over rounds, the untraced
figure subtracted. Tracers take turns within a round, so the machine's drift hits all alike.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
# Tracers that record a client or database call only inside a request of their own are measured on requests alone.
SUITABLE = {"elastic": ("flask", "fastapi", "excluded"), "sentry": ("manual", "flask", "fastapi", "excluded")}
TRACERS = "none,lighttrace,otel,logfire,ddtrace,elastic,sentry"
WORKLOADS = "manual,unsampled,flask,excluded,fastapi,requests,httpx,sqlite3,psycopg"
UNTRACED = ("manual", "unsampled")  # without a tracer there is nothing to measure


def child(tracer: str, workload: str, seconds: float) -> None:
    """Measure one tracer on one workload in this fresh process: microseconds of CPU per operation."""
    sys.path.insert(0, HERE)
    import tracers
    import workloads

    os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] = "200000"  # so that a tracer's figure never gains by dropping spans
    flush = tracers.start(tracer, os.environ["SINK_PORT"], workload)
    call, count = workloads.ALL[workload](lambda app: tracers.prepare_app(tracer, app, workload))
    call()
    flush()
    runs: list[float] = []
    begun = time.monotonic()
    while time.monotonic() - begun < seconds or len(runs) < 3:
        cpu = time.process_time()
        call()
        flush()
        runs.append((time.process_time() - cpu) / count * 1e6)
    print(json.dumps(statistics.median(runs)), flush=True)
    os._exit(0)


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """The backend, while the block runs; gives its port."""
    process = subprocess.Popen(
        [sys.executable, os.path.join(HERE, "sink.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def run(tracer: str, workload: str, seconds: float, port: str) -> tuple[float | None, str]:
    """One fresh process's figure, or why there is none."""
    done = subprocess.run(
        [sys.executable, os.path.abspath(__file__), "--child", tracer, workload, str(seconds)],
        env={**os.environ, "SINK_PORT": port}, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    if done.returncode or not done.stdout.strip():
        return None, (done.stderr.strip().splitlines() or ["no output"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1]), ""


def measure(names: list[str], kinds: list[str], rounds: int, seconds: float) -> tuple[dict[Any, float], dict[Any, str]]:
    """Medians by (tracer, workload), and what was left out."""
    figures: dict[tuple[str, str], list[float]] = {}
    missing: dict[tuple[str, str], str] = {}
    with sink() as port:
        for _ in range(rounds):
            for workload in kinds:
                for tracer in names:
                    if (tracer, workload) in missing or workload not in SUITABLE.get(tracer, kinds):
                        continue
                    if tracer == "none" and workload in UNTRACED:
                        continue
                    figure, why = run(tracer, workload, seconds, port)
                    if figure is None:
                        missing[tracer, workload] = why
                    else:
                        figures.setdefault((tracer, workload), []).append(figure)
    return {key: statistics.median(values) for key, values in figures.items()}, missing


def added(median: dict[Any, float]) -> dict[Any, float]:
    """The untraced figure subtracted."""
    return {key: value - median.get(("none", key[1]), 0.0) for key, value in median.items() if key[0] != "none"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tracers", default=TRACERS)
    parser.add_argument("--workloads", default=WORKLOADS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5)
    options = parser.parse_args()
    names, kinds = options.tracers.split(","), options.workloads.split(",")
    median, missing = measure(names, kinds, options.rounds, options.seconds)
    over = added(median)
    print(f"{'CPU us added per op':22}" + "".join(f"{kind:>11}" for kind in kinds))
    print(f"{'(untraced)':22}" + "".join(f"{median.get(('none', kind), 0):11.1f}" for kind in kinds))
    for tracer in names:
        if tracer != "none":
            cells = [f"{over[tracer, kind]:11.2f}" if (tracer, kind) in over else f"{'-':>11}" for kind in kinds]
            print(f"{tracer:22}" + "".join(cells))
    if "lighttrace" in names and "otel" in names:
        ratios = [over.get(("lighttrace", kind), 0) / over[("otel", kind)] if over.get(("otel", kind)) else 0 for kind in kinds]
        print(f"{'lighttrace / otel':22}" + "".join(f"{ratio:11.3f}" for ratio in ratios))
    for (tracer, workload), why in sorted(missing.items()):
        print(f"left out: {tracer} on {workload}: {why[:120]}")


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    main()
