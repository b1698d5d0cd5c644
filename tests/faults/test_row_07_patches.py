"""Row 7: what a patch must not change. The kits in lighttrace/testing hold every integration to it; here are some of it, side by side."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.backend import Backend
from tests.faults.conftest import Record
from tests.faults.running import compare, run

# What each says untraced is what it must say traced.
CHECKS = {
    "Connection.backup of sqlite3 into another connection": """
import sqlite3
one, other = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
one.execute("CREATE TABLE t (a)")
one.backup(other)
said = other.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
""",
    "a statement that is only a comment": """
import sqlite3
said = sqlite3.connect(":memory:").cursor().execute("/* nothing */").fetchall()
""",
    "what a connection of sqlite3 is": """
import sqlite3
connection = sqlite3.connect(":memory:")
said = [type(connection).__name__, isinstance(connection, sqlite3.Connection), type(connection.cursor()).__module__]
""",
    "a connection of a class of one's own": """
import sqlite3
class Mine(sqlite3.Connection):
    pass
said = type(sqlite3.connect(":memory:", factory=Mine)).__name__
""",
    "the signatures of what is patched": """
import inspect, requests, sqlite3, httpx
said = [list(inspect.signature(function).parameters) for function in (
    requests.Session.send, requests.adapters.HTTPAdapter.send, httpx.Client.send, httpx.HTTPTransport.handle_request)]
""",
    "a session that is pickled and copied": """
import copy, pickle, requests
session = pickle.loads(pickle.dumps(copy.deepcopy(requests.Session())))
said = [type(session).__name__, sorted(session.adapters)]
""",
    "a patched function that is pickled": """
import pickle, requests
said = pickle.loads(pickle.dumps(requests.Session.send)) is requests.Session.send
""",
    "a subclass that calls what is patched by super()": """
import requests
class Mine(requests.Session):
    def send(self, request, **options):
        return super().send(request, **options)
try:
    Mine().get("http://127.0.0.1:9/", timeout=1)
except requests.ConnectionError as error:
    said = type(error).__name__
""",
    "an exception and its cause": """
import httpx
try:
    httpx.get("http://127.0.0.1:9/")
except httpx.ConnectError as error:
    said = [type(error).__name__, type(error.__cause__).__name__, hasattr(error, "request")]
""",
}
PROGRAM = """
import json, sys
space = {}
try:
    exec(sys.argv[1], space)
    said = space["said"]
except Exception as error:
    said = f"it fails: {type(error).__name__}: {error}"
print(json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", CHECKS)
def test_a_program_says_the_same_traced_and_untraced(what: str, tmp_path: Path, record: Record) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)

    def said(tracer: str) -> Any:
        with Backend() as backend:
            ended = run(tracer, script, backend, CHECKS[what])
        assert ended.code == 0, ended.err
        return json.loads(ended.out)

    untraced = said("none")
    assert "it fails" not in str(untraced), untraced

    def compared(tracer: str) -> str:
        traced = said(tracer)
        if traced == untraced:
            return "as without it"
        return traced if str(traced).startswith("it fails") else f"not as without it: {traced}"

    seen = compare(compared)
    assert seen["lighttrace"] == "as without it", untraced
    record(7, what, seen["lighttrace"], seen["opentelemetry"])
