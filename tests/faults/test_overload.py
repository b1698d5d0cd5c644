"""Rows 8 and 9: what happens to memory, and to which spans, when there is more than the exporter can send."""

import gc
import time
import tracemalloc
import weakref
from typing import Any

import pytest
from opentelemetry import trace

import lighttrace
from lighttrace import config, export, semconv
from lighttrace.export.encoder import encode_spans
from lighttrace.export.exporter import ARRIVED, Outcome
from lighttrace.export.queue import SpanQueue
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider
from tests.faults.backend import HANG, OK, Backend, slow
from tests.faults.conftest import Record
from tests.faults.programs import Program


def traced(backend: Backend, **options: Any) -> tuple[Any, Any]:
    queue = export.build(config.load(environ={}, endpoint=backend.endpoint, schedule_delay=0.05, **options))
    return queue, TracerProvider(Pipeline({"service.name": "s"}, put=queue.put)).get_tracer("t")


def make(tracer: Any, name: str, kind: trace.SpanKind, parent: Any = None, error: bool = False) -> Any:
    span = tracer.start_span(name, trace.set_span_in_context(parent) if parent is not None else None, kind)
    if error:
        span.set_status(trace.StatusCode.ERROR)
    return span


def test_every_error_and_every_entry_arrives_at_ten_times_what_can_be_sent(backend: Backend, record: Record) -> None:
    backend.answer = slow(0.1)  # 100 spans a tenth of a second
    queue, tracer = traced(backend, queue_size=1000, batch_size=100)
    ended = {"call": 0, "work": 0, "failed": 0, "GET /": 0}
    until = time.monotonic() + 2.0
    number = 0
    begun = time.monotonic()
    while (now := time.monotonic()) < until:
        while number < (now - begun) * 500:  # requests, of twenty spans each: ten times as many spans as can be sent
            number += 1
            root = make(tracer, "GET /", trace.SpanKind.SERVER)
            for index in range(19):
                failed = index == 7 and number % 10 == 0
                kind = trace.SpanKind.INTERNAL if index % 5 == 0 else trace.SpanKind.CLIENT
                name = "failed" if failed else "work" if index % 5 == 0 else "call"
                make(tracer, name, kind, root, failed).end()
                ended[name] += 1
            root.end()
            ended["GET /"] += 1
        backend.wait_for(lambda: True, 0.01)
    backend.answer = OK
    assert queue.flush(10)
    assert queue.shutdown(5)
    arrived = backend.names()
    stats = queue.stats()
    assert stats["exported"] + stats["dropped"]["queue_full"] == sum(ended.values())
    assert stats["dropped"]["queue_full"] > sum(ended.values()) / 2
    assert arrived["failed"] == ended["failed"]
    assert arrived["GET /"] == ended["GET /"]
    assert arrived["work"] <= ended["work"]
    # Told: on the batches that follow.
    told = [request.resource.get(semconv.DROPPED_SPANS) for request in backend.requests]
    assert max(count for count in told if count) <= stats["dropped"]["queue_full"]
    record(
        9,
        "ten times as many spans as can be sent, one in two hundred of them failed",
        f"{stats['dropped']['queue_full']} of {sum(ended.values())} were dropped, none of them failed or the entry of a request; "
        "counted, told in the log and on the next batch",
        _theirs(),
    )


