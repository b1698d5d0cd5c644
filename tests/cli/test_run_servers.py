"""`lighttrace run` before real servers: every worker and every reloaded process is traced, and stops as it would without us."""

import http.client
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lighttrace
from tests.processes import GUNICORN_CONFIG, READY, Server, reload
from tests.servers import free_port

PACKAGE_ROOT = str(Path(lighttrace.__file__).resolve().parent.parent)
DEADLINE_S = 30

WSGI = """
import os
def app(environ, start_response):
    from lighttrace import runtime
    active = runtime.active()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {active.config.service if active else 'untraced'}".encode()]
"""
ASGI = """
import os
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    from lighttrace import runtime
    active = runtime.active()
    body = f"{os.getpid()} {active.config.service if active else 'untraced'}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


@contextmanager
def served(directory: Path, *command: str, workers: int = 1) -> Iterator[tuple[Server, int]]:
    """A module's server under `lighttrace run`, with {port} replaced, once it listens and has its workers."""
    port = free_port()
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("LIGHTTRACE_", "OTEL_", "_LIGHTTRACE_"))}
    environ.update(LIGHTTRACE_EXPORTER="none", PYTHONPATH=PACKAGE_ROOT)
    words = [word.format(port=port) for word in command]
    run = [sys.executable, "-m", "lighttrace", "run", "--service", "served", "--", sys.executable, *words]
    with Server(run, directory / "log", cwd=directory, env=environ) as server:
        server.listens(port, DEADLINE_S)
        assert server.says(READY[command[1]], DEADLINE_S, workers), server.said
        yield server, port


def ask(port: int) -> tuple[int, str]:
    """Which process answers, and what it is called."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", "/")
        pid, service = connection.getresponse().read().decode().split()
        return int(pid), service
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--preload",), ("-k", "gthread")], ids=["sync", "preload", "gthread"])
def test_workers_of_gunicorn_are_traced(tmp_path: Path, options: tuple[str, ...]) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "app.py").write_text(WSGI)
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN_CONFIG)
    with served(tmp_path, "-m", "gunicorn", "-w", "2", "-b", "127.0.0.1:{port}", *options, "app:app", workers=2) as (
        server,
        port,
    ):
        pid, service = ask(port)
        assert service == "served"
        assert pid != server.process.pid  # a worker, and not its master
        assert server.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--reload",)], ids=["one", "workers", "reload"])
def test_processes_of_uvicorn_are_traced(tmp_path: Path, options: tuple[str, ...]) -> None:
    pytest.importorskip("uvicorn")
    (tmp_path / "app.py").write_text(ASGI)
    workers = 2 if "--workers" in options else 1
    command = ("-m", "uvicorn", "--port", "{port}", "--lifespan", "off", *options, "app:app")
    with served(tmp_path, *command, workers=workers) as (server, port):
        pid, service = ask(port)
        assert service == "served"
        assert (pid == server.process.pid) == (not options)


@pytest.mark.slow
def test_process_that_uvicorn_reloads_is_traced(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    application = tmp_path / "app.py"
    application.write_text(ASGI)
    command = ("-m", "uvicorn", "--port", "{port}", "--lifespan", "off", "--reload", "app:app")
    with served(tmp_path, *command) as (server, port):
        before, _ = ask(port)
        reload(server, application, ASGI)
        pid, service = ask(port)
        assert pid != before
        assert service == "served"
