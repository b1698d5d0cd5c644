"""What a request of the traced program costs while its backend cannot keep up, beside an exporter that has nothing to do.

    python benchmarks/overload.py [--tracers lighttrace,otel] [--rounds 5] [--seconds 3]

Requests of twenty spans and 0.2 ms of the program's own work, at a steady 200 a second: 4,000 spans a second. `idle`: the
exporter throws them away. `keeps up`: the backend answers at once. `overload`: it answers so slowly that a tenth of the
spans can be sent, and the queue is full all the time. `hangs`: it never answers. Cases take turns within a round; printed
are the medians of the rounds' 50th, 99th and 99.9th percentiles, and the 99th as a share of the idle one of the same round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RATE = 200  # requests a second
SPANS = 20  # of a request
BATCH = 512
CASES = ("idle", "keeps up", "overload", "hangs")
SECONDS_A_BATCH = {"keeps up": 0.0, "overload": BATCH / (RATE * SPANS / 10), "hangs": 3600.0}


def serve(seconds: float) -> None:
    """A backend in this process that takes so long for each batch."""
    sys.path.insert(0, HERE)
    import http.server

    from sink import Sink

    class Slow(Sink):
        def answer(self) -> None:
            time.sleep(seconds)
            super().answer()

        do_POST = answer

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


def load(tracer: str, case: str, port: str, seconds: float) -> None:
    """The program: prints the percentiles of its requests' durations in microseconds, and leaves without waiting."""
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
    import logging

    from opentelemetry import trace

    logging.disable(logging.CRITICAL)
    if tracer == "lighttrace":
        import lighttrace

        lighttrace.init(service="bench", **({"exporter": "none"} if case == "idle" else {}))
    else:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

        class Nothing(SpanExporter):
            def export(self, spans: object) -> SpanExportResult:
                return SpanExportResult.SUCCESS

        if case == "idle":
            exporter: SpanExporter = Nothing()
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
    make = trace.get_tracer("bench").start_as_current_span

    def request(number: int) -> None:
        with make("GET /", kind=trace.SpanKind.SERVER, attributes={"url.path": f"/{number}", "http.request.method": "GET"}):
            until = time.perf_counter() + 0.0002
            for index in range(SPANS - 1):
                with make("call", kind=trace.SpanKind.CLIENT, attributes={"server.address": "db", "n": index}):
                    pass
            while time.perf_counter() < until:
                pass

    times = []
    warm, begun, number = 3.0, time.perf_counter(), 0  # until the queue is full
    while (now := time.perf_counter() - begun) < warm + seconds:
        due = number / RATE
        if now < due:
            time.sleep(due - now)
        before = time.perf_counter()
        request(number)
        if now > warm:
            times.append((time.perf_counter() - before) * 1e6)
        number += 1
    times.sort()
    print(json.dumps([times[int(len(times) * part)] for part in (0.5, 0.99, 0.999)]), flush=True)
    os._exit(0)


def once(tracer: str, case: str, seconds: float) -> list[float]:
    """Percentiles of one run, against a backend of its own."""
    me = [sys.executable, os.path.abspath(__file__)]
    sink = subprocess.Popen(
        [*me, "--serve", str(SECONDS_A_BATCH.get(case, 0.0))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert sink.stdout is not None
        port = sink.stdout.readline().strip()
        done = subprocess.run([*me, "--load", tracer, case, port, str(seconds)], capture_output=True, text=True, check=True)
        return [float(value) for value in json.loads(done.stdout)]
    finally:
        sink.kill()
        sink.wait()


def measure(tracer: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """By case: the percentiles, and the 99th as a share of the idle one; medians of the rounds."""
    found: dict[str, list[list[float]]] = {case: [] for case in CASES}
    for _ in range(rounds):
        for case in CASES:
            found[case].append(once(tracer, case, seconds))
    figures = {}
    for case, runs in found.items():
        shares = [run[1] / idle[1] for run, idle in zip(runs, found["idle"], strict=True)]
        figures[case] = [*(statistics.median(values) for values in zip(*runs, strict=True)), statistics.median(shares)]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tracers", default="lighttrace,otel")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    print(f"{'µs a request of 20 spans':28}{'p50':>10}{'p99':>10}{'p99.9':>10}{'p99 / idle':>12}")
    for tracer in options.tracers.split(","):
        for case, (median, high, highest, share) in measure(tracer, options.rounds, options.seconds).items():
            print(f"{tracer + ', ' + case:28}{median:10.0f}{high:10.0f}{highest:10.0f}{share:12.2f}")


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(float(sys.argv[2]))
    elif "--load" in sys.argv:
        load(sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5]))
    else:
        main()
