"""Row 1: in forked and spawned processes every span arrives exactly once, and nobody hangs."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.backend import Backend
from tests.faults.conftest import Record
from tests.faults.running import (
    DEADLINE_S,
    PYTHON,
    TRACERS,
    compare,
    each_once,
    environ,
    get,
    is_complete,
    launcher,
    needs,
    run,
    serving,
    tool,
)
from tests.processes import GUNICORN_CONFIG, READY, Server
from tests.servers import free_port

WSGI = """
import os
from opentelemetry import trace
tracer = trace.get_tracer("program")
with tracer.start_as_current_span(f"loaded {os.getpid()}"):
    pass

def app(environ, start_response):
    with tracer.start_as_current_span(environ["PATH_INFO"]):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""
SERVERS = {
    "gunicorn": ("-k", "sync"),
    "gunicorn --preload": ("-k", "sync", "--preload"),
    "gunicorn -k gthread": ("-k", "gthread", "--threads", "2"),
    "gunicorn -k gthread --preload": ("-k", "gthread", "--threads", "2", "--preload"),
}
REQUESTS = 12


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_workers_of_gunicorn_lose_and_repeat_nothing(server: str, tmp_path: Path, record: Record) -> None:
    needs("gunicorn")
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN_CONFIG)
    command = (PYTHON, "-m", "gunicorn", "-w", "2", "-b", "127.0.0.1:{port}", *SERVERS[server], "app:app")
    _served(server, command, tmp_path, record)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["uwsgi", "uwsgi --lazy-apps"])
def test_workers_of_uwsgi_lose_and_repeat_nothing(server: str, tmp_path: Path, record: Record) -> None:
    command = (
        tool("uwsgi"), "--http-socket", "127.0.0.1:{port}", "--master", "--processes", "2", "--enable-threads", "--die-on-term",
        "--need-app", "--module", "app:app", "--virtualenv", str(Path(PYTHON).parent.parent), *server.split()[1:],
    )  # fmt: skip
    _served(server, command, tmp_path, record)


def _served(server: str, command: tuple[str, ...], directory: Path, record: Record) -> None:
    (directory / "app.py").write_text(WSGI)
    name = server if server in READY else server.split(maxsplit=1)[0]

    def try_one(tracer: str) -> str:
        with Backend() as backend:
            with serving(tracer, directory, backend, *command, ready=READY[name], workers=2, OTEL_BSP_SCHEDULE_DELAY="500") as (
                _,
                port,
            ):
                for number in range(REQUESTS):
                    get(port, f"/{number}")
                if tracer == "lighttrace":  # whoever loaded it need not be one that is told of its end
                    assert backend.wait_for(lambda: any(name.startswith("loaded") for name in backend.names()))
            said = each_once(backend, [f"/{number}" for number in range(REQUESTS)], 1.0)
            if tracer == "lighttrace":
                loaded = [name for name in backend.names() if name.startswith("loaded")]
                assert len(loaded) in (1, 2), loaded
        return said

    seen = compare(try_one)
    assert is_complete(seen["lighttrace"]), (seen, (directory / "lighttrace.log").read_text())
    record(1, f"{server}, two workers, stopped by SIGTERM after {REQUESTS} requests", seen["lighttrace"], seen["opentelemetry"])


# -- multiprocessing and os.fork ------------------------------------------------------------------------------------

MULTIPROCESSING = """
import multiprocessing, os, sys, time
from opentelemetry import trace
tracer = trace.get_tracer("program")

def work(number):
    with tracer.start_as_current_span(f"work {number}"):
        with tracer.start_as_current_span(f"inner {number}"):
            pass

if __name__ == "__main__":
    way = multiprocessing.get_context(sys.argv[1])
    with tracer.start_as_current_span("before"):
        pass
    with tracer.start_as_current_span("around"):
        children = [way.Process(target=work, args=(number,)) for number in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
    assert [child.exitcode for child in children] == [0, 0]
    with way.Pool(2) as pool:
        pool.map(work, range(2, 6))
        pool.close()
        pool.join()
"""
MULTIPROCESSING_NAMES = ["before", "around", *(f"{name} {number}" for name in ("work", "inner") for number in range(6))]

