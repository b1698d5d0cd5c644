"""What tracing costs a program: CPU microseconds that each tracer adds to one operation, side by side.

    python benchmarks/overhead.py [--tracers none,lighttrace,otel] [--workloads flask,sqlite3] [--rounds 5]

Every tracer records every operation, encodes it and posts it over loopback HTTP to `sink.py`, another process. The
figure is this process's CPU time (all threads, export included) per operation, the median over rounds, the untraced
figure subtracted. Tracers take turns within a round, so the machine's drift hits all alike.
"""

import argparse
import contextlib
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

HERE = os.path.dirname(os.path.abspath(__file__))
# Tracers that record a client or database call only inside a request of their own are measured on requests alone; what is
# not recorded is compared with OpenTelemetry's.
SUITABLE = {
    "none": (
        "flask", "fastapi", "requests", "requests_wire", "httpx", "sqlite3", "psycopg", "flask_called", "fastapi_called", "flask_excluded",
        "fastapi_excluded",
    ),
    "logfire": ("manual", "flask", "fastapi", "requests", "httpx", "sqlite3", "psycopg"),
    "ddtrace": ("manual", "flask", "fastapi", "requests", "httpx", "sqlite3", "psycopg"),
    "elastic": ("flask", "fastapi"),
    "bare": ("flask", "fastapi", "requests", "httpx", "psycopg"),
    "asking": ("requests", "httpx"),
    "sentry": ("manual", "flask", "fastapi"),
}  # fmt: skip
TRACERS = ("none", "lighttrace", "otel", "logfire", "ddtrace", "elastic", "sentry", "bare", "asking")
WORKLOADS = (
    "manual", "unsampled", "flask", "flask_called", "flask_excluded", "fastapi", "fastapi_called", "fastapi_excluded", "requests",
    "requests_wire", "httpx", "sqlite3", "psycopg",
)  # fmt: skip
COUNTS = {
    "manual": 5000,
    "unsampled": 5000,
    "sqlite3": 5000,
    "httpx": 300,
    "requests_wire": 300,
}  # operations at a time; of the others 1,000
# In a round: processes of one tracer differ by microseconds there, by as much as is to be measured.
TURNS = {"fastapi_excluded": 4, "flask": 6, "httpx": 4, "psycopg": 6, "requests": 4, "requests_wire": 2}
CLOSE = ("none", "lighttrace", "otel", "bare", "asking")
# Whose cost is told by `turns.py`, with tracing and without in one process, where processes of their own differ by more than it is.
IN_TURNS = {
    "flask_excluded": ("lighttrace",), "httpx": CLOSE[1:], "requests": CLOSE[1:], "requests_wire": CLOSE[1:],
}  # fmt: skip
PEER_ROUNDS = 2  # what only has to be seen beside those needs no more, and one turn in each


def child(tracer: str, workload: str, seconds: float) -> None:
    """Measure one tracer on one workload in this fresh process: microseconds of CPU per operation."""
    sys.path.insert(0, HERE)
    import tracers
    import workloads

    os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] = "200000"  # so that a tracer's figure never gains by dropping spans
    flush = tracers.start(tracer, os.environ["SINK_PORT"], workload)
    call = workloads.WORKLOADS[workload](lambda app: tracers.prepare_app(tracer, app, workload))
    count = COUNTS.get(workload, 1000)
    call(count)
    flush()
    runs: list[float] = []
    begun = time.monotonic()
    while time.monotonic() - begun < seconds or len(runs) < 3:
        cpu = time.process_time()
        call(count)
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


