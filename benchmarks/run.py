"""Everything that tracing costs, beside the peers, in one run: the table of goals, docs/performance.md and its plots.

    python benchmarks/run.py [--quick] [--only overhead,startup] [--rounds 5] [--here]

Makes `.venv-bench` with the wheel of this checkout and the peers in it (`--here`: uses this interpreter as it is), and
takes about ten minutes; with `--quick`, which leaves the peers but OpenTelemetry out, three. The documents are written
when everything ran: figures of different runs are never put side by side.
"""

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
VENV = ROOT / ".venv-bench"
PARTS = ("overhead", "throughput", "memory", "encoder", "growth", "startup")
PEERS = {
    "lighttrace": "LightTrace", "otel": "OpenTelemetry", "logfire": "Logfire", "ddtrace": "Datadog", "elastic": "Elastic",
    "sentry": "Sentry",
}  # fmt: skip
WHAT = {
    "manual": "span by hand, eight attributes", "unsampled": "span that is not sampled", "flask": "request through Flask",
    "flask_called": "request of a traced service through Flask", "flask_excluded": "excluded route, Flask",
    "fastapi": "request through FastAPI", "fastapi_called": "request of a traced service through FastAPI",
    "fastapi_excluded": "excluded route, FastAPI", "requests": "call through requests", "requests_wire": "call through requests over a socket", "httpx": "call through httpx",
    "sqlite3": "query through sqlite3", "psycopg": "query through psycopg",
}  # fmt: skip
GOALS = {"manual": 0.07, "flask": 0.07, "fastapi": 0.07, "requests": 0.08, "httpx": 0.08, "sqlite3": 0.08, "psycopg": 0.10}
PACKAGES = (
    "lighttrace", "opentelemetry-sdk", "opentelemetry-instrumentation", "logfire", "ddtrace", "elastic-apm", "sentry-sdk", "flask",
    "fastapi", "starlette", "uvicorn", "requests", "httpx", "psycopg",
)  # fmt: skip


class Row(NamedTuple):
    """One figure of the table, and whether it is what it should be."""

    what: str
    goal: str
    result: str
    met: bool


def make_venv() -> Path:
    """An environment of its own with this checkout's wheel; a peer that cannot be installed is said and left out."""
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "pip"], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(ROOT)], check=True)
    subprocess.run([*pip, "--no-deps", "--force-reinstall", str(ROOT)], check=True)  # the version may be the same
    common, _, peers = (HERE / "requirements.txt").read_text().partition("# peers\n")
    wanted = [line for line in common.splitlines() if line and line[0] != "#"]
    subprocess.run([*pip, *wanted], check=True)
    for peer in peers.split():
        # With the others named, so that none of them is exchanged for an older one.
        if subprocess.run([*pip, peer, *wanted], check=False).returncode:
            print(f"left out: {peer} cannot be installed")
    return python


def off(key: str, rounds: dict[str, list[float]]) -> float:
    """The standard error of what a tracer adds to a workload."""
    from overhead import error

    tracer, _, name = key.partition("/")
    return error({(who, what): values for each, values in rounds.items() for who, _, what in [each.partition("/")]}, tracer, name)


def over_otel(name: str, added: dict[str, float], rounds: dict[str, list[float]]) -> list[Row]:
    """The rows of one workload."""
    ours, theirs = added.get(f"lighttrace/{name}"), added.get(f"otel/{name}")
    if ours is None:
        return []
    rows = []
    if name == "unsampled" or name.endswith("_excluded"):
        rows.append(Row(WHAT[name], "≤ 1 µs", f"{ours:.2f} µs", ours <= 1))
    goal = 0.05 if name == "unsampled" else GOALS.get(name)
    if goal is not None and theirs:
        bare = added.get(f"bare/{name}")
        asking = added.get(f"asking/{name}")
        floor = "" if bare is None else f"; the barest {bare / theirs:.3f}"
        floor += "" if asking is None else f", the least that asks {asking / theirs:.3f}"
        rows.append(Row(f"{WHAT[name]}, over OpenTelemetry's", f"≤ {goal:.2f}", f"{ours / theirs:.3f} ({ours:.2f} ±{off(f'lighttrace/{name}', rounds):.2f} of {theirs:.1f} µs{floor})", ours / theirs <= goal))  # fmt: skip
    others = {
        peer: value
        for key, value in added.items()
        for peer, _, kind in [key.partition("/")]
        if kind == name and peer in PEERS and peer != "lighttrace"
    }
    if name in ("flask", "fastapi") and others:
        peer = min(others, key=lambda key: others[key])
        ratio = ours / others[peer]
        rows.append(Row(f"{WHAT[name]}, over the cheapest peer's", "≤ 0.25", f"{ratio:.3f} ({PEERS[peer]}: {others[peer]:.1f} µs)", ratio <= 0.25))  # fmt: skip
    return rows


