"""Row 5: generators that are closed elsewhere, and streams whose client goes away.

All the ways to step, leave and collect them are in tests/tracing/test_generators.py.
"""

import socket
from pathlib import Path

import pytest

from tests.faults.backend import Backend
from tests.faults.conftest import Record
from tests.faults.running import DEADLINE_S, PYTHON, TRACERS, compare, each_once, is_complete, needs, run, serving
from tests.processes import GUNICORN_CONFIG, READY

PROGRAMS = {
    "an async generator is closed by another task": """
import asyncio
async def steps():
    with tracer.start_as_current_span("generator"):
        yield 1
        yield 2

async def main():
    stepping = steps()
    async def first():
        await stepping.__anext__()
    async def last():
        await stepping.aclose()
    await asyncio.create_task(first())
    await asyncio.create_task(last())

asyncio.run(main())
""",
    "an async generator is left early and collected": """
import asyncio
async def steps():
    with tracer.start_as_current_span("generator"):
        yield 1
        yield 2

async def main():
    async def use():
        async for _ in steps():
            break
    await asyncio.create_task(use())

asyncio.run(main())
""",
    "a generator is advanced and closed by different threads": """
import contextvars
def steps():
    with tracer.start_as_current_span("generator"):
        yield 1
        yield 2

stepping = steps()
contextvars.copy_context().run(next, stepping)
contextvars.copy_context().run(stepping.close)
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", PROGRAMS)
def test_a_generator_that_is_ended_elsewhere_is_no_error(what: str, tmp_path: Path, record: Record) -> None:
    script = tmp_path / "program.py"
    script.write_text(f"from opentelemetry import trace\ntracer = trace.get_tracer('program')\n{PROGRAMS[what]}")
    seen = {}
    for tracer in TRACERS:
        with Backend() as backend:
            ended = run(tracer, script, backend)
            assert ended.code == 0, ended.err
            arrived = is_complete(each_once(backend, ["generator"], 1.0))
            logged = "an error and a traceback are logged" if "Traceback" in ended.err else "nothing is logged"
            seen[tracer] = f"its span {'arrived' if arrived else 'was lost'}, {logged}"
    assert seen["lighttrace"] == "its span arrived, nothing is logged"
    record(5, what, seen["lighttrace"], seen["opentelemetry"])


STREAMS = {
    "FastAPI under uvicorn": """
import asyncio
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry import trace
tracer = trace.get_tracer("program")
app = FastAPI()

@app.get("/stream")
def stream():
    async def chunks():
        with tracer.start_as_current_span("chunks"):
            for _ in range(3000):
                yield b"x" * 1000
                await asyncio.sleep(0.01)
    return StreamingResponse(chunks())
""",
    "Flask under gunicorn -k gthread": """
import time
from flask import Flask
from opentelemetry import trace
tracer = trace.get_tracer("program")
app = Flask("program")

@app.get("/stream")
def stream():
    def chunks():
        with tracer.start_as_current_span("chunks"):
            for _ in range(3000):
                yield b"x" * 1000
                time.sleep(0.01)
    return chunks()
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", STREAMS)
def test_a_stream_whose_client_hangs_up_ends_its_spans(what: str, tmp_path: Path, record: Record) -> None:
    (tmp_path / "app.py").write_text(STREAMS[what])
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN_CONFIG)
    server = "uvicorn" if "uvicorn" in what else "gunicorn"
    needs(server)
    commands = {
        "uvicorn": (PYTHON, "-m", "uvicorn", "--port", "{port}", "app:app"),
        "gunicorn": (PYTHON, "-m", "gunicorn", "-k", "gthread", "-b", "127.0.0.1:{port}", "app:app"),
    }

    def try_one(tracer: str) -> str:
        variables = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
        with (
            Backend() as backend,
            serving(tracer, tmp_path, backend, *commands[server], ready=READY[server], **variables) as (running, port),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
                connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(10_000)
            said = each_once(backend, ["chunks", "GET /stream"])
            logged = "an error is logged" if "Traceback" in running.said or "ERROR" in running.said else "nothing is logged"
            assert tracer != "lighttrace" or logged == "nothing is logged", running.said
        return f"{said}; {logged}"

    seen = compare(try_one)
    assert seen["lighttrace"] == "all 2 spans arrived, each once; nothing is logged"
    record(5, f"a client hangs up in the middle of a stream, {what}", seen["lighttrace"], seen["opentelemetry"])