def run(*arguments: str, port: str, seed: int) -> tuple[float | None, str]:
    """One fresh process's figure, or why there is none.

    `seed` is that of the hashes of strings, which by itself makes a sixth of difference to a call through requests: who takes
    turns with another has the same.
    """
    done = subprocess.run(
        [sys.executable, os.path.abspath(__file__), *arguments],
        env={**os.environ, "SINK_PORT": port, "PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    if done.returncode or not done.stdout.strip():
        return None, (done.stderr.strip().splitlines() or ["no output"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1]), ""


Figures = dict[tuple[str, str], list[float]]
SUFFIX = " in turns"
"""What a tracer's name ends with where its figures are what it adds, and not what an operation takes with it."""


def measure(
    names: Sequence[str], kinds: Sequence[str], rounds: int, seconds: float
) -> tuple[Figures, dict[tuple[str, str], str]]:
    """The figures of each round by (tracer, workload), untraced ones too, and what was left out, with the reason."""
    figures: Figures = {}
    missing: dict[tuple[str, str], str] = {}
    with sink() as port, postgresql() as url:
        if url is None:
            missing.update({(tracer, "psycopg"): "PostgreSQL's initdb and postgres are not installed" for tracer in names})
        for number in range(rounds):
            for workload, turn in [(kind, turn) for kind in kinds for turn in range(TURNS.get(kind, 1))]:
                seed = 1 + number + rounds * turn
                in_turns = IN_TURNS.get(workload, ())
                for tracer in names:
                    if (tracer, workload) in missing or workload not in SUITABLE.get(tracer, kinds):
                        continue
                    if tracer in in_turns:
                        figure, why = run("--in-turns", tracer, workload, str(seconds * 2.5), port=port, seed=seed)
                    elif (turn and in_turns) or ((turn or number >= PEER_ROUNDS) and tracer not in CLOSE):
                        continue
                    else:
                        figure, why = run("--child", tracer, workload, str(seconds), port=port, seed=seed)
                    if figure is None:
                        missing[tracer, workload] = why
                    else:
                        key = f"{tracer}{SUFFIX}" if tracer in in_turns else tracer
                        figures.setdefault((key, workload), []).append(figure)
    return figures, missing


@contextlib.contextmanager
def postgresql() -> Iterator[str | None]:
    """A PostgreSQL of its own while the block runs, its address in BENCH_POSTGRESQL; None where there is none."""
    from lighttrace.cli.postgres import Postgres

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = Postgres.start(port)
    if server is None or not server.wait_until_ready(30):
        yield None
        return
    os.environ["BENCH_POSTGRESQL"] = server.url
    try:
        yield server.url
    finally:
        server.stop()


def added(figures: Figures) -> dict[tuple[str, str], float]:
    """The median of each turn's figure less the untraced one of the same turn; where the two took turns in one process, that.

    For a peer, which has fewer turns, the median of its own less the median of the untraced ones.
    """
    over = {}
    for (tracer, workload), values in figures.items():
        if tracer.endswith(SUFFIX):
            over[tracer.removesuffix(SUFFIX), workload] = statistics.median(values)
        elif tracer != "none":
            untraced = figures.get(("none", workload), [0.0] * len(values))
            if len(values) == len(untraced):
                over[tracer, workload] = statistics.median(traced - plain for traced, plain in zip(values, untraced, strict=True))
            else:
                over[tracer, workload] = statistics.median(values) - statistics.median(untraced)
    return over


def error(figures: Figures, tracer: str, workload: str) -> float:
    """The standard error of what is added: of the differences, where each figure has the untraced one of its turn.

    From the middle half of them, because a median does not heed the others either.
    """
    values, untraced = figures.get((tracer, workload), []), figures.get(("none", workload), [])
    if (tracer + SUFFIX, workload) in figures:
        values, untraced = figures[tracer + SUFFIX, workload], []
    if len(values) == len(untraced):
        values, untraced = [traced - plain for traced, plain in zip(values, untraced, strict=True)], []
    return 1.25 * math.hypot(*(deviation(each) / len(each) ** 0.5 for each in (values, untraced) if len(each) > 1))


def deviation(values: Sequence[float]) -> float:
    """The standard deviation, as the middle half has it where there are enough of them."""
    if len(values) < 4:
        return statistics.stdev(values)
    lower, _, upper = statistics.quantiles(values, n=4)
    return (upper - lower) / 1.349


def show(figures: Figures, missing: dict[tuple[str, str], str], names: Sequence[str], kinds: Sequence[str]) -> None:
    """Print the table."""
    over = added(figures)
    untraced = {kind: statistics.median(figures.get(("none", kind), [0.0])) for kind in kinds}
    print(f"{'CPU us added per op':22}" + "".join(f"{kind:>17}" for kind in kinds))
    print(f"{'(untraced)':22}" + "".join(f"{untraced[kind]:17.1f}" for kind in kinds))
    for tracer in names:
        if tracer != "none":
            cells = [
                f"{over[tracer, kind]:10.2f} ±{error(figures, tracer, kind):5.1f}" if (tracer, kind) in over else f"{'-':>17}"
                for kind in kinds
            ]
            print(f"{tracer:22}" + "".join(cells))
    for (tracer, workload), why in sorted(missing.items()):
        print(f"left out: {tracer} on {workload}: {why[:120]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tracers", default=",".join(TRACERS))
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    names, kinds = options.tracers.split(","), options.workloads.split(",")
    figures, missing = measure(names, kinds, options.rounds, options.seconds)
    show(figures, missing, names, kinds)


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    elif "--in-turns" in sys.argv:
        from turns import child as child_in_turns

        child_in_turns(sys.argv[2], sys.argv[3], COUNTS.get(sys.argv[3], 1000), float(sys.argv[4]))
    else:
        main()
