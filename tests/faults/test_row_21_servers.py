"""Row 21: every process of servers that spawn and reload is traced, and what it made arrives.

That such servers start, stop and reload as they would without us is in tests/cli/test_run_servers.py.
"""

from pathlib import Path

import pytest

from tests.faults.backend import Backend
from tests.faults.conftest import Record
from tests.faults.running import PYTHON, TRACERS, each_once, get, is_complete, needs, run, serving, tool
from tests.processes import READY, reload

ASGI = """
import os
from opentelemetry import trace
tracer = trace.get_tracer("program")

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    with tracer.start_as_current_span(scope["path"]):
        await send({"type": "http.response.start", "status": 200, "headers": [[b"content-type", b"text/plain"]]})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
UVICORN = "python -m uvicorn --port {port} --lifespan off"
SERVERS = {
    "uvicorn": f"{UVICORN} app:app",
    "uvicorn --workers 2": f"{UVICORN} --workers 2 app:app",
    "uvicorn --reload": f"{UVICORN} --reload app:app",
    "hypercorn --workers 2": "python -m hypercorn --workers 2 --bind 127.0.0.1:{port} app:app",
    "granian": "granian --interface asginl --workers 1 --host 127.0.0.1 --port {port} app:app",
}
REQUESTS = 8


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_what_the_processes_of_a_server_made_arrives(server: str, tmp_path: Path, record: Record) -> None:
    needs(server.split(maxsplit=1)[0])
    application = tmp_path / "app.py"
    program, *words = SERVERS[server].split()
    command = (PYTHON if program == "python" else tool(program), *words)
    ready, workers = READY.get(server.split(maxsplit=1)[0], ""), 2 if "--workers 2" in server else 1
    names = [f"/{number}" for number in range(REQUESTS)]
    seen = {}
    for tracer in TRACERS:
        application.write_text(ASGI)
        with Backend() as backend:
            with serving(tracer, tmp_path, backend, *command, ready=ready, workers=workers) as (running, port):
                for name in names[:4]:
                    first = get(port, name)
                if "--reload" in server:
                    reload(running, application, ASGI)
                    assert get(port, "/asked-after-it-reloaded") != first
                for name in names[4:]:
                    get(port, name)
            seen[tracer] = each_once(backend, names, 1.0)
    assert is_complete(seen["lighttrace"]), (seen, (tmp_path / "lighttrace.log").read_text())
    record(21, f"{server}, stopped by SIGTERM", seen["lighttrace"], seen["opentelemetry"])


@pytest.mark.slow
def test_a_sitecustomize_that_was_there_before_still_runs(tmp_path: Path, record: Record) -> None:
    (tmp_path / "sitecustomize.py").write_text("import builtins\nbuiltins.was_here = True\n")
    script = tmp_path / "program.py"
    script.write_text(
        "from opentelemetry import trace\n"
        "with trace.get_tracer('program').start_as_current_span('span'):\n    pass\n"
        "import builtins\nprint('ran' if hasattr(builtins, 'was_here') else 'did not run')\n"
    )
    seen = {}
    for tracer in TRACERS:
        with Backend() as backend:
            ended = run(tracer, script, backend, search=str(tmp_path))
            assert is_complete(each_once(backend, ["span"])), ended.err
            seen[tracer] = f"it {ended.out.strip()}"
    assert seen["lighttrace"] == "it ran"
    record(21, "the environment has a sitecustomize of its own", seen["lighttrace"], seen["opentelemetry"])
