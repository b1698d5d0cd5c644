"""Exceptions as log records: what OpenTelemetry's variable `OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN` asks for.

What LightTrace records by itself goes this way. What a program records with `span.record_exception(...)` stays on the span: the
program said so, and an instrumentation that follows the variable emits a record of its own.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from lighttrace import semconv
from lighttrace.tracing.context import SPAN_KEY, now, with_value

if TYPE_CHECKING:
    from lighttrace.logs.otlp import LogExport
    from lighttrace.tracing.span import Span

_SHARED = (semconv.CODE_FILE_PATH, semconv.CODE_FUNCTION_NAME, semconv.CODE_LINE_NUMBER, semconv.ERROR_TEAM)
_WARNINGS = (SpanKind.CLIENT, SpanKind.PRODUCER)  # the program may live with what failed there


def teller(export: "LogExport", setting: str) -> "Callable[[Span, Mapping[str, Any]], bool]":
    """What is told of each exception as it would stand on the span; says whether it need not stand there."""

    def tell(span: "Span", event: Mapping[str, Any]) -> bool:
        context = with_value(now(), SPAN_KEY, span)
        sent = export.emit(span._tracer.scope_name, lambda: _said(span, event), context)
        return sent and setting == "logs"

    return tell


def _said(span: "Span", event: Mapping[str, Any]) -> dict[str, Any]:
    from opentelemetry._logs import SeverityNumber

    attributes = {key: value for key, value in event.items() if key != semconv.EXCEPTION_ESCAPED}
    attributes.update((key, span._attributes[key]) for key in _SHARED if key in span._attributes)
    if span._owner.team is not None:
        attributes[semconv.TEAM] = span._owner.team
    warning = span._kind in _WARNINGS
    now = time.time_ns()
    return {
        "timestamp": now,
        "observed_timestamp": now,
        "severity_text": "WARN" if warning else "ERROR",
        "severity_number": SeverityNumber(13 if warning else 17),
        "body": f"{event.get(semconv.EXCEPTION_TYPE)}: {event.get(semconv.EXCEPTION_MESSAGE)}",
        "attributes": attributes,
        "event_name": semconv.EXCEPTION_EVENT,
    }
