"""Carrying trace and baggage between processes: W3C trace context and baggage, B3, Jaeger and ot-trace.

What every request needs is here at once: `parse_traceparent`, `parse_tracestate`, and `lighttrace.propagation.baggage`.
The propagators behind OpenTelemetry's `TextMapPropagator` are imported when somebody asks for them. Nothing here
raises because of what a caller sent, and the work is bounded whatever the size of the headers.
"""

from typing import TYPE_CHECKING, Any

from lighttrace.propagation.combined import composite
from lighttrace.propagation.tracecontext import W3CTraceContextPropagator, parse_traceparent, parse_tracestate

if TYPE_CHECKING:
    from lighttrace.propagation.b3 import B3MultiFormat, B3SingleFormat
    from lighttrace.propagation.baggage import W3CBaggagePropagator
    from lighttrace.propagation.jaeger import JaegerPropagator
    from lighttrace.propagation.ottrace import OTTracePropagator

__all__ = [
    "B3MultiFormat",
    "B3SingleFormat",
    "JaegerPropagator",
    "OTTracePropagator",
    "W3CBaggagePropagator",
    "W3CTraceContextPropagator",
    "composite",
    "parse_traceparent",
    "parse_tracestate",
]

_LATER = {
    "B3MultiFormat": "b3",
    "B3SingleFormat": "b3",
    "JaegerPropagator": "jaeger",
    "OTTracePropagator": "ottrace",
    "W3CBaggagePropagator": "baggage",
}


def __getattr__(name: str) -> Any:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{module}"), name)
