"""Whether tracing became more expensive: instructions, counted by callgrind, against the numbers in baseline.json.

    python benchmarks/regression.py [--only manual,flask] [--update] [--jobs 2]

Times wobble; instructions do not. Each workload runs under valgrind in a process of its own, traced and untraced, first N
and then 2N operations: the difference is what N operations take, without start-up. What LightTrace adds is the traced
count minus the untraced one. `bytes` is what the queue holds for each operation until its spans are sent.

Seeds are fixed, garbage collection is off and no worker runs: two runs of one checkout count the same, and what an innocent
change moves in memory is left out (FLAT_PRICES). A number is there to be compared with itself later: what is added to a
request of a big library that does next to nothing of ours (fastapi_excluded) may even lie below zero.
A Python built otherwise needs other counts for the same work, so that a loop of plain Python is counted too (`reference`)
and all numbers are scaled by it. Libraries are those of `baseline.json`: `nox -s regression` installs exactly these.
"""

import argparse
import concurrent.futures
import functools
import gc
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
LIBRARIES = ("opentelemetry-api", "wrapt", "flask", "werkzeug", "fastapi", "starlette", "httpx", "requests", "urllib3")
GROUPS = (
    ("fastapi", "fastapi_called", "fastapi_excluded"), ("flask", "flask_called", "flask_excluded"), ("requests",),
    ("requests_in_memory",),
    ("httpx_in_memory",), ("unsampled",), ("manual", "encode"), ("sqlite3",),
)  # fmt: skip
"""Workloads that share a process, so that their libraries are imported once; those that take longest first."""
UNTRACED = {group: tuple(name for name in group if name not in ("manual", "unsampled", "encode")) for group in GROUPS}
MARGIN = 0.02
OTHER_BUILD = 0.15  # the margin where the reference says that this Python was built otherwise
NOISE = 0.004  # of the untraced operation: two layouts of memory differ by so much in a big library, whatever is done below
SLACK = {"instructions": 150, "bytes": 32}  # per operation; what is next to nothing may double
COUNT = 40
SPANS = 256  # of the batch that is encoded

# How often a probe of a dict, of the cache of methods or of a context collides, and what the allocator finds, depends on where
# things happen to lie in memory, and an innocent change moves them: each such call counts the same, however long it took.
FLAT_PRICES = (
    (re.compile(r"unicodekeys_lookup|dictkeys_generic_lookup|_Py_dict_lookup|lookdict|do_lookup|find_empty_slot"), 30),
    (re.compile(r"_PyType_Lookup|find_name_in_mro|assign_version_tag"), 40),
    (re.compile(r"_PyHamt_(Assoc|Without)"), 600),
    (re.compile(r"_PyHamt_Find"), 60),
    (re.compile(r"hamt_node_\w+_dealloc"), 100),
    (re.compile(r"set_lookkey|set_add_entry"), 40),
    (
        re.compile(r"_?Py(Object|Mem)_(Raw)?(Malloc|Calloc|Realloc|Free)\b|(malloc|calloc|realloc|free|_int_malloc|_int_free)\b"),
        50,
    ),
)


def mark() -> None:
    """Where callgrind writes down what was counted and starts anew: it is told to by the name of this function of C."""
    os.getsid(0)


def reference(prepare: object) -> Callable[[int], object]:
    """Plain Python of the kind that tracing is made of: calls, attributes, dicts, strings, integers."""

    class Thing:
        __slots__ = ("a", "b", "c")

    def work(name: str, **options: int) -> str:
        thing = Thing()
        thing.a, thing.b, thing.c = name, options, {"one": 1, "two": 2, **options}
        try:
            return f"{thing.a}-{thing.c['three']:016x}"
        finally:
            thing.c.clear()

    def call(count: int) -> None:
        for i in range(count * 20):
            work("name", three=i).encode()

    return call


def encode(prepare: object) -> Callable[[int], object]:
    """One batch of spans, each encoded for the first time."""
    from opentelemetry import trace

    from lighttrace.export.encoder import encode_spans

    pending = queue().pending
    tracer = trace.get_tracer("bench")
    made: list[list[Any]] = []

    def attributes(i: int) -> dict[str, Any]:
        return {
            "http.request.method": "GET", "http.route": f"/orders/{i % 7}", "url.scheme": "https", "server.address": "example.com",
            "server.port": 443, "http.response.status_code": 200, "app.customer": f"customer-{i}", "user_agent.original": "curl/8",
        }  # fmt: skip

    # N batches are encoded, then 2N, after a warm-up of 2N; spans are made before anything is counted.
    for batch in range(5 * _count("encode")):
        for i in range(SPANS):
            with tracer.start_as_current_span("GET", attributes=attributes(batch * SPANS + i)):
                pass
        made.append(list(pending))
        pending.clear()

    def call(count: int) -> None:
        for _ in range(count):
            encode_spans(made.pop())

    return call


