"""A program under load, traced by one tracer or the other: `python loaded.py lighttrace|opentelemetry SECONDS`.

Requests of one span and a child, a few hundred a second. On standard output, when the load is over: one JSON object with the
slowest request in seconds and how many spans ended; one with how long a flush of half a second took, what it said and the time;
and, once the tracer has stopped at the interpreter's exit, the books of LightTrace. The log goes to standard error.
"""

import atexit
import json
import logging
import sys
import time


def main(tracer_name: str, seconds: float) -> None:
    logging.basicConfig(format="%(name)s: %(message)s")
    from opentelemetry import trace

    if tracer_name == "lighttrace":
        import lighttrace
        from lighttrace import runtime

        atexit.register(lambda: print(json.dumps(queue.stats() | {"repeated": queue.repeated}), flush=True))
        lighttrace.init(service="loaded")
        queue = runtime.active().queue  # type: ignore[union-attr]  # it is on
        flush = lighttrace.flush
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)

        def flush(timeout: float) -> bool:
            return provider.force_flush(int(timeout * 1000))

    tracer = trace.get_tracer("loaded")
    slowest, ended = 0.0, 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.perf_counter()
        with tracer.start_as_current_span("request", kind=trace.SpanKind.SERVER):
            with tracer.start_as_current_span("call", kind=trace.SpanKind.CLIENT, attributes={"a": 1, "b": "two"}):
                pass
        slowest = max(slowest, time.perf_counter() - begun)
        ended += 2
        time.sleep(0.002)
    print(json.dumps({"slowest": slowest, "ended": ended}), flush=True)
    begun = time.perf_counter()
    flushed = flush(0.5)
    print(json.dumps({"flush": time.perf_counter() - begun, "flushed": flushed, "now": time.time()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
