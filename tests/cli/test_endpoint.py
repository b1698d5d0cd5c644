"""The endpoint is tried for real: against servers that answer, refuse, hang, and are something else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lighttrace.cli.endpoint import try_endpoint, without_password
from lighttrace.config import ExporterSettings, load


def settings(endpoint: str, **variables: str) -> ExporterSettings:
    return load(environ={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **variables}).otlp


@contextmanager
def backend(status: int = 200, body: bytes = b"") -> Iterator[tuple[str, list[Any]]]:
    requests: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"] or 0))
            requests.append((self.path, self.headers, content))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_backend_is_sent_an_empty_request_with_the_configured_headers() -> None:
    with backend() as (url, requests):
        attempt = try_endpoint(settings(url, OTEL_EXPORTER_OTLP_HEADERS="api-key=s3cret"))
    assert (attempt.ok, attempt.detail, attempt.endpoint) == (True, "it answered", f"{url}/v1/traces")
    path, headers, content = requests[0]
    assert (path, headers["content-type"], headers["api-key"]) == ("/v1/traces", "application/x-protobuf", "s3cret")
    assert ExportTraceServiceRequest.FromString(content) == ExportTraceServiceRequest()


def test_json_is_spoken_where_it_is_asked_for() -> None:
    with backend() as (url, requests):
        assert try_endpoint(settings(url, OTEL_EXPORTER_OTLP_PROTOCOL="http/json")).ok
    assert (requests[0][1]["content-type"], requests[0][2]) == ("application/json", b'{"resourceSpans":[]}')


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "OTEL_EXPORTER_OTLP_HEADERS"), (404, "/v1/traces"), (405, "4318"), (500, "out of order")]
)
def test_answer_that_is_no_success_is_told_with_what_to_do(status: int, hint: str) -> None:
    with backend(status, b"out of order") as (url, _):
        attempt = try_endpoint(settings(url))
    assert not attempt.ok
    assert str(status) in attempt.detail
    assert hint in attempt.detail


def test_nobody_listening_is_told() -> None:
    with socket.socket() as bound:  # bound and not listening: it refuses, and nobody else can take the port
        bound.bind(("127.0.0.1", 0))
        attempt = try_endpoint(settings(f"http://127.0.0.1:{bound.getsockname()[1]}"))
    assert not attempt.ok
    assert "nothing listens there" in attempt.detail


def test_backend_that_hangs_costs_no_more_than_the_timeout() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        attempt = try_endpoint(settings(f"http://127.0.0.1:{server.getsockname()[1]}", OTEL_EXPORTER_OTLP_TIMEOUT="200"))
    assert not attempt.ok
    assert "did not answer within 0.2 s" in attempt.detail
    assert attempt.duration_ms < 3000


def test_something_that_speaks_no_http_is_told() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"\x00\x00\x12\x04\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        attempt = try_endpoint(settings(f"http://127.0.0.1:{server.getsockname()[1]}"))
        thread.join()
    assert not attempt.ok
    assert "connection" in attempt.detail


def test_grpc_backend_is_reached_over_grpc() -> None:
    grpc = pytest.importorskip("grpc")
    from concurrent.futures import ThreadPoolExecutor

    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
        TraceServiceServicer,
        add_TraceServiceServicer_to_server,
    )

    received = []

    class Service(TraceServiceServicer):  # type: ignore[misc]  # generated code without types
        def Export(self, request: Any, context: Any) -> Any:
            received.append((request, dict(context.invocation_metadata())["api-key"]))
            return messages.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=1"}
        attempt = try_endpoint(settings(f"http://127.0.0.1:{port}", **variables))
    finally:
        server.stop(None).wait(5)
    assert attempt.ok, attempt.detail
    assert received == [(ExportTraceServiceRequest(), "1")]


def test_credentials_in_the_url_are_not_shown() -> None:
    assert without_password("http://user:pw@host:4318/v1/traces") == "http://REDACTED@host:4318/v1/traces"
