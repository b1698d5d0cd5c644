"""Rows 16 to 20 once more, smaller and beside opentelemetry's SDK with contrib's patches: the same program under both tracers.

What holds for LightTrace in full is in the files of these rows.
"""

import http.client
import json
import random
import re
import signal
from pathlib import Path

import pytest

from lighttrace.testing.peer import Peer
from lighttrace.testing.servers import LONGEST_HEAD, Site
from tests.faults.backend import Backend
from tests.faults.conftest import Record
from tests.faults.listening import Listening
from tests.faults.running import DEADLINE_S, PYTHON, TRACERS, compare, launcher, needs, run, serving
from tests.faults.test_row_19_signed_requests import signature, verify
from tests.faults.test_row_20_lying_callers import LIES, PARENT, ask
from tests.processes import READY

pytestmark = pytest.mark.slow

SERVICE = """
from fastapi import FastAPI
app = FastAPI()

@app.get("/")
def home():
    return "ok"

@app.get("/orders/{number}")
def order(number: str):
    return number

@app.get("/health")
def health():
    return "ok"
"""
UVICORN = (PYTHON, "-m", "uvicorn", "--port", "{port}", "--no-access-log", "app:app")
# Each in its own words.
WITHOUT_HEALTH = {"LIGHTTRACE_EXCLUDE": "/health*", "OTEL_PYTHON_EXCLUDED_URLS": "/health"}


def asked(tracer: str, directory: Path, backend: Backend, paths: list[str], **variables: str) -> None:
    """Ask the service for each path, over one connection, and end it by SIGINT, at which both send what they have."""
    (directory / "app.py").write_text(SERVICE)
    needs("uvicorn")
    with serving(tracer, directory, backend, *UVICORN, ready=READY["uvicorn"], **variables) as (server, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for path in paths:
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()
        server.process.send_signal(signal.SIGINT)
        server.process.wait(DEADLINE_S)


def test_random_paths_give_few_names(tmp_path: Path, record: Record) -> None:
    chance = random.Random(16)
    paths = [f"/{chance.choice(['orders/', '', 'wp-admin/'])}{chance.getrandbits(64):x}" for _ in range(300)]

    def try_one(tracer: str) -> str:
        with Backend() as backend:
            asked(tracer, tmp_path, backend, paths)
            assert sum(backend.arrived.values()) >= len(paths)
            return f"{len(backend.names())} names"

    seen = compare(try_one)
    assert seen["lighttrace"] == "2 names"
    record(16, "a FastAPI service is asked for 300 random paths, most of them 404s", seen["lighttrace"], seen["opentelemetry"])


def test_requests_are_one_span_each_and_health_checks_none(tmp_path: Path, record: Record) -> None:
    paths = ["/health"] * 20 + [f"/orders/{number}" for number in range(5)]

    def try_one(tracer: str) -> str:
        with Backend() as backend:
            asked(tracer, tmp_path, backend, paths, **WITHOUT_HEALTH)
            return f"{sum(backend.arrived.values())} spans"

    seen = compare(try_one)
    assert seen["lighttrace"] == "5 spans"
    record(17, "five requests to a FastAPI service, and twenty health checks that are excluded", seen["lighttrace"], seen["opentelemetry"])  # fmt: skip


PLANTED = """
import contextlib, sqlite3, sys
import httpx, requests
from opentelemetry import trace
base = sys.argv[1]
with contextlib.suppress(Exception):
    requests.get(base + "/status/500?token=pl4nted-requests-query")
with contextlib.suppress(Exception):
    httpx.get(base + "/status/500?client_secret=pl4nted-httpx-query")
with contextlib.suppress(Exception):
    requests.get(base.replace("://", "://bob:pl4nted-userinfo@"))
with contextlib.suppress(Exception), contextlib.closing(sqlite3.connect(":memory:")) as connection:
    cursor = connection.cursor()  # contrib does not see a connection's own `execute`
    cursor.execute("CREATE TABLE people (name TEXT)")
    cursor.execute("INSERT INTO people VALUES ('pl4nted-literal')")
with contextlib.suppress(RuntimeError), trace.get_tracer("program").start_as_current_span("by hand"):
    raise RuntimeError("cannot log in: password=pl4nted-message")
"""


def test_secrets_stay_at_home(tmp_path: Path, record: Record) -> None:
    script = tmp_path / "program.py"
    script.write_text(PLANTED)

    def try_one(tracer: str) -> str:
        with Listening() as backend, Peer() as peer:
            ended = run(tracer, script, backend, peer.url)
            assert ended.code == 0, ended.err
            data = b"\n".join(backend.raw)
        assert b"by hand" in data and b"INSERT" in data  # else nothing would be shown by what is missing
        leaked = sorted({name.decode() for name in re.findall(rb"pl4nted-([a-z-]+)", data)})
        return f"{len(leaked)} of 5 were sent" + (f": {', '.join(leaked)}" if leaked else "")

    seen = compare(try_one)
    assert seen["lighttrace"] == "0 of 5 were sent"
    record(18, "a secret each in two queries, a URL's user, a statement and an exception's message", seen["lighttrace"], seen["opentelemetry"])  # fmt: skip


SENDING = """
import json, sys
library, url, headers = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
from opentelemetry import trace
with trace.get_tracer("program").start_as_current_span("upload"):
    if library == "requests":
        import requests
        requests.put(url, headers=headers, data=b"content", timeout=10)
    else:
        import httpx
        httpx.put(url, headers=headers, content=b"content")
"""


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_a_signature_over_trace_headers_stays_valid(library: str, tmp_path: Path, record: Record) -> None:
    script = tmp_path / "program.py"
    script.write_text(SENDING)

    def try_one(tracer: str) -> str:
        with Backend() as backend, Peer() as peer:
            url = f"{peer.url}/bucket/key"
            headers = signature("PUT", url, {"Content-Type": "text/plain", "traceparent": PARENT}, b"content")
            ended = run(tracer, script, backend, library, url, json.dumps(headers))
            assert ended.code == 0, ended.err
            (got,) = peer.take()
            try:
                verify(peer.url, got)
            except AssertionError:
                return "the signature is broken: a header that it covers was replaced"
            return "the signature is valid on arrival"

    seen = compare(try_one)
    assert seen["lighttrace"] == "the signature is valid on arrival"
    record(19, f"a request signed over its traceparent, through {library}", seen["lighttrace"], seen["opentelemetry"])


def test_lies_are_answered_as_without_a_tracer(tmp_path: Path, record: Record) -> None:
    (tmp_path / "app.py").write_text(SERVICE)
    lines = [line for several in LIES.values() for line in several]
    patient = (*UVICORN, "--h11-max-incomplete-event-size", str(LONGEST_HEAD))

    def answers(tracer: str) -> list[bytes]:
        with Backend() as backend, serving(tracer, tmp_path, backend, *patient, ready=READY["uvicorn"]) as (_, port):
            site = Site("127.0.0.1", port)
            return [ask(site, line) for line in lines]

    assert not launcher("none")
    expected = answers("none")
    assert sum(b" 200 " in status for status in expected) > 3
    seen = {tracer: "as without tracing" if answers(tracer) == expected else "not as without tracing" for tracer in TRACERS}
    assert seen["lighttrace"] == "as without tracing"
    record(20, "what callers that lie are answered by a FastAPI service under uvicorn", seen["lighttrace"], seen["opentelemetry"])
