"""The backend for the demo and for development, as exporters find it."""

import gzip
import http.client
import socket
import threading
import zlib

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from lighttrace.analysis import SpanRecord
from lighttrace.analysis.encode import to_json_line
from lighttrace.backend import Receiver, TraceStore


def span(trace: int, number: int, name: str = "GET /") -> SpanRecord:
    return SpanRecord(f"{trace:032x}", f"{number:016x}", None, name, "server", 0, 10)


def protobuf(*names: str) -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number, name in enumerate(names, 1):
        spans.add(trace_id=b"t" * 16, span_id=bytes([number]) * 8, name=name)
    return request.SerializeToString()


def post(receiver: Receiver, body: bytes, path: str = "/v1/traces", **headers: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=10)
    try:
        sent = {"Content-Type": "application/x-protobuf", **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request("POST", path, body, sent)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def names(receiver: Receiver) -> list[str]:
    return [span.name for spans in receiver.traces().values() for span in spans]


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_spans_of_the_stock_exporter_arrive(compression: Compression) -> None:
    with Receiver() as receiver:
        provider = TracerProvider(resource=Resource({"service.name": "checkout", "team": "payments"}))
        provider.add_span_processor(
            SimpleSpanProcessor(OTLPSpanExporter(f"{receiver.endpoint}/v1/traces", compression=compression))
        )
        with provider.get_tracer("lib").start_as_current_span("charge"):
            pass
        provider.shutdown()
        ((found,),) = receiver.traces().values()
    assert (found.name, found.service, found.team, found.scope) == ("charge", "checkout", "payments", "lib")


def test_protobuf_is_answered_with_protobuf_and_json_with_json() -> None:
    with Receiver() as receiver:
        assert post(receiver, protobuf("one", "two")) == (200, "application/x-protobuf", b"")
        line = to_json_line([span(1, 1, "three")]).encode()
        assert post(receiver, line, Content_Type="application/json; charset=utf-8") == (200, "application/json", b"{}")
        assert post(receiver, gzip.compress(line, mtime=0), Content_Type="application/json", Content_Encoding="gzip")[0] == 200
        assert names(receiver) == ["one", "two", "three", "three"]


def test_metrics_and_logs_are_welcome_and_not_kept() -> None:
    with Receiver() as receiver:
        for path in ("/v1/metrics", "/v1/logs"):
            assert post(receiver, b"anything", path)[0] == 200
        assert receiver.traces() == {}


@pytest.mark.parametrize(
    ("status", "body", "options", "said"),
    [
        (400, b"\x0a\xff", {}, b"not an OTLP trace in protobuf"),
        (400, b"{", {"Content_Type": "application/json"}, b"not JSON"),
        (400, b"\xff", {"Content_Type": "application/json"}, b"utf-8"),
        (400, b"nonsense", {"Content_Encoding": "gzip"}, b"the body cannot be read"),
        (400, gzip.compress(b"x" * 1000, mtime=0)[:20], {"Content_Encoding": "gzip"}, b"the body cannot be read"),
        (400, zlib.compress(bytes(65 << 20)), {"Content_Encoding": "deflate"}, b"too large"),
        (400, b"x", {"Content_Encoding": "zstd"}, b"zstd is not understood"),
        (415, b"x", {"Content_Type": "text/plain"}, b"and not text/plain"),
        (404, b"x", {"path": "/v2/traces"}, b"POST /v1/traces"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_a_reason(status: int, body: bytes, options: dict[str, str], said: bytes) -> None:
    with Receiver() as receiver:
        answered, kind, message = post(receiver, body, **options)
        assert answered == status
        assert said in message
        if kind == "application/x-protobuf":
            assert message[:2] == b"\x12" + bytes((len(message) - 2,))  # google.rpc.Status
        assert post(receiver, protobuf("after"))[0] == 200
        assert names(receiver) == ["after"]


def test_body_in_chunks_is_read() -> None:
    body = protobuf("one")
    with Receiver() as receiver:
        connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=10)
        connection.request(
            "POST", "/v1/traces", iter([body[:5], body[5:]]), {"Content-Type": "application/x-protobuf"}, encode_chunked=True
        )
        assert connection.getresponse().status == 200
        connection.close()
        assert names(receiver) == ["one"]


def test_waiting_ends_with_the_span_or_at_its_deadline() -> None:
    with Receiver() as receiver:
        assert not receiver.wait_for(len, timeout=0.01)
        sender = threading.Thread(target=post, args=(receiver, protobuf("one")))
        sender.start()
        assert receiver.wait_for(lambda traces: any(len(spans) == 1 for spans in traces.values()), timeout=10)
        sender.join()


def test_nobody_is_answered_after_close_and_the_port_is_free() -> None:
    receiver = Receiver().start()
    kept = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=10)
    kept.request("POST", "/v1/traces", protobuf("one"), {"Content-Type": "application/x-protobuf"})
    kept.getresponse().read()
    receiver.close()
    with pytest.raises((OSError, http.client.HTTPException)):
        kept.request("POST", "/v1/traces", protobuf("two"))
        kept.getresponse()
    kept.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", receiver.port), timeout=5)
    with Receiver(receiver.port) as again:
        assert again.port == receiver.port


def test_receiver_that_never_started_can_be_closed() -> None:
    Receiver().close()


def test_store_keeps_the_last_traces_and_counts_what_it_dropped() -> None:
    store = TraceStore(traces=2, spans_per_trace=3)
    store.add(span(1, number) for number in range(1, 6))
    assert store.dropped == 2
    store.add([span(2, 6)])
    store.add([span(3, 7), span(2, 8)])
    assert {int(trace, 16): len(spans) for trace, spans in store.traces().items()} == {2: 2, 3: 1}
    assert store.dropped == 5


def test_store_is_bounded_in_spans_too() -> None:
    store = TraceStore(spans=10)
    for trace in range(1, 20):
        store.add(span(trace, number) for number in range(1, 5))
    assert [int(trace, 16) for trace in store.traces()] == [18, 19]


def test_store_takes_spans_from_many_threads() -> None:
    store = TraceStore()
    threads = [
        threading.Thread(target=lambda n=n: [store.add([span(n, number)]) for number in range(1, 101)]) for n in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(spans) for spans in store.traces().values()] == [100] * 8
