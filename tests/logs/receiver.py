"""A server for OTLP logs: keeps what comes, decoded by opentelemetry-proto."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from lighttrace.testing.capture import wait_until


class LogReceiver:
    """A context manager. `status` is what it answers."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.requests: list[ExportLogsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.paths.append(self.path)
                if self.path == "/v1/logs":
                    receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                    receiver.requests.append(ExportLogsServiceRequest.FromString(body))
                self.send_response(receiver.status if self.path == "/v1/logs" else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "LogReceiver":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def records(self) -> list[Any]:
        """Every record: (logger's name, attributes of the resource, the record, its attributes)."""
        return [
            (scope.scope.name, plain(resource.resource.attributes), record, plain(record.attributes))
            for request in list(self.requests)
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def wait_for(self, count: int) -> list[Any]:
        """The records, once there are so many."""
        wait_until(lambda: len(self.records) >= count, f"{count} log records", 10)
        return self.records


def plain(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}
