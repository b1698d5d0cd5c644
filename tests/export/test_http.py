"""OTLP over HTTP: one kept connection, TLS, proxies, and what the answers mean."""

import base64
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lighttrace import config
from lighttrace.export import http as http_module
from lighttrace.export.http import HttpExporter
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider
from tests.faults.backend import HANG, LOST, RESET, Answer, Backend, status
from tests.faults.certificates import Certificates, make


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as running:
        yield running


@pytest.fixture
def batch() -> list[Any]:
    spans: list[Any] = []
    tracer = TracerProvider(Pipeline({"service.name": "s"}, put=spans.append)).get_tracer("t")
    for number in range(3):
        tracer.start_span(f"{number}").end()
    return spans


class Exporting:
    """An exporter of a configuration, closed at the end."""

    def __init__(self, endpoint: str, **options: Any) -> None:
        self.exporter = HttpExporter(config.load(environ={}, endpoint=endpoint, **options).otlp)

    def __enter__(self) -> HttpExporter:
        return self.exporter

    def __exit__(self, *_: object) -> None:
        self.exporter.close()


def send(exporter: HttpExporter, batch: list[Any], timeout: float = 5) -> Any:
    return exporter.send(exporter.prepare(batch, None), timeout)


def test_batches_share_one_connection(backend: Backend, batch: list[Any]) -> None:
    with Exporting(backend.endpoint) as exporter:
        for _ in range(5):
            assert send(exporter, batch).reason == ""
    assert [request.connection for request in backend.requests] == [1] * 5
    assert {request.target for request in backend.requests} == {"/v1/traces"}


def test_a_backend_that_wants_no_kept_connection_gets_a_new_one_each_time(backend: Backend, batch: list[Any]) -> None:
    backend.answer = Answer(headers=(("Connection", "close"),))
    with Exporting(backend.endpoint) as exporter:
        for _ in range(3):
            assert send(exporter, batch).reason == ""
    assert [request.connection for request in backend.requests] == [1, 2, 3]


@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_that_was_closed_while_it_was_idle_costs_nothing(
    tls: bool, certificates: Certificates, batch: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "_IDLE", 0.0)
    with Backend(tls=certificates.server() if tls else None) as backend:
        with Exporting(backend.endpoint, certificate=certificates.authority if tls else None) as exporter:
            assert send(exporter, batch).reason == ""
            backend.down()
            backend.wait_for(lambda: not backend._open)
            backend.up()
            outcome = send(exporter, batch)
            assert (outcome.reason, outcome.repeats, outcome.unanswered) == ("", 0, False)
            assert send(exporter, batch).reason == ""
        assert [request.connection for request in backend.requests] == [1, 2, 2]
        assert set(backend.arrived.values()) == {3}


def test_a_kept_connection_that_breaks_is_tried_once_more_and_says_so(backend: Backend, batch: list[Any]) -> None:
    with Exporting(backend.endpoint) as exporter:
        assert send(exporter, batch).reason == ""
        backend.script(LOST)
        outcome = send(exporter, batch)
        assert (outcome.reason, outcome.repeats) == ("", 1)
        backend.script(RESET, RESET)
        outcome = send(exporter, batch)
        assert outcome.reason.startswith("connection")
        assert (outcome.retry, outcome.repeats, outcome.unanswered) == (True, 1, True)


def test_a_new_connection_that_breaks_is_not_tried_again_here(backend: Backend, batch: list[Any]) -> None:
    backend.script(RESET)
    with Exporting(backend.endpoint) as exporter:
        outcome = send(exporter, batch)
    assert (outcome.retry, outcome.repeats, outcome.unanswered) == (True, 0, True)
    assert len(backend.requests) == 1


@pytest.mark.parametrize(
    ("code", "retry", "unanswered"),
    [(400, False, False), (401, False, False), (404, False, False), (413, False, False), (429, True, False), (500, False, False),
     (502, True, True), (503, True, False), (504, True, True)],
)  # fmt: skip
def test_statuses_mean_what_the_specification_says(
    code: int, retry: bool, unanswered: bool, backend: Backend, batch: list[Any]
) -> None:
    backend.answer = status(code, body=b"a reason")
    with Exporting(backend.endpoint) as exporter:
        outcome = send(exporter, batch)
    assert outcome.reason.startswith(f"status_{code}:")
    assert outcome.reason.endswith("a reason")
    assert (outcome.retry, outcome.unanswered) == (retry, unanswered)


@pytest.mark.parametrize(
    ("code", "said", "too_large"),
    [(413, b"", True), (400, b"http: request body too large", True), (400, b"no such field", False), (500, b"too large", False)],
)
def test_a_backend_says_that_it_takes_less_at_once(
    code: int, said: bytes, too_large: bool, backend: Backend, batch: list[Any]
) -> None:
    backend.answer = status(code, body=said)
    with Exporting(backend.endpoint) as exporter:
        assert send(exporter, batch).too_large is too_large


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("7", 7, 7), ("0", 0, 0), ("100000", 3600, 3600), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 3600, 3600), ("soon", None, None), ("-3", None, None), ("", None, None)],
)  # fmt: skip
def test_retry_after_is_read_whatever_it_says(
    value: str, low: float | None, high: float | None, backend: Backend, batch: list[Any]
) -> None:
    backend.answer = Answer(503, headers=(("Retry-After", value),), takes=False)
    with Exporting(backend.endpoint) as exporter:
        after = send(exporter, batch).retry_after
    assert after is None if low is None else low <= after <= (high or 0)