def _theirs() -> str:
    """The same load through opentelemetry's processor."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider as StockProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    with Backend(slow(0.1)) as backend:
        provider = StockProvider(shutdown_on_exit=False)
        provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(backend.endpoint + "/v1/traces"), max_queue_size=1000, max_export_batch_size=100,
                schedule_delay_millis=50,
            )
        )  # fmt: skip
        tracer = provider.get_tracer("t")
        ended = failed = 0
        begun = time.monotonic()
        while (now := time.monotonic()) < begun + 2.0:
            while ended < (now - begun) * 10_000:
                error = ended % 200 == 0
                make(tracer, "failed" if error else "call", trace.SpanKind.CLIENT, error=error).end()
                ended += 1
                failed += error
            backend.wait_for(lambda: True, 0.01)
        backend.answer = OK
        provider.force_flush(10_000)
        provider.shutdown()
        lost = failed - backend.names()["failed"]
    return f"{lost} of the {failed} failed ones were lost with the others" if lost else "no failed one was lost"


def test_errors_go_only_when_the_queue_holds_nothing_else(backend: Backend) -> None:
    backend.answer = HANG
    queue, tracer = traced(backend, queue_size=100, batch_size=10, export_timeout=60)
    root = make(tracer, "root", trace.SpanKind.SERVER)
    for _ in range(10):
        make(tracer, "on its way", trace.SpanKind.CLIENT, root).end()
    assert backend.wait_for(lambda: backend.requests)
    for number in range(400):
        make(tracer, "error", trace.SpanKind.CLIENT, root, error=True).end()
        make(tracer, "call", trace.SpanKind.CLIENT, root).end()
        make(tracer, "work", trace.SpanKind.INTERNAL, root).end()
        waiting = queue.waiting()
        errors = sum(span._status == 2 for span in waiting)
        if number < 60:
            assert errors == number + 1
        elif errors < number + 1:  # some had to go: nothing else was left when they went
            assert len(waiting) - errors <= 3 * 100 // 8 + 3
    assert len(queue.waiting()) <= 100
    assert not queue.shutdown(0.2)


@pytest.mark.parametrize("text", [100, 20_000])
def test_memory_stays_within_the_bound_while_the_backend_hangs(text: int, backend: Backend) -> None:
    backend.answer = HANG
    bound = 8 << 20
    queue, tracer = traced(backend, queue_bytes=bound, batch_size=64, export_timeout=60)
    for _ in range(64):
        tracer.start_span("on its way").end()
    assert backend.wait_for(lambda: backend.requests)
    gc.collect()
    tracemalloc.start()
    try:
        most = 0
        for number in range(20_000):
            tracer.start_span("s", attributes={"text": f"{number}" + "x" * text, "b": number}).end()
            if number % 500 == 0:
                most = max(most, tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert most < bound * 1.25
    assert sum(queue.stats()["dropped"].values()) > 10_000
    assert not queue.shutdown(0.2)


class Clockwork:
    """An exporter whose backend is down for an hour, of which a batch's thirty seconds take no time."""

    def __init__(self) -> None:
        self.back = False

    def prepare(self, batch: list[Any], extra: dict[str, Any] | None, broken: list[Any] | None = None) -> bytes:
        return encode_spans(batch, extra, broken)

    def send(self, payload: bytes, timeout: float) -> Outcome:
        return ARRIVED if self.back else Outcome("timeout: nobody answers")

    def close(self) -> None:
        """Nothing to close."""


def test_an_hour_of_outage_costs_no_memory_and_ends_with_spans_that_arrive(
    caplog: pytest.LogCaptureFixture, record: Record
) -> None:
    exporter = Clockwork()
    queue = SpanQueue(lambda: exporter, batch_size=512, delay=0.01)
    tracer = TracerProvider(Pipeline({"service.name": "s"}, put=queue.put)).get_tracer("t")
    sizes = []
    tracemalloc.start()
    try:
        for cycle in range(125):
            exporter.back = cycle >= 120  # batches of half a minute each: an hour
            for number in range(512):
                tracer.start_span(f"s{number}", attributes={"a": f"{cycle} {number}"}).end()
            assert queue.flush(10)
            if cycle % 20 == 10:
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    stats = queue.stats()
    assert (stats["exported"], stats["dropped"]) == (5 * 512, {"timeout": 120 * 512})
    assert max(sizes[2:]) - sizes[1] < 300_000, sizes
    assert len([entry for entry in caplog.records if "cannot be delivered" in entry.message]) == 1
    assert len([entry for entry in caplog.records if "delivered again" in entry.message]) == 1
    assert queue.shutdown(5)
    record(8, "an hour of outage, simulated", "memory stays flat; one log line when it began, one when it was over", "")


def test_nothing_of_ours_pins_a_request_a_response_or_a_traceback(backend: Backend) -> None:
    class Thing:
        def __str__(self) -> str:
            return "a thing"

    class Failure(Exception):
        pass

    seen = []
    lighttrace.init(service="s", endpoint=backend.endpoint)
    try:
        tracer = trace.get_tracer("t")

        @lighttrace.trace
        def handle(request: Thing) -> None:
            response = Thing()
            seen.append(weakref.ref(response))
            with tracer.start_as_current_span("inside", attributes={"thing": request}) as span:  # type: ignore[dict-item]
                span.add_event("event", {"thing": response})  # type: ignore[dict-item]
                error = Failure("no")
                seen.append(weakref.ref(error))
                raise error

        for _ in range(3):
            request = Thing()
            seen.append(weakref.ref(request))
            try:
                handle(request)
            except Failure:
                pass
            del request
        gc.collect()
        assert [reference() for reference in seen] == [None] * 9  # already before anything was sent
    finally:
        lighttrace.shutdown()
    assert backend.names()["inside"] == 3


