"""What we export decodes to the same values as what the stock SDK exports, over every protocol."""

import http.server
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, set_span_in_context
from opentelemetry.trace.span import TraceState

from lighttrace import config, semconv
from lighttrace.export.encoder import encode_spans
from lighttrace.export.file import FileExporter
from lighttrace.export.grpc import GrpcExporter
from lighttrace.export.http import HttpExporter
from lighttrace.tracing.ids import new_span_id
from lighttrace.tracing.owner import Owner, owner
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider
from lighttrace.tracing.shared import NOTHING_OWN, Shared
from tests.export import program

RESOURCE = {"service.name": "checkout", "number": 7}


class FixedIds:
    """The same ids in both providers."""

    def __init__(self) -> None:
        self.last = 0

    def generate_span_id(self) -> int:
        self.last += 1
        return self.last

    def generate_trace_id(self) -> int:
        return 4242

    def is_trace_id_random(self) -> bool:
        return False


@pytest.fixture
def ours() -> list[Any]:
    spans: list[Any] = []
    pipeline = Pipeline(RESOURCE, put=spans.append, default_owner=owner("payments", "service"), id_generator=FixedIds())
    program.run(TracerProvider(pipeline))
    return spans


@pytest.fixture
def theirs() -> ExportTraceServiceRequest:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as stock
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider as StockProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory = InMemorySpanExporter()
    provider = StockProvider(resource=Resource(RESOURCE), id_generator=FixedIds(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    program.run(provider)
    return stock(memory.get_finished_spans())


def comparable(request: ExportTraceServiceRequest) -> list[Any]:
    """Every span with its scope and resource, without the team that ours carry in addition."""
    found = []
    for group in request.resource_spans:
        for scope in group.scope_spans:
            for span in scope.spans:
                kept = [pair for pair in span.attributes if pair.key != semconv.TEAM]
                del span.attributes[:]
                span.attributes.extend(kept)
                found.append(
                    (span.name, group.resource.SerializeToString(deterministic=True), scope.scope, scope.schema_url, span)
                )
    return sorted(found, key=lambda entry: (entry[0], entry[4].span_id))


def assert_same(sent: ExportTraceServiceRequest, stock: ExportTraceServiceRequest) -> None:
    teams = [pair.value.string_value for group in sent.resource_spans for scope in group.scope_spans for span in scope.spans
             for pair in span.attributes if pair.key == semconv.TEAM]  # fmt: skip
    mine, wanted = comparable(sent), comparable(stock)
    assert len(mine) == len(wanted) == 14
    assert teams == ["payments"] * 14
    for one, other in zip(mine, wanted, strict=True):
        assert one == other


def test_protobuf_says_what_the_stock_exporter_says(ours: list[Any], theirs: ExportTraceServiceRequest) -> None:
    assert_same(ExportTraceServiceRequest.FromString(encode_spans(ours)), theirs)


class Backend(http.server.BaseHTTPRequestHandler):
    """Keeps the bodies that are posted."""

    bodies: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        self.bodies.append((self.headers["Content-Type"], body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def backend() -> Iterator[Any]:
    handler = type("Handler", (Backend,), {"bodies": []})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_http_carries_the_same(
    protocol: str, compression: str, backend: Any, ours: list[Any], theirs: ExportTraceServiceRequest
) -> None:
    settings = config.load(
        environ={}, endpoint=f"http://127.0.0.1:{backend.server_port}", protocol=protocol, compression=compression
    ).otlp
    exporter = HttpExporter(settings)
    try:
        assert exporter.send(exporter.prepare(ours, None), 5).reason == ""
    finally:
        exporter.close()
    ((kind, body),) = backend.RequestHandlerClass.bodies
    if protocol == "http/json":
        assert kind == "application/json"
        sent = from_otlp_json(body.decode())
    else:
        sent = ExportTraceServiceRequest.FromString(body)
    assert_same(sent, theirs)


def test_file_holds_the_same(tmp_path: Path, ours: list[Any], theirs: ExportTraceServiceRequest) -> None:
    exporter = FileExporter(str(tmp_path / "traces.jsonl"))
    assert exporter.send(exporter.prepare(ours, None), 5).reason == ""
    assert exporter.send(exporter.prepare(ours[:1], None), 5).reason == ""
    exporter.close()
    first, second = (tmp_path / "traces.jsonl").read_text().splitlines()
    assert_same(from_otlp_json(first), theirs)
    assert len(from_otlp_json(second).resource_spans[0].scope_spans[0].spans) == 1


def test_grpc_carries_the_same(ours: list[Any], theirs: ExportTraceServiceRequest) -> None:
    received: list[tuple[bytes, dict[str, Any]]] = []

    def export(request: bytes, context: Any) -> bytes:
        received.append((request, dict(context.invocation_metadata())))
        return ExportTraceServiceResponse().SerializeToString()

    service = grpc.method_handlers_generic_handler(
        "opentelemetry.proto.collector.trace.v1.TraceService", {"Export": grpc.unary_unary_rpc_method_handler(export)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(1), (service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    settings = config.load(
        environ={}, endpoint=f"http://127.0.0.1:{port}", protocol="grpc", headers={"api-key": "secret"}, compression="gzip"
    ).otlp
    exporter = GrpcExporter(settings)
    try:
        assert exporter.send(exporter.prepare(ours, None), 10).reason == ""
    finally:
        exporter.close()
        server.stop(None).wait()
    ((body, metadata),) = received
    assert metadata["api-key"] == "secret"
    assert_same(ExportTraceServiceRequest.FromString(body), theirs)


def test_broken_text_and_numbers_beyond_64_bits_become_something_exportable() -> None:
    spans: list[Any] = []
    tracer = TracerProvider(Pipeline(RESOURCE, put=spans.append)).get_tracer("t")
    span = tracer.start_span("half a \ud800 surrogate", attributes={"broken": "a\ud800b", "huge": 2**80, "ke\ud800y": 1})
    span.set_attribute("nested", {"a": [1, {"b": None}]})
    span.end()
    sent = ExportTraceServiceRequest.FromString(encode_spans(spans)).resource_spans[0].scope_spans[0].spans[0]
    found = {pair.key: pair.value for pair in sent.attributes}
    assert sent.name == "half a ? surrogate"
    assert found["broken"].string_value == "a?b"
    assert found["huge"].string_value == str(2**80)
    assert found["nested"].kvlist_value.values[0].value.array_value.values[0].int_value == 1


@pytest.mark.contained
def test_span_that_cannot_be_encoded_costs_only_itself() -> None:
    spans: list[Any] = []
    tracer = TracerProvider(Pipeline(RESOURCE, put=spans.append)).get_tracer("t")
    for name in ("first", "broken", "last"):
        tracer.start_span(name).end()
    spans[1]._start = "yesterday"
    sent = ExportTraceServiceRequest.FromString(encode_spans(spans))
    assert [span.name for span in sent.resource_spans[0].scope_spans[0].spans] == ["first", "last"]


def test_values_that_are_equal_across_types_keep_their_types() -> None:
    spans: list[Any] = []
    tracer = TracerProvider(Pipeline(RESOURCE, put=spans.append)).get_tracer("t")
    for value in (1, True, 1.0, 1, 0, False, 0.0):
        tracer.start_span("s", attributes={"same": value}).end()
    sent = ExportTraceServiceRequest.FromString(encode_spans(spans)).resource_spans[0].scope_spans[0].spans
    kinds = [span.attributes[0].value.WhichOneof("value") for span in sent]
    assert kinds == ["int_value", "bool_value", "double_value", "int_value", "int_value", "bool_value", "double_value"]


def from_otlp_json(text: str) -> ExportTraceServiceRequest:
    """OTLP's JSON has ids in hex where protobuf's own JSON form has base64."""
    import base64
    import json

    def fix(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: base64.b64encode(bytes.fromhex(item)).decode() if key in ("traceId", "spanId", "parentSpanId") else fix(item)
                for key, item in value.items()
            }
        return [fix(item) for item in value] if isinstance(value, list) else value

    parsed: ExportTraceServiceRequest = Parse(json.dumps(fix(json.loads(text))), ExportTraceServiceRequest())
    return parsed


def test_ids_are_never_zero() -> None:
    assert all(new_span_id() for _ in range(1000))


def _calls(shared: Shared) -> list[Any]:
    """Spans of one target: what most are, and each way to be another."""
    kept: list[Any] = []
    tracer = TracerProvider(Pipeline(RESOURCE, put=kept.append, default_owner=owner("payments", "service"))).get_tracer("calls")

    def call(context: Any = None) -> Any:
        return tracer.start("GET", SpanKind.CLIENT, NOTHING_OWN, context, None, shared)

    root, child = call(), None
    remote = SpanContext(0xA << 64, 0xB, True, TraceFlags(1), TraceState([("vendor", "1")]))
    spans = [
        root,
        child := call(set_span_in_context(root)),
        call(set_span_in_context(child)),
        call().set(more="x" * 5000),
        call(set_span_in_context(NonRecordingSpan(remote))),
        call(set_span_in_context(NonRecordingSpan(SpanContext(0xA, 0xB, True, TraceFlags(1))))),
        call(),
    ]
    for span in spans[4:6]:
        span._own = NOTHING_OWN  # as that of a request that was answered has it, whose attributes all are its caller's
    spans += _requests(call, root, remote)
    for change in (
        lambda span: span.update_name("GET /other"),
        lambda span: span.set_team("fraud"),
        lambda span: span.set_status(StatusCode.ERROR, "no"),
        lambda span: span.set_status(StatusCode.OK),
        lambda span: span.add_event("retried", {"after": 1}),
        lambda span: span.add_link(remote),
        lambda span: setattr(span, "_kind", SpanKind.PRODUCER),
        lambda span: setattr(span, "_start", 1.5e18),
    ):
        spans.append(call())
        change(spans[-1])
    spans += [call(), call(set_span_in_context(root))]
    for span in spans:
        span.end()
    assert kept == spans
    return spans


def _requests(call: Any, root: Any, remote: SpanContext) -> Iterator[Any]:
    """Spans of requests that came in from here and there, with a path and a query."""
    inherited = Owner(None, "service")
    inherited.attributes = {"lighttrace.caller.service": "shop"}
    stateless = SpanContext(0xA, 0xB, True, TraceFlags(1))
    for path, query in (("/items/7", None), ("/items/7", "page=2"), ("/items/" + "x" * 5000, "page=2")):
        for caller in (None, root, NonRecordingSpan(remote), NonRecordingSpan(stateless)):
            for handed_down in (None, inherited):
                span = call(set_span_in_context(caller) if caller is not None else None)
                span._own, span._path, span._query = NOTHING_OWN, path, query
                if span._trace.far is not None:
                    span._trace.far.inherited = handed_down
                elif handed_down is not None:
                    span.own()["client.address"] = "10.0.0.1"
                yield span


def test_a_span_is_encoded_alike_whatever_was_encoded_before_it() -> None:
    attributes = {"http.request.method": "GET", "server.address": "shop", "server.port": 80}
    spans = _calls(Shared(attributes))
    alone = []
    for span in spans:
        span._shared = Shared(attributes)
        alone.append(decoded(encode_spans([span])))
        if span._path is not None:
            said = [(each.key, each.value.string_value or each.value.int_value) for each in alone[-1][0].attributes]
            assert sorted(said) == sorted(span.attributes.items())
    shared = Shared(attributes)
    for span in spans:
        span._shared = shared
    usual = spans[0]
    for span, expected in zip(spans, alone, strict=True):
        for batch in ([span], [usual, span], [span, usual], [span, span]):
            found = decoded(encode_spans(batch))
            assert [found[each] for each in range(len(batch))] == [
                expected[0] if each is span else alone[0][0] for each in batch
            ], span
    assert shared.frame is not None


def decoded(request: bytes) -> list[Any]:
    """The spans of a request."""
    return [span for found in ExportTraceServiceRequest.FromString(request).resource_spans for span in found.scope_spans[0].spans]
