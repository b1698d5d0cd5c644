"""Row 6: however a process ends, its spans arrive; and with a backend that hangs, it ends in time."""

import signal
from pathlib import Path
from typing import Any

import pytest

from lighttrace.backend.receiver import Receiver
from lighttrace.semconv import INCOMPLETE
from tests.faults.backend import HANG, Backend, status
from tests.faults.conftest import Record
from tests.faults.running import compare, each_once, is_complete, run

PROGRAM = """
import os, signal, sys, threading, time
from opentelemetry import trace
tracer = trace.get_tracer("program")
for number in range(20):
    with tracer.start_as_current_span(f"span {number}"):
        pass

def wait():
    print("ready", flush=True)
    time.sleep(60)

way = sys.argv[1]
"""
HANDLED_ONCE = """
before = signal.signal(signal.SIGTERM, lambda *_: None)
assert before is signal.getsignal(signal.SIGUSR1), before
signal.signal(signal.SIGTERM, before)
assert signal.getsignal(signal.SIGTERM) is before
wait()
"""
WAYS = {
    "the end of the program": ("", 0),
    "sys.exit(3)": ("sys.exit(3)", 3),
    "an unhandled exception": ("raise ValueError('oh')", 1),
    "SIGINT": ("wait()", -signal.SIGINT),
    "SIGTERM": ("wait()", -signal.SIGTERM),
    "SIGTERM to a program that handles it": ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nwait()", 7),
    "SIGTERM to a program that handled it once": (
        HANDLED_ONCE,
        -signal.SIGTERM,
    ),
    "SIGTERM to a program that computes": ("print('ready', flush=True)\nwhile True: pass", -signal.SIGTERM),
    "os._exit(4)": ("os._exit(4)", 4),
    "os._exit(4) in a thread": (
        "threading.Thread(target=lambda: os._exit(4)).start()\nthreading.Event().wait()",
        4,
    ),
    "an exception in a thread, then the end": ("threading.Thread(target=lambda: 1 / 0).start()", 0),
}
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}


def _program(directory: Path, ending: str) -> Path:
    script = directory / "program.py"
    script.write_text(PROGRAM + ending + "\n")
    return script


def _stop(way: str) -> Any:
    number = SIGNALS.get(way.split(maxsplit=1)[0])
    return None if number is None else lambda process: process.send_signal(number)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_lost_however_a_process_ends(way: str, tmp_path: Path, record: Record) -> None:
    ending, code = WAYS[way]

    def try_one(tracer: str) -> str:
        with Backend() as backend:
            ended = run(tracer, _program(tmp_path, ending), backend, way, stop=_stop(way))
            assert ended.code == code, ended.err
            said = each_once(backend, [f"span {number}" for number in range(20)], 1.0)
            assert "lighttrace" not in ended.err, ended.err
        return said

    seen = compare(try_one)
    assert is_complete(seen["lighttrace"]), seen
    record(6, f"the process ends: {way}", seen["lighttrace"], seen["opentelemetry"])


