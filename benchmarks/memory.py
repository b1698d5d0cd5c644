"""Peak memory of a full queue: 10,000 ended spans with eight attributes each, waiting to be sent.

    python benchmarks/memory.py

Measured with tracemalloc in a process of its own per tracer: what the spans and their queue hold, not the interpreter.
The attributes' values are made anew for each span, as a program's are.
"""

import json
import os
import subprocess
import sys
import tracemalloc
from typing import Any

SPANS = 10_000


def fill(make: Any) -> None:
    """End that many spans."""
    for i in range(SPANS):
        attributes = {
            "http.request.method": "GET", "url.full": f"http://example.com/a/{i}?c=d", "server.address": "example.com",
            "server.port": 443, "http.response.status_code": 200, "network.protocol.version": "1.1",
            "app.customer": f"customer-{i}", "user_agent.original": "python-requests/2.3",
        }  # fmt: skip
        with make("GET", attributes=attributes):
            pass


def child(tracer: str) -> None:
    """Print the bytes held by a full queue of one tracer, whose backend is never asked."""
    os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] = str(SPANS)
    os.environ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] = str(SPANS)
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "600000"
    from opentelemetry import trace

    if tracer == "lighttrace":
        import lighttrace

        os.environ["LIGHTTRACE_EXIT_TIMEOUT"] = "0.1"
        lighttrace.init(service="bench", exporter="memory", batch_size=SPANS * 2, queue_size=SPANS * 2)
    else:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        provider = TracerProvider()
        provider.add_span_processor(
            BatchSpanProcessor(ConsoleSpanExporter(), max_queue_size=SPANS * 2, max_export_batch_size=SPANS * 2)
        )
        trace.set_tracer_provider(provider)
    make = trace.get_tracer("bench").start_as_current_span
    with make("warm up"):
        pass
    tracemalloc.start()
    fill(make)
    print(json.dumps(tracemalloc.get_traced_memory()[1]), flush=True)
    os._exit(0)


def measure() -> dict[str, int]:
    """Bytes by tracer."""
    figures = {}
    for tracer in ("lighttrace", "otel"):
        done = subprocess.run([sys.executable, os.path.abspath(__file__), tracer], capture_output=True, text=True, check=True)
        figures[tracer] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1])
    measured = measure()
    for name, size in measured.items():
        print(f"{name:12}{size / SPANS:10.0f} bytes a span{size / 2**20:10.1f} MiB")
    print(f"ratio       {measured['lighttrace'] / measured['otel']:10.2f}")
