"""Rows 11 to 15: what is in a trace where work outlives its request, ids are seeded, and exceptions pass through.

Each is tried in many more ways beside what does it: rows 11 and 12 in tests/instrument/test_threads.py, row 13 in
tests/tracing/test_ids.py, row 14 in tests/compat/test_contrib.py, row 15 in tests/tracing/test_span.py.
"""

from pathlib import Path
from typing import Any

import pytest

from lighttrace.backend.receiver import Receiver
from tests.faults.conftest import Record
from tests.faults.running import TRACERS, run

START = """
import asyncio, os, random, sys, threading
from concurrent.futures import ThreadPoolExecutor
from opentelemetry import trace
tracer = trace.get_tracer("program")
"""
LONG_TASK = """
async def main():
    queue = asyncio.Queue()
    async def serve():
        while (name := await queue.get()) is not None:
            with tracer.start_as_current_span(name):
                await asyncio.sleep(0)
    with tracer.start_as_current_span("request", kind=trace.SpanKind.SERVER):
        task = asyncio.create_task(serve())
    for name in ("later", "much later"):
        await queue.put(name)
    await queue.put(None)
    await task

asyncio.run(main())
"""
POOL = """
def work(name):
    with tracer.start_as_current_span(name):
        pass

with ThreadPoolExecutor(1) as pool:
    with tracer.start_as_current_span("first"):
        pool.submit(work, "below first").result()
    with tracer.start_as_current_span("second"):
        pool.submit(work, "below second").result()
    pool.submit(work, "alone").result()
"""
THREAD_POOL = """
from multiprocessing.pool import ThreadPool
def work(name):
    with tracer.start_as_current_span(name):
        pass

with tracer.start_as_current_span("around"):
    pool = ThreadPool(1)
with tracer.start_as_current_span("first"):
    pool.map(work, ["below first"])
with tracer.start_as_current_span("second"):
    pool.map(work, ["below second"])
pool.apply(work, ("alone",))
pool.close()
pool.join()
"""
SEEDED = """
for _ in range(2):
    random.seed(0)
    with tracer.start_as_current_span("seeded"):
        pass
pid = os.fork()
random.seed(0)
with tracer.start_as_current_span("forked"):
    pass
if pid:
    os.waitpid(pid, 0)
"""
NESTED = """
try:
    with tracer.start_as_current_span("outer"):
        with tracer.start_as_current_span("middle"):
            with tracer.start_as_current_span("inner"):
                raise ValueError("oh")
except ValueError:
    pass
"""
TWICE = """
import http.server, requests
from opentelemetry.instrumentation.requests import RequestsInstrumentor
RequestsInstrumentor().instrument()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.handle_request, daemon=True).start()
requests.get(f"http://127.0.0.1:{server.server_port}/")
"""


def _spans(tracer: str, directory: Path, program: str, count: int) -> "dict[str, Any]":
    script = directory / "program.py"
    script.write_text(START + program)
    with Receiver() as receiver:
        ended = run(tracer, script, receiver)
        assert ended.code == 0, ended.err
        receiver.wait_for(lambda traces: sum(map(len, traces.values())) >= count, 3)
        spans = [span for trace in receiver.traces().values() for span in trace]
    assert len(spans) >= count, spans
    return {"all": spans} | {span.name: span for span in spans}


@pytest.mark.slow
def test_what_outlives_its_request_is_a_trace_of_its_own(tmp_path: Path, record: Record) -> None:
    words = []
    for tracer in TRACERS:
        spans = _spans(tracer, tmp_path, LONG_TASK, 3)
        later = [spans["later"], spans["much later"]]
        own = [span.trace_id != spans["request"].trace_id for span in later]
        if tracer == "lighttrace":
            assert all(own)
            assert later[0].trace_id != later[1].trace_id
            assert all(len(span.links) == 1 for span in later)
        words.append("traces of their own, linked" if all(own) else "all in the trace of the request that had ended")
    record(11, "a task started in one request serves later ones", *words)


@pytest.mark.slow
@pytest.mark.parametrize(("pool", "program"), [("ThreadPoolExecutor", POOL), ("multiprocessing.pool.ThreadPool", THREAD_POOL)])
def test_a_pool_carries_the_context_and_keeps_nothing(pool: str, program: str, tmp_path: Path, record: Record) -> None:
    words = []
    for tracer in TRACERS:
        spans = _spans(tracer, tmp_path, program, 5)
        carried = all(spans[f"below {name}"].parent_id == spans[name].span_id for name in ("first", "second"))
        clean = not spans["alone"].parent_id and not spans["alone"].links
        said = "tasks are below the span that gave them" if carried else "tasks are not below the span that gave them"
        words.append(said + ("" if clean else ", and one given by nobody is below another's"))
        assert tracer != "lighttrace" or (carried and clean), spans
    record(12, f"{pool}, one worker, tasks of two spans and of none", *words)


@pytest.mark.slow
def test_ids_differ_though_the_program_seeds_and_forks(tmp_path: Path, record: Record) -> None:
    words = []
    for tracer in TRACERS:
        spans = _spans(tracer, tmp_path, SEEDED, 4)["all"]
        distinct = len({span.trace_id for span in spans})
        words.append("all ids differ" if distinct == 4 else "different traces have the same id")
        assert tracer != "lighttrace" or distinct == 4
    record(13, "random.seed(0) before each trace, and in a fork", *words)


@pytest.mark.slow
def test_contrib_beside_us_makes_one_span(tmp_path: Path, record: Record) -> None:
    words = []
    for tracer in TRACERS:
        spans = _spans(tracer, tmp_path, TWICE, 1)["all"]
        words.append(f"{len(spans)} span")
        assert tracer != "lighttrace" or len(spans) == 1
    record(14, "contrib's patch for requests is switched on by the program as well; one request", *words)


@pytest.mark.slow
def test_an_exception_has_one_origin(tmp_path: Path, record: Record) -> None:
    words = []
    for tracer in TRACERS:
        spans = _spans(tracer, tmp_path, NESTED, 3)
        recorded = [span.name for span in spans["all"] for event in span.events]
        assert all(span.status == "error" for span in spans["all"])
        words.append(f"recorded on {len(recorded)} of 3 spans")
        assert tracer != "lighttrace" or recorded == ["inner"]
    record(15, "an exception passes through three spans", *words)