def test_one_deadline_covers_connecting_sending_and_reading(backend: Backend, batch: list[Any]) -> None:
    backend.answer = HANG
    with Exporting(backend.endpoint) as exporter:
        begun = time.monotonic()
        outcome = send(exporter, batch, 0.3)
        assert 0.2 < time.monotonic() - begun < 1.0
        assert outcome.reason.startswith("timeout")
        assert outcome.unanswered
    with socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:  # never accepts, never reads
        large = [batch[0]] * 100_000
        with Exporting(f"http://127.0.0.1:{deaf.getsockname()[1]}") as exporter:
            begun = time.monotonic()
            payload = exporter.prepare(large, None)
            assert len(payload) > 5 << 20
            begun = time.monotonic()
            outcome = exporter.send(payload, 0.3)
            assert time.monotonic() - begun < 1.0
            assert outcome.reason.startswith("timeout")
            assert not outcome.unanswered  # it cannot have been read


def test_the_settings_timeout_holds_where_it_is_shorter(backend: Backend, batch: list[Any]) -> None:
    backend.answer = HANG
    with Exporting(backend.endpoint, timeout=0.2) as exporter:
        begun = time.monotonic()
        assert send(exporter, batch, 30).retry
        assert time.monotonic() - begun < 1.0


def test_headers_compression_path_and_credentials_go_out(backend: Backend, batch: list[Any]) -> None:
    endpoint = backend.endpoint.replace("http://", "http://user:pa%40ss@") + "/tenant"
    with Exporting(endpoint, headers={"api-key": "k"}, compression="gzip") as exporter:
        assert send(exporter, batch).reason == ""
    (request,) = backend.requests
    assert request.target == "/tenant/v1/traces"
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"user:pa@ss").decode()
    assert request.headers["api-key"] == "k"
    assert len(request.spans) == 3


def test_tls_checks_the_backend_and_shows_the_client(certificates: Certificates, batch: list[Any]) -> None:
    options = {
        "certificate": certificates.authority,
        "client_certificate": certificates.client,
        "client_key": certificates.client_key,
    }
    with Backend(tls=certificates.server(demand_client=True)) as backend:
        with Exporting(backend.endpoint, **options) as exporter:
            for _ in range(3):
                assert send(exporter, batch).reason == ""
        assert [(request.connection, request.peer) for request in backend.requests] == [(1, ("client.example",))] * 3


@pytest.mark.parametrize("kind", ["expired", "host"])
def test_a_certificate_that_is_not_good_is_refused_for_good(kind: str, certificates: Certificates, batch: list[Any]) -> None:
    with (
        Backend(tls=certificates.server(kind=kind)) as backend,
        Exporting(backend.endpoint, certificate=certificates.authority) as exporter,
    ):
        outcome = send(exporter, batch)
        assert outcome.reason.startswith("tls:")
        assert not outcome.retry
        assert not backend.requests


def test_a_file_of_certificates_that_is_not_there_is_named(batch: list[Any], tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    with Exporting("https://127.0.0.1:1", certificate=missing) as exporter:
        outcome = send(exporter, batch)
    assert outcome.reason == f"tls: {missing}: {os.strerror(2)}"


class Proxy:
    """A proxy that tunnels, or passes a plain request on; it keeps the first line and the headers of each."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        with client:
            while b"\r\n\r\n" not in head:
                more = client.recv(65_536)
                if not more:
                    return
                head += more
            before, _, rest = head.partition(b"\r\n\r\n")
            first, *lines = before.decode("latin-1").split("\r\n")
            self.seen.append((first, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}))
            method, target, _ = first.split(" ")
            authority = target if method == "CONNECT" else target.split("/")[2]
            host, _, port = authority.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    path = "/" + target.split("/", 3)[3]
                    server.sendall(head.replace(target.encode(), path.encode(), 1))
                    rest = b""
                if rest:
                    server.sendall(rest)
                self._pass_on(client, server)

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([one, other], [], [], 10)
            for source in ready:
                data = source.recv(65_536)
                if not data:
                    return
                (other if source is one else one).sendall(data)
            if not ready:
                return

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    running = Proxy()
    yield running
    running.close()


@pytest.mark.parametrize("tls", [False, True])
def test_a_proxy_of_the_environment_is_used_with_its_credentials(
    tls: bool, proxy: Proxy, certificates: Certificates, batch: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy" if tls else "http_proxy", f"http://me:secret@127.0.0.1:{proxy.port}")
    with Backend(tls=certificates.server() if tls else None) as backend:
        with Exporting(backend.endpoint, certificate=certificates.authority if tls else None) as exporter:
            for _ in range(2):
                outcome = send(exporter, batch)
                assert outcome.reason == ""
        ((first, headers),) = proxy.seen  # one connection, kept
        where = f"127.0.0.1:{backend.port}"
        assert first.split()[:2] == (["CONNECT", where] if tls else ["POST", f"http://{where}/v1/traces"])
        assert headers["proxy-authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
        assert sum(backend.arrived.values()) == 6
        if tls:  # what is for the proxy is not for the backend
            assert all("proxy-authorization" not in request.headers for request in backend.requests)


def test_no_proxy_is_honoured(proxy: Proxy, backend: Backend, batch: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Exporting(backend.endpoint) as exporter:
        assert send(exporter, batch).reason == ""
    assert not proxy.seen


@pytest.mark.parametrize("endpoint", ["ftp://here", "localhost:4318", "http://"])
def test_an_endpoint_that_is_no_address_is_said_to_be_none(endpoint: str) -> None:
    settings = config.load(environ={}, endpoint="http://here").otlp
    wrong = type(settings)(**{**vars(settings), "endpoint": endpoint})
    with pytest.raises(ValueError, match="not an http:// or https:// address"):
        HttpExporter(wrong)