FORKS = """
import logging, os, sys, threading
logging.basicConfig()
from opentelemetry import trace
tracer = trace.get_tracer("program")

def span(name):
    with tracer.start_as_current_span(name):
        pass

def fork(child):
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return
    child()
    sys.exit(0)

def generation(depth):
    span(f"generation {depth}")
    if depth < 3:
        fork(lambda: generation(depth + 1))
"""
INSIDE_A_SPAN = """
with tracer.start_as_current_span("outer"):
    with tracer.start_as_current_span("inner"):
        fork(lambda: span("child"))
"""
LOCKED_LOG = """
locked, over = threading.Event(), threading.Event()

def hold():
    with logging.root.handlers[0].lock:
        locked.set()
        over.wait()

holder = threading.Thread(target=hold)
holder.start()
locked.wait()
span("parent")
fork(lambda: span("child"))
over.set()
"""
BY_EXIT = """
def child():
    span("child")
    os._exit(0)

span("parent")
fork(child)
"""
DAEMON = """
span("parent")
if os.fork():
    os._exit(0)
span("child")
"""
FORK_WAYS = {
    "a fork of a fork of a fork": ("generation(0)", [f"generation {depth}" for depth in range(4)]),
    "a fork inside a span, which its `with` ends in both processes": (INSIDE_A_SPAN, ["outer", "inner", "child"]),
    "a fork while another thread holds the lock of a log handler": (LOCKED_LOG, ["parent", "child"]),
    "children that end by os._exit": (BY_EXIT, ["parent", "child"]),
    "a parent that leaves its child behind, as daemons do": (DAEMON, ["parent", "child"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_lose_and_repeat_nothing(method: str, tmp_path: Path, record: Record) -> None:
    script = tmp_path / "program.py"
    script.write_text(MULTIPROCESSING)

    def try_one(tracer: str) -> str:
        with Backend() as backend:
            ended = run(tracer, script, backend, method)
            assert ended.code == 0, ended.err
            return each_once(backend, MULTIPROCESSING_NAMES, 1.0)

    seen = compare(try_one)
    assert is_complete(seen["lighttrace"]), seen
    record(1, f"multiprocessing, {method}: processes and a pool", seen["lighttrace"], seen["opentelemetry"])


@pytest.mark.slow
@pytest.mark.parametrize("way", FORK_WAYS)
def test_forks_lose_and_repeat_nothing(way: str, tmp_path: Path, record: Record) -> None:
    program, names = FORK_WAYS[way]
    script = tmp_path / "program.py"
    script.write_text(f"{FORKS}\n{program}")

    def try_one(tracer: str) -> str:
        with Backend() as backend:
            ended = run(tracer, script, backend)
            assert ended.code == 0, ended.err
            return each_once(backend, names, 1.5)

    seen = compare(try_one)
    assert is_complete(seen["lighttrace"]), seen
    record(1, way, seen["lighttrace"], seen["opentelemetry"])


# -- celery ---------------------------------------------------------------------------------------------------------

CELERY = """
import os
from celery import Celery
from opentelemetry import trace
tracer = trace.get_tracer("program")
app = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True, task_ignore_result=False)

@app.task
def work(number):
    with tracer.start_as_current_span(f"task {number}"):
        return os.getpid()
"""
ASK = """
import tasks
results = [tasks.work.delay(number) for number in range(9)]
print(len({result.get(timeout=60) for result in results}))
"""


@contextmanager
def redis(directory: Path) -> Iterator[str]:
    """A broker of its own, as a URL without a database."""
    program = shutil.which("redis-server") or tool("redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    with Server(command, directory / "redis.log", cwd=directory, env=os.environ) as server:
        assert server.says("Ready to accept connections", DEADLINE_S), server.said
        yield f"redis://127.0.0.1:{port}"


@pytest.mark.slow
def test_celery_loses_nothing_though_its_children_live_for_two_tasks_each(tmp_path: Path, record: Record) -> None:
    needs("celery")
    needs("redis")
    (tmp_path / "tasks.py").write_text(CELERY)
    worker = ["-m", "celery", "-A", "tasks", "worker", "--concurrency=2", "--max-tasks-per-child=2", "--loglevel=WARNING"]
    with redis(tmp_path) as broker:

        def try_one(tracer: str) -> str:
            with Backend() as backend, (tmp_path / f"{tracer}.log").open("wb") as log:
                variables = environ(backend, BROKER=f"{broker}/{TRACERS.index(tracer)}")
                process = subprocess.Popen(
                    [*launcher(tracer), PYTHON, *worker],
                    cwd=tmp_path,
                    env=variables,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                try:
                    asked = subprocess.run(
                        [PYTHON, "-c", ASK], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=2 * DEADLINE_S
                    )
                    assert int(asked.stdout or 0) > 2, asked.stderr  # children were replaced
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(DEADLINE_S) == 0
                finally:
                    if process.poll() is None:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
                return each_once(backend, [f"task {number}" for number in range(9)], 1.0)

        seen = compare(try_one)
    assert is_complete(seen["lighttrace"]), (seen, (tmp_path / "lighttrace.log").read_text())
    record(1, "celery, prefork, two tasks per child, stopped by SIGTERM", seen["lighttrace"], seen["opentelemetry"])
