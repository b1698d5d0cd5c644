"""A traced request leaves nothing behind that only the garbage collector would find: what it held goes as the request goes."""

from pathlib import Path

import pytest

from tests.faults.backend import Backend
from tests.faults.conftest import Record
from tests.faults.running import compare, run

REQUESTS = 100

COUNT = """
import gc, os, socket, sys, threading
from opentelemetry import trace
if os.environ.get("UNTRACED"):
    import lighttrace
    lighttrace.shutdown()

def ask(port, times):
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET /users/7?page=1 HTTP/1.1\\r\\nHost: shop\\r\\nConnection: close\\r\\n\\r\\n")
            answer = b""
            while more := connection.recv(65536):
                answer += more
            assert b" 200 " in answer.partition(b"\\r\\n")[0], answer

def count(port):
    ask(port, 20)  # what is made once has been made
    gc.collect()
    gc.disable()
    ask(port, int(sys.argv[1]))
    print(gc.collect(), flush=True)
    os._exit(0)
"""

UVICORN = (
    COUNT
    + """
import uvicorn
from fastapi import FastAPI
app = FastAPI()

@app.get("/users/{number}")
async def user(number: int):
    return {"number": number}

server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
started = threading.Event()
loop = threading.Thread(target=server.run, daemon=True)
startup = server.startup
async def telling(*args, **kwargs):
    await startup(*args, **kwargs)
    started.set()
server.startup = telling
loop.start()
started.wait(30)
count(server.servers[0].sockets[0].getsockname()[1])
"""
)

WERKZEUG = (
    COUNT
    + """
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server
app = Flask("shop")

@app.get("/users/<int:number>")
def user(number):
    return {"number": number}

class Handler(WSGIRequestHandler):
    def log(self, *args):
        pass

server = make_server("127.0.0.1", 0, app, request_handler=Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
count(server.server_port)
"""
)


@pytest.mark.parametrize("program", [UVICORN, WERKZEUG], ids=["FastAPI on uvicorn", "Flask on werkzeug's server"])
def test_requests_leave_no_garbage(program: str, tmp_path: Path, record: Record, request: pytest.FixtureRequest) -> None:
    script = tmp_path / "program.py"
    script.write_text(program)

    def collected(tracer: str, **variables: str) -> float:
        with Backend() as backend:
            ended = run(tracer, script, backend, str(REQUESTS), OTEL_BSP_SCHEDULE_DELAY="60000", **variables)
        assert ended.code == 0, ended
        return float(ended.out) / REQUESTS

    untraced = collected("lighttrace", UNTRACED="1")
    seen = compare(lambda tracer: f"{max(0.0, collected(tracer) - untraced):.0f} objects more")
    assert seen["lighttrace"] == "0 objects more", seen
    where = request.node.callspec.id
    record(
        8,
        f"{REQUESTS} requests to {where}: what is left to the garbage collector of each",
        seen["lighttrace"],
        seen["opentelemetry"],
    )
