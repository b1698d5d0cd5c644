"""One way of switching each tracer on. `start` runs before the libraries under test are imported and gives a function
that returns when everything recorded so far has been sent. Every tracer sends each span to the sink over HTTP."""

import importlib
import logging
import os
from collections.abc import Callable

INSTRUMENTORS = {
    "flask": "FlaskInstrumentor",
    "fastapi": "FastAPIInstrumentor",
    "sqlite3": "SQLite3Instrumentor",
    "psycopg": "PsycopgInstrumentor",
    "requests": "RequestsInstrumentor",
    "httpx": "HTTPXClientInstrumentor",
}


def start(name: str, port: str, workload: str) -> Callable[[], object]:
    """Switch tracer `name` on for a workload."""
    logging.disable(logging.CRITICAL)
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http,database"
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
    os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    if workload == "unsampled":
        os.environ["OTEL_TRACES_SAMPLER"] = "always_off"
    if workload.endswith("_excluded"):
        os.environ["OTEL_PYTHON_EXCLUDED_URLS"] = "healthz"
    return STARTS[name](port, workload)


def start_none(port: str, workload: str) -> Callable[[], object]:
    return lambda: None


def start_lighttrace(port: str, workload: str) -> Callable[[], object]:
    import lighttrace

    lighttrace.init(service="bench", team="bench-team", exclude=["/healthz"])
    return lambda: lighttrace.flush(30)


def start_bare(port: str, workload: str) -> Callable[[], object]:
    import bare

    return _stand_in(bare.instrument, workload)


def start_asking(port: str, workload: str) -> Callable[[], object]:
    import asking

    return _stand_in(asking.instrument, workload)


def _stand_in(instrument: Callable[[str], None], workload: str) -> Callable[[], object]:
    """LightTrace with another instrumentation in the place of its own."""
    import bare

    import lighttrace

    lighttrace.init(service="bench", team="bench-team", disable=bare.DISABLED)
    instrument(workload)
    return lambda: lighttrace.flush(30)


def start_otel(port: str, workload: str) -> Callable[[], object]:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "bench", "team": "bench-team"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    library = workload.split("_", maxsplit=1)[0]
    if library in INSTRUMENTORS:
        module = importlib.import_module(f"opentelemetry.instrumentation.{library}")
        getattr(module, INSTRUMENTORS[library])().instrument()
    return lambda: provider.force_flush(30_000)


def start_ddtrace(port: str, workload: str) -> Callable[[], object]:
    os.environ.update(
        DD_TRACE_AGENT_URL=f"http://127.0.0.1:{port}",
        DD_SERVICE="bench",
        DD_TAGS="team:bench-team",
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
        DD_REMOTE_CONFIGURATION_ENABLED="false",
        DD_TRACE_STARTUP_LOGS="false",
        DD_TRACE_SQLITE3_ENABLED="true",
    )
    import ddtrace.auto  # noqa: F401  # importing it is what switches it on
    from ddtrace.trace import tracer

    return tracer.flush


def start_logfire(port: str, workload: str) -> Callable[[], object]:
    import logfire
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    logfire.configure(
        service_name="bench",
        send_to_logfire=False,
        console=False,
        inspect_arguments=False,
        additional_span_processors=[BatchSpanProcessor(OTLPSpanExporter())],
    )
    if workload in ("requests", "httpx", "sqlite3", "psycopg"):
        getattr(logfire, f"instrument_{workload}")()
    return lambda: logfire.force_flush(30_000)


def start_sentry(port: str, workload: str) -> Callable[[], object]:
    import sentry_sdk

    sentry_sdk.init(dsn=f"http://key@127.0.0.1:{port}/1", traces_sample_rate=1.0)
    return lambda: sentry_sdk.flush(30)


_elastic: list[object] = []


def start_elastic(port: str, workload: str) -> Callable[[], object]:
    import elasticapm

    elasticapm.instrument()
    client = elasticapm.Client(
        service_name="bench",
        server_url=f"http://127.0.0.1:{port}",
        cloud_provider="none",
        central_config=False,
        metrics_interval="0",
        verify_server_cert=False,
    )
    _elastic[:] = [client]
    return client._transport.flush  # type: ignore[no-any-return]  # its public API has no flush


def prepare_app(name: str, app: object, workload: str) -> None:
    """What a tracer needs done to the application object itself."""
    if name == "logfire" and workload in ("flask", "fastapi"):
        import logfire

        getattr(logfire, f"instrument_{workload}")(app)
    if name == "elastic" and workload == "flask":
        from elasticapm.contrib.flask import ElasticAPM

        ElasticAPM(app, client=_elastic[0])
    if name == "elastic" and workload == "fastapi":
        from elasticapm.contrib.starlette import ElasticAPM as Middleware

        app.add_middleware(Middleware, client=_elastic[0])  # type: ignore[attr-defined]  # FastAPI's


STARTS = {name.removeprefix("start_"): value for name, value in list(globals().items()) if name.startswith("start_")}
