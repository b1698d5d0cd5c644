"""The OTLP encoder: microseconds of CPU per span, ours and the stock exporter's, and what a whole batch costs to send.

    python benchmarks/encoder.py [--rounds 30] [--json]

A batch of 512 spans of one program, eight attributes each, is encoded over and over; the lower quartile of the rounds
counts. `cached` has values that repeat, as routes and hosts do. `half new` has four of eight values that are different
on every span of every batch: what no cache can help with. `mixed` has bools and floats among them. `events` has an
exception recorded on every span. The stock encoder is opentelemetry-exporter-otlp-proto-common, serialised to bytes.
"""

import argparse
import gc
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as stock
from opentelemetry.sdk.trace import TracerProvider as StockProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lighttrace.export.encoder import encode_spans
from lighttrace.tracing.owner import owner
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider

BATCH = 512


def cached(i: int) -> dict[str, Any]:
    return {
        "http.request.method": "GET", "http.route": f"/orders/{i % 7}", "url.scheme": "https", "server.address": "example.com",
        "server.port": 443, "http.response.status_code": 200, "network.protocol.version": "1.1", "user_agent.original": "curl/8",
    }  # fmt: skip


def half_new(i: int) -> dict[str, Any]:
    return {
        **cached(i), "http.route": f"/orders/{i}", "server.port": i, "app.customer": f"customer-{i}", "user_agent.original": f"c{i}"
    }  # fmt: skip


def mixed(i: int) -> dict[str, Any]:
    return {**cached(i), "server.port": i % 3 == 0, "http.response.status_code": i / 3}


SHAPES: dict[str, Callable[[int], dict[str, Any]]] = {"cached": cached, "half new": half_new, "mixed": mixed, "events": cached}


def program(provider: Any, shape: str, first: int) -> None:
    """End one batch of spans, requests of five spans each."""
    tracer = provider.get_tracer("bench")
    make = SHAPES[shape]
    for i in range(first, first + BATCH):
        if i % 5 == 0:
            with tracer.start_as_current_span("POST /orders", attributes=make(i)):
                pass
            continue
        with tracer.start_as_current_span("GET", attributes=make(i)) as span:
            if shape == "events":
                span.add_event(
                    "exception", {"exception.type": "ValueError", "exception.message": "no", "exception.stacktrace": "at"}
                )


def our_batches(shape: str, count: int) -> list[list[Any]]:
    """Spans of ours. Each batch holds new objects, as from a running program."""
    spans: list[Any] = []
    provider = TracerProvider(Pipeline({"service.name": "bench"}, put=spans.append, default_owner=owner("bench", "service")))
    for number in range(count):
        program(provider, shape, number * BATCH)
    return [spans[start : start + BATCH] for start in range(0, len(spans), BATCH)]


def their_batches(shape: str, count: int) -> list[Any]:
    """Spans of the stock SDK."""
    memory = InMemorySpanExporter()
    provider = StockProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    for number in range(count):
        program(provider, shape, number * BATCH)
    spans = memory.get_finished_spans()
    return [spans[start : start + BATCH] for start in range(0, len(spans), BATCH)]


def measure(encode: Callable[[Any], bytes], batches: list[Any]) -> float:
    """Microseconds of this thread's CPU per span."""
    encode(batches[0])
    times = []
    gc.collect()
    gc.disable()
    try:
        for batch in batches[1:]:
            begun = time.thread_time_ns()
            encode(batch)
            times.append(time.thread_time_ns() - begun)
    finally:
        gc.enable()
    times.sort()
    return times[len(times) // 4] / BATCH / 1000


def measure_sending(rounds: int) -> tuple[float, float]:
    """Microseconds of CPU to encode and send one batch over a kept connection, and of that, to send it."""
    import socket

    from lighttrace import config
    from lighttrace.export.http import HttpExporter

    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listening.accept()
        with peer:
            left = 0
            data = b""
            while True:
                more = peer.recv(1 << 20)
                if not more:
                    return
                if left:
                    left -= len(more)
                else:
                    data += more
                    end = data.find(b"\r\n\r\n")
                    if end < 0:
                        continue
                    length = int(data.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
                    left, data = length - (len(data) - end - 4), b""
                if not left:
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    exporter = HttpExporter(config.load(environ={}, endpoint=f"http://127.0.0.1:{listening.getsockname()[1]}").otlp)
    (batch, *_) = our_batches("cached", 1)
    whole, sending = [], []
    for _ in range(rounds):
        begun = time.thread_time_ns()
        payload = exporter.prepare(batch, None)
        middle = time.thread_time_ns()
        outcome = exporter.send(payload, 5)
        ended = time.thread_time_ns()
        assert not outcome.reason, outcome.reason
        whole.append(ended - begun)
        sending.append(ended - middle)
    exporter.close()
    thread.join()
    listening.close()
    return sorted(whole)[rounds // 4] / 1000, sorted(sending)[rounds // 4] / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for shape in SHAPES:
        ours = measure(encode_spans, our_batches(shape, options.rounds))
        theirs = measure(lambda batch: stock(batch).SerializeToString(), their_batches(shape, max(4, options.rounds // 4)))
        figures[shape] = {"ours_us": ours, "stock_us": theirs, "times_faster": theirs / ours}
    whole, sending = measure_sending(200)
    figures["batch"] = {"encode_and_send_us": whole, "send_us": sending}
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{'us per span':14}{'ours':>8}{'stock':>8}{'times faster':>15}")
    for shape in SHAPES:
        row = figures[shape]
        print(f"{shape:14}{row['ours_us']:8.2f}{row['stock_us']:8.1f}{row['times_faster']:15.1f}")
    print(f"one batch of {BATCH}: {whole:.0f} us to encode and send, of which {sending:.0f} us to send")


if __name__ == "__main__":
    main()
