"""The backend that the fault matrix is tried against does what it is told."""

import http.client
import socket
from contextlib import closing
from email.message import Message
from typing import NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from tests.faults.backend import DRIP, GARBAGE, HANG, LOST, RESET, Answer, Backend, partial, redirect, status


def request(number: int, spans: int = 3) -> bytes:
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add().scope_spans.add()
    for index in range(spans):
        group.spans.add(span_id=bytes((number, index)) + b"\0" * 6, name=f"{number}-{index}")
    return message.SerializeToString()


class Posted(NamedTuple):
    status: int
    headers: Message
    body: bytes


def post(backend: Backend, body: bytes, timeout: float = 10) -> Posted:
    connection = http.client.HTTPConnection("127.0.0.1", backend.port, timeout=timeout)
    with closing(connection):
        connection.request("POST", "/v1/traces", body)
        with connection.getresponse() as response:
            return Posted(response.status, response.headers, response.read())


def test_it_counts_what_it_takes_and_answers_by_the_script(backend: Backend) -> None:
    backend.script(status(503, retry_after=2), partial(1), redirect("http://elsewhere/"))
    busy, some, moved, fine = (post(backend, request(number)) for number in range(4))
    assert (busy.status, busy.headers["Retry-After"]) == (503, "2")
    assert ExportTraceServiceResponse.FromString(some.body).partial_success.rejected_spans == 1
    assert (moved.status, moved.headers["Location"]) == (301, "http://elsewhere/")
    assert fine.status == 200
    assert sum(backend.arrived.values()) == 2 + 3
    assert [len(entry.spans) for entry in backend.requests] == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("answer", "error", "arrived"),
    [
        (HANG, TimeoutError, 0),
        (RESET, ConnectionResetError, 0),
        (LOST, ConnectionResetError, 3),
        (GARBAGE, http.client.BadStatusLine, 0),
    ],
)
def test_it_fails_in_the_way_it_is_told_to(answer: Answer, error: type[Exception], arrived: int, backend: Backend) -> None:
    backend.script(answer)
    with pytest.raises(error):
        post(backend, request(1), 0.3)
    assert sum(backend.arrived.values()) == arrived
    assert post(backend, request(2)).status == 200


def test_it_drips_for_ever(backend: Backend) -> None:
    backend.script(DRIP)
    body = request(1)
    with socket.create_connection(("127.0.0.1", backend.port), 5) as connection:
        connection.sendall(b"POST /v1/traces HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        said = b""
        while said.count(b"x") < 5:
            said += connection.recv(1)
    assert said == b"HTTP/1.1 200 OK\r\nX-Drip: xxxxx"
    assert not backend.arrived


def test_it_dies_and_comes_back_on_the_same_port(backend: Backend) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", backend.port, timeout=5)) as kept:
        kept.request("POST", "/v1/traces", request(1))
        assert kept.getresponse().read() == b""
        for _ in range(20):
            backend.down()
            with pytest.raises(ConnectionRefusedError):
                post(backend, request(2))
            backend.up()
            assert post(backend, request(3)).status == 200
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            kept.request("POST", "/v1/traces", request(1))
            kept.getresponse()
    assert sum(backend.arrived.values()) == 3 * 21