def _count(workload: str) -> int:
    return 2 if workload == "encode" else COUNT


def queue() -> Any:
    """The queue of the running tracer."""
    from lighttrace import runtime

    active = runtime.active()
    assert active is not None
    return active.queue


def child(what: str, tracer: str, names: list[str]) -> None:
    """For each workload run N and 2N operations: each between two marks, or printing the bytes that the queue then holds."""
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    import workloads

    drain: Callable[[], object] = lambda: None  # noqa: E731  # or the queue's
    if tracer == "lighttrace":
        import lighttrace
        from lighttrace.tracing import ids

        lighttrace.init(
            service="bench", team="bench-team", exporter="none", exclude=["/healthz"],
            sampler="always_off" if names == ["unsampled"] else "always_on",
        )  # fmt: skip
        ids._random.seed(1)
        queue().wake_at = 1 << 60  # no worker: it would be counted, whenever it happens to run
        drain = queue().pending.clear
    own: dict[str, Any] = {"reference": reference, "encode": encode}
    calls = {name: (own.get(name) or workloads.WORKLOADS[name])(lambda app: None) for name in names}
    gc.collect()
    if what == "bytes":
        print(json.dumps({name: held_bytes(call, drain) for name, call in calls.items()}))
    else:
        gc.disable()
        for name, call in calls.items():
            count = _count(name)
            call(2 * count)
            drain()
            for times in (count, 2 * count):
                mark()
                call(times)
                mark()
                drain()
    sys.stdout.flush()
    os._exit(0)


def held_bytes(call: Callable[[int], object], drain: Callable[[], object]) -> float:
    """What the queue holds for one operation."""
    tracemalloc.start()
    held = []
    for count in (500, 1000, 3000):  # the first for caches
        call(count)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        drain()
        gc.collect()
        held[-1] -= tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (held[2] - held[1]) / 2000


def read_part(path: Path) -> int:
    """The instructions of one part of callgrind's output, with what depends on the layout of memory at its flat price."""
    total, caller, called = 0, "", ""
    edges: dict[tuple[str, str], tuple[int, int]] = {}
    with path.open() as lines:
        for line in lines:
            if line.startswith("fn="):
                caller = line[3:-1]
            elif line.startswith("cfn="):
                called = line[4:-1]
            elif line.startswith("calls="):
                calls, whole = edges.get((caller, called), (0, 0))
                edges[caller, called] = calls + int(line[6:].split()[0]), whole + int(next(lines).split()[1])
            elif line.startswith("totals:"):
                total += int(line.split()[1])

    @functools.cache
    def price(function: str) -> int | None:
        return next((price for pattern, price in FLAT_PRICES if pattern.match(function)), None)

    # The linker's stubs have no names; they are what they lead to.
    stubs = {caller: price(called) for caller, called in edges if caller.startswith("0x") and price(called) is not None}
    for (caller, called), (calls, whole) in edges.items():
        flat = stubs.get(called, price(called))
        if flat is not None and stubs.get(caller, price(caller)) is None:
            total += calls * flat - whole
    return total


def run_child(what: str, tracer: str, names: tuple[str, ...], *before: str) -> str:
    """What a process of its own printed."""
    command = [*before, sys.executable, "-s", str(HERE / "regression.py"), "--child", what, tracer, *names]
    environ = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr[-3000:]}")
    return done.stdout


