"""Row 5: generators that are closed elsewhere. All the ways to step, leave and collect them are in tests/tracing/test_generators.py."""

from pathlib import Path

import pytest

from tests.faults.backend import Backend
from tests.faults.conftest import Record
from tests.faults.running import TRACERS, each_once, is_complete, run

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
