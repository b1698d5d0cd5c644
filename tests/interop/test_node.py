"""A service in Node, traced by OpenTelemetry's own SDK, called by a service of ours and calling another one: one trace, one verdict."""

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

import lighttrace
from lighttrace.analysis import SpanRecord, Verdict, verdict
from lighttrace.backend import Receiver
from tests.processes import Server
from tests.servers import free_port, unavailable

HERE = Path(__file__).resolve().parent / "node"
PACKAGE_ROOT = str(Path(lighttrace.__file__).resolve().parent.parent)
INSTALL_DEADLINE_S, START_DEADLINE_S, TRACE_DEADLINE_S = 80, 30, 15

pytestmark = [pytest.mark.slow]


class Services(NamedTuple):
    """Three services that are up, and the backend that they send to."""

    receiver: Receiver
    orders: int  # its port


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """The services' directory, with what npm installs from the lock file."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        unavailable("Node", "node or npm is not on PATH")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    if tuple(map(int, said.lstrip("v").split(".")[:2])) < (18, 19):
        unavailable("Node", f"{said} is older than the SDK's oldest, 18.19")
    with tempfile.TemporaryDirectory(prefix="lighttrace-node-") as temporary:
        directory = Path(temporary) / "services"
        shutil.copytree(HERE, directory, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S)
        except subprocess.TimeoutExpired:
            unavailable("OpenTelemetry's Node SDK", f"npm ci did not end within {INSTALL_DEADLINE_S} s")
        if done.returncode:
            unavailable("OpenTelemetry's Node SDK", f"npm ci ended with code {done.returncode}: {done.stderr[-2000:]}")
        yield directory


@pytest.fixture(scope="module")
def services(installed: Path) -> Iterator[Services]:
    """Orders (ours), which calls shipping (Node), which calls warehouse (ours)."""
    ports = {name: free_port() for name in ("orders", "shipping", "warehouse")}
    flask = [sys.executable, "-m", "flask", "--app", "{name}", "run", "--host", "127.0.0.1", "--port", "{port}"]
    commands = {"orders": flask, "shipping": [shutil.which("node") or "node", "shipping.js"], "warehouse": flask}
    environ = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environ["PYTHONPATH"] = PACKAGE_ROOT
    environ.update({f"{name.upper()}_URL": f"http://127.0.0.1:{port}" for name, port in ports.items()})
    with Receiver() as receiver, ExitStack() as running:
        environ.update(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_BSP_SCHEDULE_DELAY="100")
        # What a team that uses the Node SDK sets for itself; the owner is the one thing that we ask of it.
        node = {"OTEL_SERVICE_NAME": "shipping", "OTEL_RESOURCE_ATTRIBUTES": "team=couriers,service.owner.contact=#couriers"}
        node.update(OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none", OTEL_NODE_RESOURCE_DETECTORS="env")
        servers = {}
        for name, command in commands.items():
            words = [word.format(name=name, port=ports[name]) for word in command]
            own = {**environ, **(node if name == "shipping" else {}), "PORT": str(ports[name])}
            servers[name] = running.enter_context(Server(words, installed / f"{name}.log", cwd=installed, env=own))
        for name, server in servers.items():
            server.listens(ports[name], START_DEADLINE_S)
        yield Services(receiver, ports["orders"])


def trace_of(services: Services, order: str, status: int, size: int) -> list[SpanRecord]:
    """The spans of one order's trace, once there are `size`."""
    connection = http.client.HTTPConnection("127.0.0.1", services.orders, timeout=30)
    try:
        connection.request("POST", f"/orders/{order}")
        answer = connection.getresponse()
        # To its end: werkzeug never closes the response of a client that hangs up, and the span ends when it is closed.
        answer.read()
        assert answer.status == status
    finally:
        connection.close()

    def found(traces: dict[str, list[SpanRecord]]) -> list[SpanRecord]:
        for spans in traces.values():
            if any(span.get("url.path") == f"/orders/{order}" for span in spans):
                return spans
        return []

    services.receiver.wait_for(lambda traces: len(found(traces)) >= size, TRACE_DEADLINE_S)
    spans = list(found(services.receiver.traces()))
    assert len(spans) == size, spans
    return spans


def line_of(spans: list[SpanRecord]) -> list[tuple[str, str, str | None]]:
    """(service, kind, team) from the root down; each span is the only child of the one before it."""
    by_parent = {span.parent_id: span for span in spans}
    assert len(by_parent) == len(spans)
    line, at = [], by_parent[None]
    while True:
        line.append((at.service, at.kind, at.team))
        if at.span_id not in by_parent:
            return line
        at = by_parent[at.span_id]


WHOLE = [
    ("orders", "server", "web"),
    ("orders", "client", "web"),
    ("shipping", "server", "couriers"),
    ("shipping", "client", "couriers"),
    ("warehouse", "server", "stock"),
]


def judged(spans: list[SpanRecord]) -> Verdict:
    assert len({span.trace_id for span in spans}) == 1
    found = verdict(spans)
    # On a busy machine a process may be held up between its answer and its span's end, which looks like another clock.
    assert [missing for missing in found.evidence_missing if not missing.startswith("the clocks of ")] == []
    return found


def test_one_trace_goes_through_python_node_and_python(services: Services) -> None:
    spans = trace_of(services, "book", 200, 5)
    assert line_of(spans) == WHOLE
    assert judged(spans).kind == "none"
    (node,) = {span.resource["telemetry.sdk.language"] for span in spans if span.service == "shipping"}
    assert node == "nodejs"  # it is their SDK that made these


def test_service_in_node_that_fails_is_blamed(services: Services) -> None:
    spans = trace_of(services, "no-van", 500, 3)
    assert line_of(spans) == WHOLE[:3]
    found = judged(spans)
    assert (found.kind, found.team, found.service, found.confidence) == ("error", "couriers", "shipping", "high")
    assert found.contact == "#couriers"


def test_service_in_python_that_fails_below_node_is_blamed_with_its_line(services: Services) -> None:
    spans = trace_of(services, "elephant", 500, 5)
    assert line_of(spans) == WHOLE
    found = judged(spans)
    assert (found.kind, found.team, found.service, found.confidence) == ("error", "stock", "warehouse", "high")
    assert found.code is not None
    assert Path(found.code.partition(":")[0]).name == "warehouse.py"
    assert "KeyError: 'elephant' began in GET /items/<item> of warehouse (team stock)" in found.why


def test_service_in_node_that_is_slow_is_blamed(services: Services) -> None:
    spans = trace_of(services, "piano", 200, 5)
    assert line_of(spans) == WHOLE
    found = judged(spans)
    assert (found.kind, found.team, found.service, found.confidence) == ("latency", "couriers", "shipping", "high")
    assert found.shares[0][0] == "couriers"
