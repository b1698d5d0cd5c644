"""How the cost of a span grows: with its attributes, with the spans of its trace, with the threads that make spans.

    python benchmarks/growth.py

Microseconds of CPU per span, encoding included, export left out (an exporter that throws the bytes away).
"""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

ATTRIBUTES = (0, 1, 2, 4, 8, 16, 32, 64, 128)
TRACES = (1, 10, 100, 1_000, 10_000, 100_000)
THREADS = (1, 2, 4, 8, 16, 32, 64)


def child(kind: str, size: int) -> None:
    """Print the microseconds per span for one point of one curve."""
    import lighttrace

    # The worker encodes; nothing listens on the discard port, and a refused connection costs next to nothing.
    lighttrace.init(service="bench", exporter="none")
    from opentelemetry import trace

    from lighttrace import runtime
    from lighttrace.export.encoder import encode_spans
    from lighttrace.tracing.span import Span

    active = runtime.active()
    assert active is not None
    ended: list[Any] = []
    active.pipeline.put = ended.append
    tracer = trace.get_tracer("bench")
    attributes = {f"key.{i}": f"value {i}" for i in range(size if kind == "attributes" else 8)}

    def spans(count: int) -> None:
        for _ in range(count):
            with tracer.start_as_current_span("work", attributes=attributes):
                pass

    def encode() -> None:
        batch: list[Span] = list(ended)
        ended.clear()
        for start in range(0, len(batch), 512):
            encode_spans(batch[start : start + 512])

    def run(total: int = 8000) -> int:
        if kind == "attributes":
            spans(4000)
            return 4000
        if kind == "trace":
            total = max(size, 4000)
            for _ in range(total // size):
                with tracer.start_as_current_span("root"):
                    for start in range(0, size - 1, 512):
                        spans(min(512, size - 1 - start))
                        encode()  # as the worker does, which does not wait for the trace's end
            return total // size * size
        share[0] = total // size
        begin.wait()
        done.wait()
        return share[0] * size

    def work() -> None:
        while True:
            begin.wait()
            spans(share[0])
            done.wait()

    # What it costs to start a thread is no cost of a span: they are there before. Nor is what it costs them to meet, 128
    # switches of 64 threads: a run without spans is subtracted.
    share = [0]
    begin, done = threading.Barrier(size + 1), threading.Barrier(size + 1)
    for _ in range(size if kind == "threads" else 0):
        threading.Thread(target=work, daemon=True).start()

    figures = []
    for _ in range(7):
        begun = time.process_time()
        count = run()
        encode()
        took = time.process_time() - begun
        if kind == "threads":
            begun = time.process_time()
            run(0)
            took -= time.process_time() - begun
        figures.append(took / count * 1e6)
    print(json.dumps(statistics.median(figures[1:])), flush=True)
    os._exit(0)


def measure(rounds: int = 2) -> dict[str, list[tuple[int, float]]]:
    """The three curves; of the rounds, the one that was disturbed least."""
    least: dict[tuple[str, int], float] = {}
    for _ in range(rounds):
        for kind, sizes in (("attributes", ATTRIBUTES), ("trace", TRACES), ("threads", THREADS)):
            for size in sizes:
                command = [sys.executable, os.path.abspath(__file__), kind, str(size)]
                figure = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                least[kind, size] = min(figure, least.get((kind, size), figure))
    curves: dict[str, list[tuple[int, float]]] = {}
    for (kind, size), figure in least.items():
        curves.setdefault(kind, []).append((size, figure))
    return curves


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1], int(sys.argv[2]))
    for name, points in measure().items():
        print(f"{name:12}" + "  ".join(f"{size}: {cost:.2f} us" for size, cost in points))
