"""Where the time of a traced operation goes: the tables of BUDGET.md, measured anew.

    python benchmarks/budget.py [--only manual,flask] [--print]

Three kinds of figures. Nanoseconds of each step beside the bare operation of the interpreter that it cannot be done
without (its floor), each timed alone in a loop. Per workload, what LightTrace's functions execute for one operation, in
bytecodes, which are counted and so exact. And what tracing adds to the workload on the program's own thread, measured with
tracing on and off in turns, which the bytecodes share out.
"""

import argparse
import collections
import datetime as dt
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
BUDGET = HERE / "BUDGET.md"
WORKLOADS = ("manual", "flask", "fastapi", "requests", "httpx_in_memory", "sqlite3", "psycopg")
SHOWN = 14  # functions per workload; the rest in one row


class Step(NamedTuple):
    """One thing that is done for a span, and the least that does it."""

    what: str
    floor: str
    ours: str
    sampler: str = "parentbased_always_on"


STEPS = (
    Step("read the current context", "variable.get()", "current.get()"),
    Step("make a span current, and take it off again", "variable.reset(variable.set(span))", "current.reset(current.set(span))"),
    Step("the time, twice", "time_ns(); time_ns()", "time_ns(); time_ns()"),
    Step("a span's id", "getrandbits(64)", "getrandbits(64) or new_span_id()"),
    Step("a trace's id", "getrandbits(128)", "getrandbits(128) or new_trace_id()"),
    Step("an object with 15 slots, filled", "make_bare()", "make_span()"),
    Step("a dict of no attributes", "{}", "none.copy()"),
    Step("a dict of eight attributes", "eight.copy()", "eight.copy()"),
    Step("a dict of sixteen attributes", "sixteen.copy()", "sixteen.copy()"),
    Step("are eight values plain str and int", "types.issuperset(map(type, eight.values()))", "limits.fits(eight)"),
    Step("one attribute more", "eight['http.route'] = '/'", "span.set_attribute('http.route', '/')"),
    Step("a wrapper around a function", "thin('a')", "around('a')"),
    Step("look for a header that is not there", "environ.get('HTTP_TRACEPARENT')", "environ.get('HTTP_TRACEPARENT')"),
    Step("read a traceparent", "(int(parent[3:35], 16), int(parent[36:52], 16), int(parent[53:], 16))", "parse_traceparent(parent)"),
    Step("write a traceparent, in a root", "f\"00-{root.to_bytes(16, 'big').hex()}-{number.to_bytes(8, 'big').hex()}-03\"", "f\"00-{root.to_bytes(16, 'big').hex()}-{number.to_bytes(8, 'big').hex()}-03\""),
    Step("write a traceparent, below", "f\"{prefix}{number.to_bytes(8, 'big').hex()}-01\"", "f\"{prefix}{number.to_bytes(8, 'big').hex()}-01\""),
    Step("put a span into the queue", "append(span)", "put_span(span)"),
    Step("start and end a root span, eight attributes", "bare_span(eight)", "tracer.start('GET', CLIENT, eight.copy()).end()"),
    Step("a span by hand, current inside, eight attributes", "bare_current(eight)", "by_hand(eight)"),
    Step("a span that is not sampled, current inside", "bare_unsampled(eight)", "by_hand(eight)", "parentbased_always_off"),
    Step("the same, beside what keeps it all and asks it all", "asking_unsampled(eight)", "by_hand(eight)", "parentbased_always_off"),
)  # fmt: skip