ENDINGS = {
    "SIGTERM while the process ends by itself": ("print('ready', flush=True)", 1),
    "several SIGTERMs while the process ends by itself": ("print('ready', flush=True)", 5),
    "several SIGTERMs": ("wait()", 5),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", ENDINGS)
def test_a_signal_on_the_way_out_loses_nothing(way: str, tmp_path: Path, record: Record) -> None:
    """A master that stops stops its workers, some of which are on their way out by themselves; some masters do it twice."""
    ending, times = ENDINGS[way]

    def try_one(tracer: str) -> str:
        with Backend() as backend:
            backend.script(status(503, retry_after=1))

            def stop(process: Any) -> None:
                if ending == "wait()":
                    process.send_signal(signal.SIGTERM)
                if tracer == "lighttrace" or ending != "wait()":
                    assert backend.wait_for(lambda: backend.requests)
                for _ in range(times):
                    process.send_signal(signal.SIGTERM)
                    if backend.wait_for(lambda: process.poll() is not None, 0.05):
                        break  # else it has had the time to hear it

            run(tracer, _program(tmp_path, ending), backend, "", stop=stop)
            return each_once(backend, [f"span {number}" for number in range(20)], 1.0)

    seen = compare(try_one)
    assert is_complete(seen["lighttrace"]), seen
    record(6, way, seen["lighttrace"], seen["opentelemetry"])


@pytest.mark.slow
def test_a_signal_on_the_way_out_adds_no_time_while_the_backend_hangs(tmp_path: Path) -> None:
    with Backend(HANG) as backend:

        def stop(process: Any) -> None:
            assert backend.wait_for(lambda: backend.requests)
            process.send_signal(signal.SIGTERM)

        ended = run("lighttrace", _program(tmp_path, "print('ready', flush=True)"), backend, "", stop=stop)
    assert ended.code == -signal.SIGTERM, ended.err
    assert ended.took_s < 5.0


@pytest.mark.slow
@pytest.mark.parametrize("way", ["the end of the program", "SIGTERM", "os._exit(4)"])
def test_a_backend_that_hangs_holds_no_process_for_more_than_five_seconds(way: str, tmp_path: Path, record: Record) -> None:
    ending, code = WAYS[way]
    if "wait" not in ending:
        ending = f"print('ready', flush=True)\n{ending}"
    stop = _stop(way)
    took: dict[str, float] = {}

    def try_one(tracer: str) -> str:
        with Backend(HANG) as backend:
            script = _program(tmp_path, ending)
            ended = run(tracer, script, backend, way, stop=stop or (lambda process: None))
            assert ended.code == code, ended.err
            took[tracer] = ended.took_s
        return f"it ended after {ended.took_s:.1f} s"

    seen = compare(try_one)
    assert took["lighttrace"] < 5.0, took
    record(6, f"the backend hangs, and the process ends: {way}", seen["lighttrace"], seen["opentelemetry"])


OPEN = """
import os, sys, threading, time
from opentelemetry import trace
tracer = trace.get_tracer("program")
held = threading.Event()

def work():
    with tracer.start_as_current_span("daemon"):
        held.set()
        time.sleep(60)

def steps():
    with tracer.start_as_current_span("generator"):
        yield

threading.Thread(target=work, daemon=True).start()
held.wait()
stepping = steps()
next(stepping)
by_hand = tracer.start_span("by hand")
with tracer.start_as_current_span("done"):
    pass
outer = tracer.start_as_current_span("outer")
outer.__enter__()
print("ready", flush=True)
if sys.argv[1] == "SIGTERM":
    time.sleep(60)
if sys.argv[1] == "os._exit":
    os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["the end", "SIGTERM", "os._exit"])
def test_spans_that_are_open_at_the_end_arrive_and_say_so(way: str, tmp_path: Path, record: Record) -> None:
    script = tmp_path / "program.py"
    script.write_text(OPEN)
    names = ["daemon", "generator", "by hand", "done", "outer"]
    stop = (lambda process: process.terminate()) if way == "SIGTERM" else None
    with Receiver() as receiver:
        run("lighttrace", script, receiver, way, stop=stop)
        assert receiver.wait_for(lambda traces: sum(map(len, traces.values())) == len(names)), receiver.traces()
        spans = [span for trace in receiver.traces().values() for span in trace]
    assert sorted(span.name for span in spans) == sorted(names)
    assert {span.name: bool(span.attributes.get(INCOMPLETE)) for span in spans} == {name: name != "done" for name in names}
    with Backend() as backend:
        run("opentelemetry", script, backend, way, stop=stop)
        theirs = each_once(backend, names, 0.5)
    record(6, f"spans are open when the process ends: {way}", "all 5 arrived, those that were open marked incomplete", theirs)
