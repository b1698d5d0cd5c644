"""Row 2: under gevent and eventlet nothing of ours stops the other greenlets, whenever they patch and whatever the backend does."""

import time
from pathlib import Path

import pytest

from tests.faults.backend import HANG, Backend
from tests.faults.conftest import Record
from tests.faults.running import PYTHON, compare, each_once, get, is_complete, needs, run, serving
from tests.processes import GUNICORN_CONFIG, READY

WSGI = """
import os
import gevent
from opentelemetry import trace
tracer = trace.get_tracer("program")

def app(environ, start_response):
    with tracer.start_as_current_span(environ["PATH_INFO"]):
        gevent.sleep(0.01)
        with tracer.start_as_current_span(f"below {environ['PATH_INFO']}"):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(os.getpid()).encode()]
"""
REQUESTS = 8


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", "--preload"])
def test_workers_of_gunicorn_on_gevent_lose_and_repeat_nothing(options: str, tmp_path: Path, record: Record) -> None:
    needs("gevent")
    (tmp_path / "app.py").write_text(WSGI)
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN_CONFIG)
    command = (PYTHON, "-m", "gunicorn", "-k", "gevent", "-w", "2", "-b", "127.0.0.1:{port}", *options.split(), "app:app")
    names = [f"{prefix}/{number}" for number in range(REQUESTS) for prefix in ("", "below ")]

    def try_one(tracer: str) -> str:
        with Backend() as backend:
            with serving(tracer, tmp_path, backend, *command, ready=READY["gunicorn"], workers=2) as (_, port):
                for number in range(REQUESTS):
                    get(port, f"/{number}")
            said = each_once(backend, names, 1.0)
            log = (tmp_path / f"{tracer}.log").read_text()
            assert tracer != "lighttrace" or ("MonkeyPatchWarning" not in log and "Traceback" not in log), log
        return said

    seen = compare(try_one)
    assert is_complete(seen["lighttrace"]), (seen, (tmp_path / "lighttrace.log").read_text())
    record(2, f"gunicorn -k gevent {options}".strip() + ", stopped by SIGTERM", seen["lighttrace"], seen["opentelemetry"])


@pytest.mark.slow
def test_gunicorn_on_gevent_answers_while_the_backend_hangs(tmp_path: Path, record: Record) -> None:
    needs("gevent")
    (tmp_path / "app.py").write_text(WSGI)
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN_CONFIG)
    command = (PYTHON, "-m", "gunicorn", "-k", "gevent", "-w", "1", "-b", "127.0.0.1:{port}", "app:app")

    def try_one(tracer: str) -> str:
        variables = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_EXPORTER_OTLP_TIMEOUT": "2000", "LIGHTTRACE_EXIT_TIMEOUT": "1"}
        with (
            Backend(HANG) as backend,
            serving(tracer, tmp_path, backend, *command, ready=READY["gunicorn"], **variables) as (_, port),
        ):
            get(port, "/first")
            assert backend.wait_for(lambda: backend.requests)
            longest = 0.0
            for number in range(20):
                began = time.monotonic()
                get(port, f"/{number}")
                longest = max(longest, time.monotonic() - began)
            assert len(backend.requests) < 5  # the first was never answered
        return "requests are answered all the time" if longest < 1.5 else "requests wait for the backend"

    seen = compare(try_one)
    assert seen["lighttrace"] == "requests are answered all the time"
    record(2, "gunicorn -k gevent, the backend hangs", seen["lighttrace"], seen["opentelemetry"])


# A greenlet that looks at the clock all the time tells for how long nobody let it.
PROGRAM = """
import sys, time
library, when = sys.argv[1:]

def span(name):
    with tracer.start_as_current_span(name):
        pass

def patch():
    if library == "gevent":
        from gevent import monkey
        monkey.patch_all()
    else:
        import eventlet
        eventlet.monkey_patch()

if when == "first":
    patch()
from opentelemetry import trace
tracer = trace.get_tracer("program")
if when == "after the first span":
    span("early")
    time.sleep(0.1)
if when != "first":
    patch()

if library == "gevent":
    from gevent import joinall, sleep, spawn
else:
    from eventlet import sleep, spawn
    def joinall(greenlets):
        for greenlet in greenlets:
            greenlet.wait()
longest = 0.0
over = False

def look():
    global longest
    last = time.perf_counter()
    while not over:
        sleep(0.005)
        now = time.perf_counter()
        longest = max(longest, now - last)
        last = now

def work(which):
    for number in range(60):
        span(f"{which} {number}")
        sleep(0.01)

looking = spawn(look)
joinall([spawn(work, which) for which in range(3)])
over = True
joinall([looking])
print(longest)
"""


@pytest.mark.slow
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
@pytest.mark.parametrize("when", ["first", "before the first span", "after the first span"])
@pytest.mark.parametrize("hangs", [False, True], ids=["works", "hangs"])
def test_other_greenlets_go_on(library: str, when: str, hangs: bool, tmp_path: Path, record: Record) -> None:
    needs(library)
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    names = [f"{which} {number}" for which in range(3) for number in range(60)]

    def try_one(tracer: str) -> str:
        with Backend(HANG) if hangs else Backend() as backend:
            ended = run(
                tracer,
                script,
                backend,
                library,
                when,
                OTEL_BSP_SCHEDULE_DELAY="200",
                OTEL_EXPORTER_OTLP_TIMEOUT="2000",
                LIGHTTRACE_EXIT_TIMEOUT="1",
            )
            words = [] if hangs else [each_once(backend, names, 1.0)]
            try:
                longest = float(ended.out)  # whoever waits for the backend waits for 2 s; a busy machine may take a while, too
                words.append("other greenlets went on" if longest < 1.0 else "all greenlets stood still")
            except ValueError:
                words = ["the program did not come to its end"]
            said = "; ".join(words)
            assert tracer != "lighttrace" or (ended.code == 0 and "other greenlets went on" in words), (ended, words)
        return said

    seen = compare(try_one)
    assert hangs or "each once" in seen["lighttrace"], seen
    backend_is = "the backend hangs" if hangs else "the backend works"
    record(2, f"{library} patches {when}, {backend_is}", seen["lighttrace"], seen["opentelemetry"])
