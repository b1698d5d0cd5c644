"""The same program under LightTrace and under opentelemetry's SDK, each started as its documentation says.

Programs make their spans through opentelemetry-api alone, so that nothing but the tracer differs.
"""

import http.client
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import lighttrace
from lighttrace.backend.receiver import Receiver
from tests.faults.backend import Backend
from tests.processes import Server
from tests.servers import free_port, unavailable

PACKAGE_ROOT = Path(lighttrace.__file__).resolve().parent.parent
DEADLINE_S = 40.0
PYTHON = sys.executable
TRACERS = ("lighttrace", "opentelemetry")
both_tracers = pytest.mark.parametrize("tracer", TRACERS)


def launcher(tracer: str) -> list[str]:
    """What goes before a command so that the program is traced without a change."""
    if tracer == "lighttrace":
        return [PYTHON, "-m", "lighttrace", "run", "--service", "program", "--"]
    if tracer == "opentelemetry":
        return [tool("opentelemetry-instrument"), "--service_name", "program"]
    return []


def tool(name: str) -> str:
    """A program that was installed beside this Python; the test is skipped, or fails where nothing may be skipped, without it."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        unavailable(name, "it is not installed")
    return found


def needs(module: str) -> None:
    """Skip, or fail where nothing may be skipped, without a library that the test's programs import."""
    if importlib.util.find_spec(module) is None:
        unavailable(module, "it is not installed")


def environ(backend: Backend | Receiver, **variables: str) -> dict[str, str]:
    """Traces to that backend, over HTTP, and nothing else."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LIGHTTRACE_", "OTEL_", "_LIGHTTRACE_"))}
    if PACKAGE_ROOT.name not in ("site-packages", "dist-packages"):
        kept["PYTHONPATH"] = str(PACKAGE_ROOT)
    return kept | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "PYTHONUNBUFFERED": "1",
        **variables,
    }


def compare(try_one: Callable[[str], str]) -> dict[str, str]:
    """What `try_one(tracer)` says of each tracer; they are tried at the same time, because most of that is waiting."""
    with ThreadPoolExecutor(len(TRACERS)) as pool:
        return dict(zip(TRACERS, pool.map(try_one, TRACERS), strict=True))


class Ended(NamedTuple):
    """How a program went."""

    code: int
    out: str
    err: str
    took_s: float  # from the moment that `stop` was called, or from its start


def run(
    tracer: str,
    script: Path,
    backend: Backend | Receiver,
    *arguments: str,
    stop: "Callable[[subprocess.Popen[str]], object] | None" = None,
    search: str = "",
    **variables: str,
) -> Ended:
    """Run a program to its end. `stop` is called once it has printed its first line; `search` goes in front of PYTHONPATH."""
    settings = environ(backend, **variables)
    if search:
        settings["PYTHONPATH"] = os.pathsep.join(filter(None, [search, settings.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [*launcher(tracer), PYTHON, str(script), *arguments],
        cwd=script.parent, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    begun = time.monotonic()
    first = ""
    try:
        if stop is not None:
            assert process.stdout is not None
            first = process.stdout.readline()
            begun = time.monotonic()
            stop(process)
        out, err = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"{script.name} under {tracer} did not end: {out} {err}")
    return Ended(process.returncode, first + out, err, time.monotonic() - begun)


@contextmanager
def serving(
    tracer: str, directory: Path, backend: Backend, *command: str, ready: str = "", workers: int = 1, **variables: str
) -> Iterator[tuple[Server, int]]:
    """A server, with {port} replaced in its command, once it listens and all its `workers` said what matches `ready`.

    It is told to end by SIGTERM and must do so.
    """
    port = free_port()
    words = [*launcher(tracer), *(word.format(port=port) for word in command)]
    with Server(words, directory / f"{tracer}.log", cwd=directory, env=environ(backend, **variables)) as server:
        server.listens(port, DEADLINE_S)
        assert not ready or server.says(ready, DEADLINE_S, workers), server.said
        yield server, port


def get(port: int, path: str, timeout: float = DEADLINE_S) -> str:
    """The body of one answer, over a connection of its own. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        assert response.status == 200, body
        return body
    finally:
        connection.close()


def each_once(backend: Backend, names: Iterable[str], timeout: float = 10.0) -> str:
    """What arrived of the spans of these names, in words; those of others do not matter."""
    expected = Counter(names)
    backend.wait_for(lambda: not expected - backend.names(), timeout)
    there = backend.names()
    most = max(backend.arrived.values(), default=0)
    seen = Counter({name: there[name] for name in expected})
    number = expected.total()
    if seen == expected and most <= 1:
        return f"all {number} spans arrived, each once"
    lost = (expected - seen).total()
    again = (seen - expected).total()
    if lost and again:
        return f"{lost} of {number} spans were lost, {again} arrived again"
    if lost:
        return f"{lost} of {number} spans were lost" if lost < number else f"all {number} spans were lost"
    return f"{max(again, 1)} of {number} spans arrived again"


def is_complete(words: str) -> bool:
    """Whether `each_once` found nothing wrong."""
    return words.endswith("each once")
