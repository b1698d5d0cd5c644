"""Log records over OTLP, through opentelemetry-sdk, with the resource of our spans.

Everything heavy is imported with the first record. What is logged while records are exported, here or by anybody, is not
exported: no failure to send can make another record to send.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

from opentelemetry.context.context import Context

from lighttrace import guard, semconv
from lighttrace.logs.records import USUAL, message_of
from lighttrace.tracing import errors
from lighttrace.tracing.context import SUPPRESS_KEY, detach, now, set_current, with_value
from lighttrace.tracing.values import exportable

_site = guard.site("logs.otlp")
_OWN = ("lighttrace", "opentelemetry")
_SEVERITY = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_PREFIX = "OTEL_EXPORTER_OTLP_LOGS_"


class LogExport:
    """What `init(logs="otlp")` switches on: made when tracing starts, and filled when the first record comes."""

    def __init__(self, config: Any, resource: Callable[[], Mapping[str, Any]]) -> None:
        self._config = config
        self._resource = resource
        self._busy = threading.local()
        self._reset()

    def _reset(self) -> None:
        self._making = threading.Lock()
        self._provider: Any = None
        self._record: Callable[[Any, Context, dict[str, Any]], Any] | None = None
        self._errands: SimpleQueue[Callable[[], None] | None] | None = None

    def in_child(self) -> None:
        """After a fork: the parent's records are the parent's to send, and this is another instance of the service."""
        self._reset()

    def export(self, record: logging.LogRecord) -> None:
        """Hand one record of logging's on. Never raises."""
        if record.name.partition(".")[0] not in _OWN:
            self.emit(record.name, lambda: _said(record), now())

    def emit(self, name: str, say: Callable[[], dict[str, Any]], context: Context) -> bool:
        """Hand on what `say` gives, under the logger's name. Never raises; False where it was not taken."""
        if not _site.enabled or getattr(self._busy, "now", False) or context.get(SUPPRESS_KEY):
            return False
        self._busy.now = True
        try:
            if self._provider is None:
                self._make()
            logger = self._provider.get_logger(name)
            assert self._record is not None
            logger.emit(self._record(logger, context, say()))
        except Exception as error:
            _site.failed(error)
            return False
        else:
            return True
        finally:
            self._busy.now = False

    def _make(self) -> None:
        with self._making:
            if self._provider is not None:
                return
            from opentelemetry.sdk._logs import LoggerProvider
            from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
            from opentelemetry.sdk.resources import Resource

            # Its worker serves the whole process: it must not hold the request whose record was the first.
            token = set_current(with_value(Context(), SUPPRESS_KEY, True))
            try:
                # At exit it is our turn, within our time.
                provider = LoggerProvider(resource=Resource(dict(self._resource())), shutdown_on_exit=False)
                provider.add_log_record_processor(BatchLogRecordProcessor(make_exporter(self._config)))
            finally:
                detach(token)
            self._record = _recorder()
            # A thread for what may hang: at exit Python starts no new ones.
            errands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
            self._errands = errands
            threading.Thread(target=_run_errands, args=(errands,), name="lighttrace-logs", daemon=True).start()
            self._provider = provider

    def _begin(self, method: str) -> Callable[[float], bool]:
        """Call a method of the provider on the errands' thread; gives what waits for it."""
        provider, errands = self._provider, self._errands
        if provider is None or errands is None:
            return lambda timeout: True
        done = threading.Event()

        def errand() -> None:
            try:
                guard.call(_site, getattr(provider, method))
            finally:
                done.set()

        errands.put(errand)
        return done.wait

    def flush(self) -> Callable[[float], bool]:
        """Begin to send what is there; gives `wait(timeout)`, which says whether all of it has been sent or given up."""
        return self._begin("force_flush")

    def shutdown(self) -> Callable[[float], bool]:
        """Begin to send what is there, and stop; gives `wait(timeout)`."""
        wait = self._begin("shutdown")
        if self._errands is not None:
            self._errands.put(None)
        return wait


def _run_errands(errands: "SimpleQueue[Callable[[], None] | None]") -> None:
    while (errand := errands.get()) is not None:
        errand()


