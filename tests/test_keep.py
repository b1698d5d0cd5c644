"""Keep decisions as a user has them: settings, a program, and what a backend gets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import lighttrace
from lighttrace.backend import Receiver
from lighttrace.semconv import KEEP_REASON

ROOT = str(Path(lighttrace.__file__).resolve().parent.parent)
PROGRAM = """
import contextvars, json, os, sqlite3
import lighttrace
lighttrace.init(service="shop")
from flask import Flask
from lighttrace import runtime
app = Flask("shop")

@app.route("/fine/<number>")
def fine(number):
    sqlite3.connect(":memory:").execute("select 1").fetchall()
    return "fine"

@app.route("/broken/<number>")
def broken(number):
    sqlite3.connect(":memory:").execute("select 1").fetchall()
    raise ValueError(number)

client = app.test_client()
for number in range(20):
    client.get(f"/fine/{number}").close()
    client.get(f"/broken/{number}").close()
child = os.fork()
if not child:
    client.get("/broken/child").close()
    lighttrace.shutdown()
    os._exit(0)
os.waitpid(child, 0)
assert lighttrace.flush(5)
assert not runtime.active().busy()
job = lighttrace.span("job").__enter__()
with lighttrace.span("step"):
    pass
elsewhere = contextvars.Context()  # not where the job is open
print(json.dumps({"stats": runtime.active().stats(), "busy": elsewhere.run(runtime.active().busy)}))
"""


def test_program_sends_what_it_is_told_to_keep(tmp_path: Path) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("LIGHTTRACE_", "OTEL_", "_LIGHTTRACE_"))}
    (tmp_path / "lighttrace.toml").write_text('[[keep]]\nroute = "/fine/*"\nper_second = 0.001\n')
    with Receiver() as receiver:
        environ.update(
            PYTHONPATH=ROOT, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            LIGHTTRACE_KEEP_RATIO="0", TMPDIR=str(tmp_path),
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
        traces = list(receiver.traces().values())
    said = json.loads(done.stdout)
    # The failed requests and the first that went well; of the others both spans are let go.
    assert said["stats"] == {"exported": 42, "dropped": {"not_kept_rate": 38}, "queued": 1}
    assert said["busy"], "what waits would be lost if the process ended now"
    # One of the child's, and nothing of what was not decided on: neither failed nor slow when the program ended.
    reasons = sorted([span.attributes[KEEP_REASON] for span in trace if KEEP_REASON in span.attributes] for trace in traces)
    assert reasons == [["error"]] * 21 + [["rate"]]
    assert {len(trace) for trace in traces} == {2}, "all of them whole"
    assert "dropped" not in done.stderr, "what was let go was not lost"