def judge(results: dict[str, Any]) -> list[Row]:
    """The table of goals, as far as it was measured."""
    rows: list[Row] = []
    for name in results.get("overhead", {}).get("workloads", ()):
        rows += over_otel(name, results["overhead"]["added"], results["overhead"]["rounds"])
    start = results.get("startup", {})
    for name, goal in (("import lighttrace", 40), ("lighttrace run", 80)):
        if start.get(name):
            rows.append(
                Row(f"`{name}`, over plain Python", f"≤ {goal} ms", f"{round(start[name][0])} ms", start[name][0] <= goal)
            )
    if "throughput" in results:
        share, otel, bare = (results["throughput"][name][1] for name in ("lighttrace", "otel", "bare"))
        error = results["throughput"]["lighttrace"][2]
        rows.append(Row("requests kept by FastAPI under uvicorn at full load", "≥ 93%", f"{share:.1%} ±{error:.1%} (OpenTelemetry {otel:.1%}; the barest {bare:.1%})", share >= 0.93))  # fmt: skip
    if "memory" in results:
        ours, theirs = (results["memory"][name] for name in ("lighttrace", "otel"))
        rows.append(Row("peak memory of 10,000 queued spans, over OpenTelemetry's", "≤ 0.40", f"{ours / theirs:.2f} ({ours / 2**20:.1f} of {theirs / 2**20:.1f} MiB)", ours / theirs <= 0.4))  # fmt: skip
    for shape, figure in results.get("encoder", {}).items():
        if shape in ("cached", "half new"):
            times, rate = figure["times_faster"], 1e6 / figure["ours_us"]
            said = "values that repeat" if shape == "cached" else "half of the values new"
            rows.append(
                Row(f"encoder, {said}: spans per second and core", "≥ 10 times", f"{times:.1f} times ({rate:,.0f})", times >= 10)
            )
    for kind, points in results.get("growth", {}).items():
        rows.append(grown(kind, points))
    return rows


def grown(kind: str, points: list[tuple[int, float]]) -> Row:
    """Whether a curve is linear (attributes) or flat (spans of a trace, threads), a quarter being noise."""
    if kind == "attributes":
        at = dict(points)
        early, late = (at[32] - at[0]) / 32, (at[128] - at[64]) / 64
        return Row("cost per attribute, 64 to 128 over 0 to 32", "linear", f"{late / early:.2f} times", late / early <= 1.25)
    # The root by itself is another span than a child: what grows is seen from the second point on.
    base = min(cost for _, cost in points[1:3])
    what = "spans of one trace" if kind == "trace" else "threads"
    return Row(
        f"cost per span at {points[-1][0]:,} {what}", "flat", f"{points[-1][1] / base:.2f} times", points[-1][1] / base <= 1.25
    )


def measure(parts: list[str], rounds: int, quick: bool) -> dict[str, Any]:
    """Run the parts in this interpreter."""
    sys.path.insert(0, str(HERE))
    results: dict[str, Any] = {}
    if "overhead" in parts:
        import overhead

        names = (*overhead.TRACERS[:3], "bare", "asking") if quick else overhead.TRACERS
        figures, missing = overhead.measure(names, overhead.WORKLOADS, 2 if quick else rounds, 0.4 if quick else 0.8)
        overhead.show(figures, missing, names, overhead.WORKLOADS)
        results["overhead"] = {
            "workloads": list(overhead.WORKLOADS),
            "added": {"/".join(key): value for key, value in overhead.added(figures).items()},
            "rounds": {"/".join(key): values for key, values in figures.items()},
            "missing": {"/".join(key): why for key, why in missing.items()},
        }
    if "throughput" in parts:
        import throughput

        results["throughput"] = throughput.measure(["none", "lighttrace", "otel", "bare"], 3 if quick else 16, 1 if quick else 2)
    if "memory" in parts:
        import memory

        results["memory"] = memory.measure()
    if "encoder" in parts:
        done = subprocess.run([sys.executable, str(HERE / "encoder.py"), "--json"], capture_output=True, text=True, check=True)
        results["encoder"] = json.loads(done.stdout)
    if "growth" in parts:
        import growth

        results["growth"] = growth.measure(1 if quick else 2)
    if "startup" in parts:
        import startup

        results["startup"] = startup.measure(5 if quick else 15)
    return results