def count(tracer: str, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Instructions and bytes of one operation of each workload."""
    with tempfile.TemporaryDirectory() as directory:
        run_child(
            "instructions", tracer, names, "valgrind", "--tool=callgrind", "--dump-before=getsid", "--dump-line=no",
            "--compress-strings=no", f"--callgrind-out-file={directory}/out",
        )  # fmt: skip
        figures = {}
        for index, name in enumerate(names):
            # Each mark ends a part; between the four marks of a workload lie N operations, what is not counted, and 2N.
            once, twice = (read_part(Path(f"{directory}/out.{4 * index + part}")) for part in (2, 4))
            figures[name] = {"instructions": (twice - once) / _count(name) / (SPANS if name == "encode" else 1)}
    queued = tuple(name for name in names if name != "encode") if tracer != "none" else ()
    if queued:
        for name, held in json.loads(run_child("bytes", tracer, queued)).items():
            figures[name]["bytes"] = held
    return figures


def measure(wanted: list[str], jobs: int) -> tuple[float, dict[str, dict[str, int]]]:
    """The reference's instructions, and what tracing adds to each workload."""
    tasks = []
    for group in GROUPS:
        if set(group) & set(wanted):
            tasks += [("lighttrace", group)] + [("none", UNTRACED[group])] * bool(UNTRACED[group])
    tasks.append(("none", ("reference",)))
    traced: dict[str, dict[str, float]] = {}
    untraced: dict[str, dict[str, float]] = {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for (tracer, _), figures in zip(tasks, pool.map(lambda task: count(*task), tasks), strict=True):
            (traced if tracer == "lighttrace" else untraced).update(figures)
    added = {
        name: {kind: round(value - untraced.get(name, {}).get(kind, 0)) for kind, value in traced[name].items()}
        | ({"untraced": round(untraced[name]["instructions"])} if name in untraced else {})
        for group in GROUPS
        for name in group
        if name in wanted
    }
    return untraced["reference"]["instructions"], added


def check(known: dict[str, Any], scale: float, added: dict[str, dict[str, int]]) -> tuple[list[str], list[str]]:
    """Print the table; what became more expensive, and what became cheaper."""
    margin = MARGIN if abs(scale - 1) < 0.005 else OTHER_BUILD
    worse, better = [], []
    print(f"{'added per operation':26}{'now':>10}{'baseline':>10}{'change':>9}")
    for name, now in added.items():
        for kind, value in now.items():
            if kind == "untraced":
                continue
            was = known["added"].get(name, {}).get(kind)
            if was is None:
                print(f"{name + ' ' + kind:26}{value:10}{'-':>10}")
                continue
            # Bytes are the same in every build.
            scaled = value * scale if kind == "instructions" else value
            allowed = max(was * margin, SLACK[kind], NOISE * now.get("untraced", 0) if kind == "instructions" else 0)
            said = f"{name} {kind}"
            if not was and not value:
                continue
            change = (scaled - was) / abs(was) if was else 0.0
            print(f"{said:26}{scaled:10.0f}{was:10}{change:+9.1%}{'  MORE' if scaled > was + allowed else ''}")
            if scaled > was + allowed:
                worse.append(f"{said}: {scaled:.0f}, was {was} ({change:+.1%}; {allowed:.0f} more are allowed)")
            elif scaled < was - allowed:
                better.append(f"{said}: {scaled:.0f}, was {was} ({change:+.1%})")
    return worse, better


def versions() -> dict[str, str]:
    """The libraries' versions here."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(name for group in GROUPS for name in group))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--update", action="store_true", help="write what was counted into baseline.json")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is missing: on Debian, apt-get install valgrind", file=sys.stderr)
        return 2
    python = "{}.{}".format(*sys.version_info)
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"libraries": {}, "pythons": {}}
    names = options.only.split(",")
    counted, added = measure(names, options.jobs)
    known = baseline["pythons"].get(python)
    if options.update:
        if known is None or set(names) >= {name for group in GROUPS for name in group}:
            known = {"reference": round(counted), "added": {}}
        for name, now in added.items():
            scale = known["reference"] / counted
            known["added"][name] = {kind: round(value * (1 if kind == "bytes" else scale)) for kind, value in now.items()}
        pythons = {**baseline["pythons"], python: known}
        BASELINE.write_text(json.dumps({"libraries": versions(), "pythons": dict(sorted(pythons.items()))}, indent=1) + "\n")
        print(f"wrote {BASELINE.name}: {', '.join(names)} on Python {python}")
        return 0
    if known is None:
        print(f"baseline.json has no numbers for Python {python}: `--update` adds them", file=sys.stderr)
        return 2
    for name, version in versions().items():
        if baseline["libraries"].get(name) != version:
            print(
                f"note: {name} is {version} here, {baseline['libraries'].get(name)} in the baseline; `nox -s regression` takes that"
            )
    worse, better = check(known, known["reference"] / counted, added)
    if better:
        print("\nCheaper than the baseline: `nox -s regression -- --update` keeps it so.", *better, sep="\n  ")
    if worse:
        print("\nTracing became more expensive:", *worse, sep="\n  ")
        print(
            "\nMake it cheaper. If it is worth its price, say why in the commit and take the new numbers over with"
            "\n  nox -s regression -- --update"
        )
    return bool(worse)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], sys.argv[4:])
    sys.exit(main())