FLAT = """
import gc, json, sys, tracemalloc
import lighttrace
from opentelemetry import trace
lighttrace.init(service="flat")
tracer = trace.get_tracer("flat")

@lighttrace.trace
def work(n):
    if n % 10 == 0:
        raise ValueError(f"number {n}")

def calls(first, count):
    for n in range(first, first + count):
        with tracer.start_as_current_span("GET /", attributes={"url.path": f"/{n}", "n": n}):
            try:
                work(n)
            except ValueError:
                pass
        if n % 400 == 0:
            lighttrace.flush(10)
calls(0, 20_000)
lighttrace.flush(10)
tracemalloc.start()
sizes = []
for part in range(5):
    calls(20_000 + part * 10_000, 10_000)
    lighttrace.flush(10)
    gc.collect()
    sizes.append(tracemalloc.get_traced_memory()[0])
print(json.dumps({"sizes": sizes}))
"""


@pytest.mark.slow
def test_fifty_thousand_calls_are_flat_in_memory(backend: Backend, record: Record) -> None:
    done = Program("-c", FLAT, OTEL_EXPORTER_OTLP_ENDPOINT=backend.endpoint).wait(100)
    sizes = done.said[0]["sizes"]
    assert max(sizes[1:]) - sizes[0] < 150_000, sizes
    assert done.log == []
    record(
        8,
        "50,000 calls, a tenth of which fail",
        f"{max(0, max(sizes[1:]) - sizes[0])} bytes more after the last than after the first",
        "",
    )


CYCLES = """
import gc, json, os, threading
import lighttrace
from opentelemetry import trace

def cycle():
    lighttrace.init(service="cycle")
    with lighttrace.span("s", n=1):
        pass
    assert lighttrace.flush(10)
    lighttrace.shutdown()

def now():
    gc.collect()
    kept = sum(type(found).__name__ in ("Runtime", "SpanQueue", "HttpExporter", "Pipeline", "TracerProvider") for found in gc.get_objects())
    return {"files": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(), "objects": len(gc.get_objects()), "kept": kept}

for _ in range(10):
    cycle()
before = now()
for _ in range(100):
    cycle()
print(json.dumps({"before": before, "after": now()}))
"""


@pytest.mark.slow
def test_a_hundred_cycles_of_init_and_shutdown_leave_nothing_behind(backend: Backend, record: Record) -> None:
    done = Program("-c", CYCLES, OTEL_EXPORTER_OTLP_ENDPOINT=backend.endpoint).wait(100)
    assert done.code == 0, done.log
    before, after = done.said[0]["before"], done.said[0]["after"]
    assert after["files"] == before["files"]
    assert after["threads"] == before["threads"]
    assert after["kept"] == before["kept"]
    assert after["objects"] - before["objects"] < 500, (before, after)
    assert len(backend.arrived) == 110
    record(8, "a hundred cycles of init and shutdown", "no file descriptor, no thread and no object is left behind", "")


REQUESTS = """
import gc, json, os, resource, threading
import lighttrace
lighttrace.init(service="requests", exclude=["/healthz"])
from flask import Flask
app = Flask("app")

@app.get("/items/<int:number>")
def item(number):
    with lighttrace.span("look up", number=number):
        if number % 100 == 0:
            raise KeyError(number)
    return "ok"

app.config["PROPAGATE_EXCEPTIONS"] = False
app.logger.disabled = True
environ = {
    "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "QUERY_STRING": "a=1", "SERVER_NAME": "here", "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http", "wsgi.input": None, "wsgi.errors": None,
}

def requests(first, count):
    for number in range(first, first + count):
        own = dict(environ, PATH_INFO=f"/items/{number}")
        result = app(own, lambda status, headers, error=None: None)
        b"".join(result)
        close = getattr(result, "close", None)
        if close:
            close()
        if number % 500 == 0:
            lighttrace.flush(10)

def now():
    lighttrace.flush(10)
    gc.collect()
    return {"files": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(), "objects": len(gc.get_objects()),
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}

requests(0, 20_000)
before = now()
requests(20_000, 100_000)
print(json.dumps({"before": before, "after": now()}))
"""


@pytest.mark.slow
def test_a_hundred_thousand_requests_leave_nothing_behind(backend: Backend, record: Record) -> None:
    done = Program("-c", REQUESTS, OTEL_EXPORTER_OTLP_ENDPOINT=backend.endpoint).wait(110)
    assert done.code == 0, done.log
    before, after = done.said[0]["before"], done.said[0]["after"]
    assert after["files"] == before["files"]
    assert after["threads"] == before["threads"]
    assert after["objects"] - before["objects"] < 2000, (before, after)
    assert after["memory"] - before["memory"] < 4096, (before, after)  # KiB, at the peak
    assert backend.names()["GET /items/<int:number>"] == 120_000
    record(
        8,
        "100,000 requests of a Flask application",
        f"no file descriptor and no thread more, {(after['memory'] - before['memory']) / 1024:.1f} MiB more at the peak",
        "",
    )