def make_exporter(config: Any) -> Any:
    """OpenTelemetry's own exporter, for where our spans go. Its variables `OTEL_EXPORTER_OTLP_LOGS_*` say otherwise."""
    otlp = config.otlp
    given = {name.removeprefix(_PREFIX).lower() for name, value in os.environ.items() if name.startswith(_PREFIX) and value}
    protocol = os.environ.get(f"{_PREFIX}PROTOCOL") or otlp.protocol
    ours: dict[str, Any] = {
        "endpoint": otlp.endpoint if protocol == "grpc" else otlp.endpoint.removesuffix("/v1/traces") + "/v1/logs",
        "headers": dict(otlp.headers) or None,
        "timeout": otlp.timeout_s,  # always, because the SDK takes the specification's milliseconds for seconds
    }
    options: dict[str, Any] = {}
    for option, value in ours.items():
        for_traces = config.sources.get(f"otlp.{option}", "").startswith("OTEL_EXPORTER_OTLP_TRACES_")
        if option not in given and value is not None and (option == "timeout" or not for_traces):
            options[option] = value
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as Grpc

        return Grpc(insecure=otlp.insecure or options.get("endpoint", "").startswith("http://"), **options)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as Http

    for option, name in (
        ("certificate_file", "certificate"),
        ("client_key_file", "client_key"),
        ("client_certificate_file", "client_certificate"),
    ):
        value = getattr(otlp, name)
        if value is not None and name not in given:
            options[option] = value
    if otlp.compression == "gzip" and "compression" not in given:
        options["compression"] = Compression.Gzip
    return Http(**options)


def _recorder() -> Callable[[Any, Context, dict[str, Any]], Any]:
    """What makes the SDK's record of what is said: up to 1.38 the SDK had a class of its own for it."""
    from opentelemetry.sdk import _logs

    sdk: Any = _logs
    if hasattr(sdk, "ReadWriteLogRecord"):
        from opentelemetry._logs import LogRecord

        return lambda logger, context, said: LogRecord(context=context, **said)
    old = sdk.LogRecord

    def make(logger: Any, context: Context, said: dict[str, Any]) -> Any:
        try:
            return old(context=context, resource=logger.resource, **said)
        except TypeError:  # before 1.36 it took the ids, and events had no names
            from opentelemetry.trace import get_current_span

            said.pop("event_name", None)
            span = get_current_span(context).get_span_context()
            ids = {"trace_id": span.trace_id, "span_id": span.span_id, "trace_flags": span.trace_flags}
            return old(resource=logger.resource, **ids, **said)

    return make


def _said(record: logging.LogRecord) -> dict[str, Any]:
    """A record in OpenTelemetry's words. The ids come from the context, the service from the resource."""
    from opentelemetry._logs import SeverityNumber

    attributes: dict[str, Any] = {}
    for name, value in vars(record).items():
        if name not in USUAL:
            made = exportable(value)
            attributes[str(name)] = made if type(made) in {str, bool, int, float} else str(made)
    team = vars(record).get(semconv.TEAM)
    if team:
        attributes[semconv.TEAM] = str(team)
    attributes[semconv.CODE_FILE_PATH] = record.pathname
    attributes[semconv.CODE_LINE_NUMBER] = record.lineno
    if record.funcName:
        attributes[semconv.CODE_FUNCTION_NAME] = record.funcName
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        import traceback

        from lighttrace.tracing import scrubbing

        attributes[semconv.EXCEPTION_TYPE] = errors.type_name(error)
        attributes[semconv.EXCEPTION_MESSAGE] = scrubbing.message(errors.public(error, errors.message_of(error)))
        stack = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        attributes[semconv.EXCEPTION_STACKTRACE] = scrubbing.stack(errors.public(error, stack))
    level = record.levelno
    # Ten of theirs are four of ours: DEBUG 5, INFO 9, WARN 13, ERROR 17, FATAL 21.
    severity = min(max(level // 10, 0) * 4 + 1, 21) if level >= 10 else 1
    return {
        "timestamp": int(record.created * 1e9),
        "observed_timestamp": time.time_ns(),
        "severity_text": _SEVERITY.get(record.levelname, record.levelname),
        "severity_number": SeverityNumber(severity),
        "body": message_of(record),
        "attributes": attributes,
    }


class OtlpHandler(logging.Handler):
    """For what does not go through `logging`: `loguru.logger.add(OtlpHandler(), format="{message}")` exports loguru's records.

    It hands them to what `init(logs="otlp")` switched on, and does nothing without that.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Export one record."""
        from lighttrace.logs.stdlib import EXPORT

        if EXPORT.export is not None:
            EXPORT.export(record)