def machine() -> str:
    """Where it ran."""
    model = platform.machine()
    try:
        names = [
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    except OSError:
        pass
    return f"{os.cpu_count()} cores of {model}, {platform.system()} {platform.release().split('-')[0]}, {platform.python_implementation()} {platform.python_version()}"


def versions() -> str:
    """What was measured."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def table(rows: list[Row]) -> str:
    """The goals in Markdown."""
    lines = ["| figure | goal | result | |", "|---|---|---|---|"]
    return "\n".join(
        lines + [f"| {row.what} | {row.goal} | {row.result} | {'met' if row.met else '**not met**'} |" for row in rows]
    )


def table_of_costs(results: dict[str, Any]) -> str:
    """Microseconds by tracer and workload."""
    overhead = results["overhead"]
    lines = ["| one | untraced | " + " | ".join(PEERS.values()) + " |", "|---|---:|" + "---:|" * len(PEERS)]
    for name in overhead["workloads"]:
        cells = [f"{statistics.median(overhead['rounds'].get(f'none/{name}', [0.0])):.1f}"]
        for peer in PEERS:
            key = f"{peer}/{name}"
            value = overhead["added"].get(key)
            cells.append("" if value is None else f"{value:.2f} ±{off(key, overhead['rounds']):.1f}")
        lines.append(f"| {WHAT[name]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(results: dict[str, Any], quick: bool) -> str:
    """What the README says."""
    added = results["overhead"]["added"]
    rounds = results["overhead"]["rounds"]
    lines = [
        "CPU microseconds that tracing adds to one operation, encoding and export included, from one run of",
        f"`python benchmarks/run.py{' --quick' if quick else ''}` on {machine()}, {today()}.",
        "",
        "| one | untraced | LightTrace adds | OpenTelemetry's SDK and contrib add | ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in GOALS:
        ours, theirs = added.get(f"lighttrace/{name}"), added.get(f"otel/{name}")
        if ours is not None and theirs:
            untraced = statistics.median(rounds.get(f"none/{name}", [0.0]))
            lines.append(f"| {WHAT[name]} | {untraced:.3g} | {ours:.3g} | {theirs:.3g} | {ours / theirs:.2f} |")
    start, ours, theirs = results["startup"], results["memory"]["lighttrace"], results["memory"]["otel"]
    said = [
        f"`{name}` adds {round(start[name][0])} ms to a program's start."
        for name in ("import lighttrace", "lighttrace run")
        if start.get(name)
    ]
    said.append(f"10,000 queued spans take {ours / 2**20:.1f} MiB, the SDK's {theirs / 2**20:.1f}.")
    share = results["throughput"]
    said.append(
        f"FastAPI under uvicorn at full load keeps {share['lighttrace'][1]:.0%} of its requests, {share['otel'][1]:.0%} with the SDK."
    )
    picture = "![CPU time added per operation, by tracer](docs/plots/added-cost.svg)"
    return "\n".join(
        [*lines, "", *said, "", picture, "", "All goals, peers and methods: [docs/performance.md](docs/performance.md)."]
    )


def today() -> str:
    """The date of the run."""
    return dt.datetime.now(dt.timezone.utc).date().isoformat()


def write(results: dict[str, Any], rows: list[Row], quick: bool) -> None:
    """docs/performance.md, the plots, and the figures of the README."""
    import svg

    plots = ROOT / "docs" / "plots"
    plots.mkdir(exist_ok=True)
    added = results["overhead"]["added"]
    groups = [
        (WHAT[name], [(PEERS[peer], added[f"{peer}/{name}"]) for peer in PEERS if f"{peer}/{name}" in added])
        for name in GOALS
        if f"lighttrace/{name}" in added
    ]
    (plots / "added-cost.svg").write_text(svg.bars("CPU time that tracing adds to one operation", groups, "µs", "LightTrace"))
    names = {"attributes": "attributes of a span", "trace": "spans of a trace", "threads": "threads"}
    curves = [(names[kind], points) for kind, points in results["growth"].items()]
    (plots / "growth.svg").write_text(
        svg.lines("Cost of a span as things grow", curves, "µs of CPU for one span, encoding included")
    )
    missing = sorted({f"{PEERS.get(key.split('/')[0], key)} ({key.split('/')[1]}: {why[:80]})" for key, why in results["overhead"]["missing"].items()})  # fmt: skip
    text = (HERE / "performance.md.in").read_text()
    for name, value in {
        "DATE": today(),
        "COMMAND": "python benchmarks/run.py" + (" --quick" if quick else ""),
        "MACHINE": machine(), "VERSIONS": versions(), "GOALS": table(rows), "COSTS": table_of_costs(results),
        "LOAD": "`wrk`" if shutil.which("wrk") else "a client of our own",
        "LEFT_OUT": "Left out: " + "; ".join(missing) + "." if missing else "",
    }.items():  # fmt: skip
        text = text.replace("{{" + name + "}}", value)
    (ROOT / "docs" / "performance.md").write_text(text)
    readme = (ROOT / "README.md").read_text()
    before, _, rest = readme.partition("<!-- figures:begin -->\n")
    _, _, after = rest.partition("<!-- figures:end -->")
    (ROOT / "README.md").write_text(f"{before}<!-- figures:begin -->\n{summary(results, quick)}\n<!-- figures:end -->{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts: " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=4, help="of what is measured in rounds")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--here", action="store_true", help="in this interpreter, with what is installed in it")
    options = parser.parse_args()
    if not options.here:
        return subprocess.run([make_venv(), str(HERE / "run.py"), *sys.argv[1:], "--here"], check=False).returncode
    parts = options.only.split(",")
    results = measure(parts, options.rounds, options.quick)
    rows = judge(results)
    wide = max(len(row.what) for row in rows) + 2
    print("\n" + "\n".join(f"{row.what:{wide}}{row.goal:12}{row.result:44}{'met' if row.met else 'NOT MET'}" for row in rows))
    if set(parts) == set(PARTS):
        write(results, rows, options.quick)
        print("\nwrote docs/performance.md, docs/plots/ and the README's figures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