def namespace() -> dict[str, Any]:
    """What the statements of the steps use; a running tracer whose queue is emptied by nobody but the timer."""
    import contextvars
    from random import Random
    from time import time_ns

    from opentelemetry import trace
    from opentelemetry.context.context import Context
    from opentelemetry.trace import SpanKind

    import lighttrace
    from lighttrace import runtime
    from lighttrace.instrument.call import around
    from lighttrace.propagation.tracecontext import parse_traceparent
    from lighttrace.tracing.context import SPAN_KEY, current
    from lighttrace.tracing.ids import getrandbits, new_span_id, new_trace_id
    from lighttrace.tracing.span import Span, UnsampledSpan
    from lighttrace.tracing.values import PLAIN

    lighttrace.init(service="bench", team="bench-team", exporter="none")
    active = runtime.active()
    assert active is not None
    active.queue.wake_at = 1 << 60
    tracer: Any = trace.get_tracer("bench")
    span = tracer.start_span("work")
    slots = [f"s{i}" for i in range(15)]
    bare = type("Bare", (), {"__slots__": slots})
    new = object.__new__
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable", default=None)
    bits = Random(1).getrandbits
    pending: collections.deque[Any] = collections.deque(maxlen=1000)
    store = "; ".join(f"made.{slot} = {i}" for i, slot in enumerate(slots))
    scope: dict[str, Any] = {"new": new, "Bare": bare, "Span": Span, "time_ns": time_ns, "bits": bits, "SpanKind": SpanKind, "variable": variable, "append": pending.append, "UnsampledSpan": UnsampledSpan, "pipeline": active.pipeline, "read_current": current.get, "set_current": current.set, "reset_current": current.reset}  # fmt: skip
    fields = "; ".join(f"made.{slot} = 0" for slot in Span.__slots__ if slot not in ("__weakref__", "_call"))
    exec(f"def make_bare():\n made = new(Bare); {store}\n return made", scope)
    exec(f"def make_span():\n made = new(Span); {fields}\n return made", scope)
    exec(
        f"def bare_span(given):\n bits(128); bits(64); made = new(Bare); {store}\n"
        " made.s0 = given.copy(); made.s1 = time_ns(); made.s2 = time_ns(); append(made)",
        scope,
    )
    exec(
        "class BareScope:\n"
        " __slots__ = ('given', 'made', 'token')\n"
        f" def __enter__(self):\n  bits(128); bits(64); self.made = made = new(Bare); {store}\n"
        "  made.s0 = self.given.copy(); made.s1 = time_ns(); self.token = variable.set(made)\n"
        " def __exit__(self, kind, error, trace):\n  variable.reset(self.token); self.made.s2 = time_ns(); append(self.made)\n"
        "class BareUnsampled:\n"
        " __slots__ = ('given', 'token')\n"
        " def __enter__(self):\n  self.token = variable.set(self); return self\n"
        " def __exit__(self, kind, error, trace):\n  variable.reset(self.token)\n"
        "class BareTracer:\n"
        " def start(self, name, context=None, kind=0, attributes=None, links=None, start_time=None, record=True, status=True, end=True):\n"
        "  scope = BareUnsampled(); scope.given = attributes; return scope\n"
        "bare_tracer = BareTracer()\n"
        "def bare_unsampled(given):\n with bare_tracer.start('GET', kind=SpanKind.CLIENT, attributes=given): pass\n"
        # Keeps what a span is made of once somebody asks for its ids or it turns out to be sampled, and asks what must be asked each
        # time: is it more than a name, a kind and attributes; how are roots sampled, and is something current, which may change
        # between making and entering; was it entered before; is it left by the one that entered it, and in its own context?
        "class AskingUnsampled(UnsampledSpan):\n"
        " __slots__ = ('attributes', 'kind', 'name', 'token', 'tracer')\n"
        " def __enter__(self):\n"
        "  bound = self.tracer.pipeline.keeps_below\n"
        "  if self.token is not None or bound is None or read_current(): raise RuntimeError\n"
        "  if bound: raise RuntimeError\n"
        "  self.token = set_current(self); return self\n"
        " def __exit__(self, kind, error, trace):\n"
        "  token = self.token\n"
        "  if type(token) is list: raise RuntimeError\n"
        "  self.token = left\n"
        "  try: reset_current(token)\n"
        "  except ValueError: raise RuntimeError\n"
        "class AskingTracer:\n"
        " __slots__ = ('pipeline',)\n"
        " def start(self, name, context=None, kind=0, attributes=None, links=None, start_time=None, record=True, status=True, end=True):\n"
        "  if context is not None or links or start_time is not None or not record or not status or not end: raise RuntimeError\n"
        "  if self.pipeline.keeps_below is None or read_current(): raise RuntimeError\n"
        "  scope = AskingUnsampled(); scope.tracer = self; scope.name = name; scope.kind = kind; scope.attributes = attributes\n"
        "  scope.token = None; return scope\n"
        "asking_tracer = AskingTracer(); asking_tracer.pipeline = pipeline; left = object()\n"
        "def asking_unsampled(given):\n with asking_tracer.start('GET', kind=SpanKind.CLIENT, attributes=given): pass\n"
        "def bare_current(given):\n scope = new(BareScope); scope.given = given\n with scope: pass",
        scope,
    )

    def host(argument: str) -> str:
        return argument

    def thin(*args: Any, **kwargs: Any) -> Any:
        return host(*args, **kwargs)

    def by_hand(given: dict[str, Any]) -> None:
        with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=given):
            pass

    import workloads

    return {
        **scope, "Context": Context, "context": Context(), "put": dict.__setitem__, "KEY": SPAN_KEY, "span": span, "current": current,
        "getrandbits": getrandbits, "new_span_id": new_span_id, "new_trace_id": new_trace_id, "root": 1 << 127, "none": {}, "eight": dict(workloads.ATTRIBUTES),
        "sixteen": {f"key.{i}": i for i in range(16)}, "types": PLAIN, "limits": active.pipeline.limits, "thin": thin,
        "around": around(host, lambda args, kwargs: True, lambda call, result: None, lambda call, error: None),
        "environ": dict.fromkeys(map(str, range(40))), "parent": f"00-{1:032x}-{1:016x}-01", "parse_traceparent": parse_traceparent,
        "prefix": f"00-{1:032x}-", "number": 1 << 60, "put_span": active.queue.put, "tracer": tracer, "CLIENT": SpanKind.CLIENT,
        "by_hand": by_hand, "pipeline": active.pipeline, "drain": active.queue.pending.clear,
    }  # fmt: skip


