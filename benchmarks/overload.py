"""What a request of the traced program costs while its backend cannot keep up, beside an exporter that has nothing to do.

    python benchmarks/overload.py [--tracers lighttrace,otel] [--rounds 5] [--seconds 3] [--work 2000]

Requests of twenty spans and as many pieces of the program's own work, `--work` microseconds in all, at a steady 200 a
second: 4,000 spans a second. `idle`: the exporter throws them away. `keeps up`: the backend answers at once. `overload`:
it answers so slowly that a tenth of the spans can be sent, and the queue is full all the time. `hangs`: it never answers.
Each case runs at the same time as an idle one, each process (with its exporter's thread) held to one processor, then the
two change places; the shares are the means of both, so that what else the machine does falls on both. The idle one beside
itself shows how much noise is left. Printed are medians of the rounds.
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
A_MICROSECOND = 75  # numbers to add up; about
CALL = b"\x2a\x04call"  # the name of all but the first span of a request, as it stands on the wire
CASES = ("idle", "keeps up", "overload", "hangs")
SECONDS_A_SPAN = {"keeps up": 0.0, "overload": 10 / (RATE * SPANS), "hangs": 3600.0}


def serve(seconds: float) -> None:
    """A backend in this process that takes so long for each span."""
    sys.path.insert(0, HERE)
    import http.server

    from sink import Sink

    class Slow(Sink):
        def answer(self) -> None:
            calls = self.rfile.read(int(self.headers["content-length"])).count(CALL)
            self.headers.replace_header("content-length", "0")  # what is left of it
            time.sleep(seconds * calls * SPANS / (SPANS - 1))
            super().answer()

        do_POST = answer

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


def load(tracer: str, case: str, port: str, seconds: float, work: float, cpu: int) -> None:
    """The program: prints the percentiles of its requests' durations in microseconds, and leaves without waiting."""
    os.sched_setaffinity(0, {cpu})
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
    piece = range(int(work * A_MICROSECOND / (SPANS - 1)))

    def request(number: int) -> None:
        # The same work each time, and not until a moment: a wait would hide what happens to spans while it lasts.
        with make("GET /", kind=trace.SpanKind.SERVER, attributes={"url.path": f"/{number}", "http.request.method": "GET"}):
            for index in range(SPANS - 1):
                with make("call", kind=trace.SpanKind.CLIENT, attributes={"server.address": "db", "n": index}):
                    sum(piece)

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
    print(json.dumps([times[int(len(times) * part)] for part in (0.5, 0.99)]), flush=True)
    os._exit(0)


def pair(tracer: str, cases: tuple[str, str], cpus: tuple[int, int], options: argparse.Namespace) -> list[list[float]]:
    """Percentiles of two runs at the same time, each on a processor of its own and against a backend of its own."""
    me = [sys.executable, os.path.abspath(__file__)]
    sinks, runs = [], []
    try:
        for case in cases:
            sink = [*me, "--serve", str(SECONDS_A_SPAN.get(case, 0.0))]
            sinks.append(subprocess.Popen(sink, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        for case, cpu, sink_process in zip(cases, cpus, sinks, strict=True):
            assert sink_process.stdout is not None
            port = sink_process.stdout.readline().strip()
            load = [*me, "--load", tracer, case, port, str(options.seconds), str(options.work), str(cpu)]
            runs.append(subprocess.Popen(load, stdout=subprocess.PIPE, text=True))
        return [[float(value) for value in json.loads(run.communicate()[0])] for run in runs]
    finally:
        for process in (*runs, *sinks):
            process.kill()
            process.wait()


def measure(tracer: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """By case: the percentiles, and each as a share of the idle exporter's beside it; medians of the rounds."""
    here, there, *_ = sorted(os.sched_getaffinity(0)) * 2
    found: dict[str, list[list[float]]] = {case: [] for case in CASES}
    for _ in range(options.rounds):
        for case in CASES:
            # Each has each processor once: what else happens on them, and which is the faster one, cancels out.
            (one, idle), (other, calm) = (pair(tracer, (case, "idle"), cpus, options) for cpus in ((here, there), (there, here)))
            values = [statistics.mean(both) for both in zip(one, other, strict=True)]
            shares = [(a * b / c / d) ** 0.5 for a, b, c, d in zip(one, other, idle, calm, strict=True)]
            found[case].append(values + shares)
    return {case: [statistics.median(values) for values in zip(*runs, strict=True)] for case, runs in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tracers", default="lighttrace,otel")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--work", type=float, default=2000)
    options = parser.parse_args()
    print(f"{'µs a request of 20 spans':28}{'p50':>10}{'p99':>10}{'p50 / idle':>12}{'p99 / idle':>12}")
    for tracer in options.tracers.split(","):
        for case, (median, high, *shares) in measure(tracer, options).items():
            print(f"{tracer + ', ' + case:28}{median:10.0f}{high:10.0f}{shares[0]:12.2f}{shares[1]:12.2f}")


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(float(sys.argv[2]))
    elif "--load" in sys.argv:
        load(sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5]), float(sys.argv[6]), int(sys.argv[7]))
    else:
        main()
