"""Row 4: whatever is patched and wherever logs go, the exporter's own calls and log lines make no spans."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.backend import Backend, status
from tests.faults.conftest import Record
from tests.faults.running import TRACERS, run

PROGRAM = """
import logging, sys, time
import requests
from opentelemetry import trace

class Posting(logging.Handler):
    def emit(self, record):
        if not record.name.startswith("urllib3"):
            requests.post(sys.argv[1], data=record.getMessage())

logging.root.addHandler(Posting())
logging.root.setLevel(logging.DEBUG)
tracer = trace.get_tracer("program")
for number in range(30):
    with tracer.start_as_current_span("span"):
        time.sleep(0.05)
"""


class _Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.server.lines.append(self.rfile.read(int(self.headers["Content-Length"])).decode())  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def sink() -> Iterator[http.server.ThreadingHTTPServer]:
    """Where the program's log goes."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    server.lines = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_the_exporter_makes_no_spans_of_its_own(tmp_path: Path, sink: http.server.ThreadingHTTPServer, record: Record) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    seen = {}
    for tracer in TRACERS:
        with Backend() as backend:
            backend.script(status(503), status(503))
            ended = run(tracer, script, backend, f"http://127.0.0.1:{sink.server_port}/", OTEL_BSP_SCHEDULE_DELAY="200")
            assert ended.code == 0, ended.err
            names = dict(backend.names())
            assert names.pop("span") == 30
            told = sum("deliver" in line or "export" in line.lower() for line in sink.lines)  # type: ignore[attr-defined]
            seen[tracer] = "no span but the program's" if not names else "the exporter's own calls became spans"
            assert tracer != "lighttrace" or (not names and told >= 1), (names, sink.lines)  # type: ignore[attr-defined]
    record(
        4,
        "a root log handler that posts over HTTP, and a backend that is down for a while",
        seen["lighttrace"],
        seen["opentelemetry"],
    )