def nanoseconds(statement: str, names: dict[str, Any]) -> float:
    """One statement's time, the loop around it subtracted: the lower quartile of many short runs."""
    figures = []
    for code in ("pass", statement):
        timer = timeit.Timer(code, globals=names, timer=time.thread_time_ns)
        runs = []
        for _ in range(60):
            runs.append(timer.timeit(1000) / 1000)
            names["drain"]()
        figures.append(sorted(runs)[15])
    return max(0.0, figures[1] - figures[0])


def steps() -> list[tuple[Step, float, float]]:
    """Floor and cost of every step."""
    from lighttrace.tracing.sampling import named

    names = namespace()
    found = []
    for step in STEPS:
        names["pipeline"].set_sampler(named(step.sampler))
        found.append((step, nanoseconds(step.floor, names), nanoseconds(step.ours, names)))
    return found


def child(workload: str) -> None:
    """Print what one workload's operation costs and executes."""
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    import workloads

    import lighttrace
    from lighttrace import runtime
    from lighttrace.export.encoder import encode_spans

    def switch_on() -> Any:
        lighttrace.init(service="bench", team="bench-team", exporter="none")
        active = runtime.active()
        assert active is not None
        active.queue.wake_at = 1 << 60
        return active.queue.pending

    switch_on()  # connections of sqlite3 are traced from the start or never
    call = workloads.WORKLOADS[workload](lambda app: None)
    lighttrace.shutdown()
    times: dict[bool, list[float]] = {True: [], False: []}
    differences = []
    count = 2000 if workload in ("manual", "sqlite3") else 200
    for number in range(40):
        for on in (True, False) if number % 2 else (False, True):
            pending = switch_on() if on else None
            if workload == "manual" and not on:  # without a tracer there is no span
                times[on].append(0.0)
                continue
            call(20)
            gc.collect()
            begun = time.thread_time_ns()
            call(count)
            times[on].append((time.thread_time_ns() - begun) / count)
            if pending is not None:
                pending.clear()
                lighttrace.shutdown()
        differences.append(times[True][-1] - times[False][-1])
    pending = switch_on()
    call(50)
    pending.clear()
    executed, entered = bytecodes(call)
    pending.clear()
    encoded = []
    for _ in range(30):
        call(256)
        batch = list(pending)
        pending.clear()
        begun = time.thread_time_ns()
        encode_spans(batch)
        encoded.append((time.thread_time_ns() - begun) / 256)
    names = namespace()
    names["given"] = dict(batch[-1]._attributes)
    floor = nanoseconds("bare_current(given)", names)
    if workload != "manual":  # whose two entries are in that already
        floor += entered * nanoseconds("thin('a')", names)
    if workload in ("requests", "httpx_in_memory"):
        floor += nanoseconds("f'{prefix}{number:016x}-01'", names)
    figures = {
        "floor": floor, "entered": entered, "added": statistics.median(differences), "spread": statistics.quantiles(differences, n=4)[2] - statistics.quantiles(differences, n=4)[0],
        "encode": sorted(encoded)[len(encoded) // 4], "executed": executed, "attributes": len(batch[-1]._attributes),
    }  # fmt: skip
    print(json.dumps(figures), flush=True)
    os._exit(0)


def bytecodes(call: Callable[[int], object]) -> tuple[list[tuple[str, float, float]], float]:
    """Function, calls and bytecodes for one operation, for every function of LightTrace that runs, most first; and how often
    one of them is called from outside.
    """
    calls: collections.Counter[Any] = collections.Counter()
    executed: collections.Counter[Any] = collections.Counter()
    entered: list[int] = []
    package = f"{os.sep}lighttrace{os.sep}"

    def local(frame: Any, event: str, argument: object) -> Any:
        if event == "opcode":
            executed[frame.f_code] += 1
        return local

    def trace(frame: Any, event: str, argument: object) -> Any:
        if event == "call" and package in frame.f_code.co_filename:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            calls[frame.f_code] += 1
            if frame.f_back is None or package not in frame.f_back.f_code.co_filename:
                entered.append(1)
            return local
        return None

    sys.settrace(trace)
    try:
        call(100)
    finally:
        sys.settrace(None)
    named = []
    for code, number in executed.most_common():
        file = code.co_filename.rpartition(package)[2]
        name = getattr(code, "co_qualname", code.co_name).replace("<locals>.", "")
        named.append((f"{file}: {name}", calls[code] / 100, number / 100))
    return [row for row in named if row[2] >= 0.5], len(entered) / 100


def markdown_of_steps(measured: list[tuple[Step, float, float]]) -> str:
    """The table of steps."""
    lines = ["| step | floor | ns | LightTrace | ns | over the floor |", "|---|---|---:|---|---:|---:|"]
    for step, floor, ours in measured:
        same = step.ours == step.floor
        said = "the same" if same else f"`{step.ours}`"
        lines.append(
            f"| {step.what} | `{step.floor}` | {floor:.0f} | {said} | {ours:.0f} | {'' if same else f'{ours - floor:+.0f}'} |"
        )
    return "\n".join(lines)


def markdown_of(workload: str, figures: dict[str, Any]) -> str:
    """One workload's table."""
    executed = figures["executed"]
    total = sum(row[2] for row in executed)
    said = (
        f"Added on the program's thread: **{figures['added'] / 1000:.2f} µs** (the middle half of 40 pairs within"
        f" {figures['spread'] / 1000:.2f}); its floor, {figures['entered']:.0f} entries into our code and one bare span with"
        f" {figures['attributes']} attributes, {figures['floor'] / 1000:.2f} µs. {total:.0f} bytecodes, so"
        f" {figures['added'] / total:.0f} ns each with all that they call and disturb. On the worker's thread, encoding:"
        f" {figures['encode'] / 1000:.2f} µs."
    )
    lines = [said, "", "| function | calls | bytecodes | share |", "|---|---:|---:|---:|"]
    for name, calls, number in executed[:SHOWN]:
        lines.append(f"| `{name}` | {calls:.2g} | {number:.0f} | {number / total:.0%} |")
    rest = executed[SHOWN:]
    if rest:
        number = sum(row[2] for row in rest)
        lines.append(f"| {len(rest)} others | {sum(row[1] for row in rest):.2g} | {number:.0f} | {number / total:.0%} |")
    return "\n".join(lines)


def replace(text: str, name: str, table: str) -> str:
    """Put a table between its marks."""
    pattern = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{BUDGET.name} has no place for {name}: put <!-- {name}:begin --> and <!-- {name}:end --> there")
    return pattern.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(("steps", *WORKLOADS)))
    parser.add_argument("--print", action="store_true", help="only print, and leave BUDGET.md as it is")
    options = parser.parse_args()
    wanted = options.only.split(",")
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    from overhead import postgresql

    tables: dict[str, str] = {}
    if "steps" in wanted:
        tables["steps"] = markdown_of_steps(steps())
    with postgresql() as url:
        for workload in WORKLOADS:
            if workload in wanted and (workload != "psycopg" or url is not None):
                done = subprocess.run(
                    [sys.executable, str(HERE / "budget.py"), "--child", workload], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise SystemExit(f"{workload} failed: {done.stderr}")
                tables[workload] = markdown_of(workload, json.loads(done.stdout.splitlines()[-1]))
    version = f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores"
    tables["when"] = f"Measured on {dt.datetime.now(dt.timezone.utc).date().isoformat()} with {version}."
    text = BUDGET.read_text()
    for name, table in tables.items():
        print(f"\n{name}\n{table}")
        if not options.print:
            text = replace(text, name, table)
    if not options.print:
        BUDGET.write_text(text)
        print("\nwrote benchmarks/BUDGET.md")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
    main()
