"""Several formats at once, as `OTEL_PROPAGATORS` lists them: all are written, and the first valid parent counts."""

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator, default_getter, default_setter
from opentelemetry.trace import get_current_span, set_span_in_context

from lighttrace import guard

_BUILT_IN = {
    "tracecontext": ("tracecontext", "W3CTraceContextPropagator"),
    "baggage": ("baggage", "W3CBaggagePropagator"),
    "b3": ("b3", "B3SingleFormat"),
    "b3multi": ("b3", "B3MultiFormat"),
    "jaeger": ("jaeger", "JaegerPropagator"),
    "ottrace": ("ottrace", "OTTracePropagator"),
}


class CompositePropagator(TextMapPropagator):
    """Propagators in the order of preference. One that raises is counted, told once, and left out of that call."""

    def __init__(self, propagators: Sequence[TextMapPropagator]) -> None:
        self.propagators = tuple(propagators)
        self._sites = tuple(guard.site(f"propagation.{type(propagator).__name__}") for propagator in self.propagators)

    def extract(self, carrier: Any, context: Context | None = None, getter: Getter[Any] = default_getter) -> Context:
        """The context with the first valid parent that a format finds, and the baggage of all."""
        if context is None:
            context = Context()
        before = get_current_span(context)
        parent = None
        for propagator, site in zip(self.propagators, self._sites, strict=True):
            if not site.enabled:
                continue
            try:
                made = propagator.extract(carrier, context, getter)
                span = get_current_span(made)
                if parent is not None and span is not parent:
                    made = set_span_in_context(parent, made)
                elif parent is None and span is not before and span.get_span_context().is_valid:
                    parent = span
                context = made
            except Exception as error:  # somebody else's propagator or getter must not fail a request
                site.failed(error)
        return context

    def inject(self, carrier: Any, context: Context | None = None, setter: Setter[Any] = default_setter) -> None:
        """Write every format into the carrier."""
        for propagator, site in zip(self.propagators, self._sites, strict=True):
            if not site.enabled:
                continue
            try:
                propagator.inject(carrier, context, setter)
            except Exception as error:  # the same
                site.failed(error)

    @property
    def fields(self) -> set[str]:
        """Every header that `inject` may set."""
        found: set[str] = set()
        for propagator in self.propagators:
            found |= set(propagator.fields)
        return found


def composite(names: Iterable[str]) -> CompositePropagator:
    """The propagators of these names, each once: built in, or an `opentelemetry_propagator` entry point.

    A name that nobody knows is told in the log and left out; the program starts all the same.

    >>> sorted(composite(["tracecontext", "b3"]).fields)
    ['b3', 'traceparent', 'tracestate']
    """
    made = []
    for name in dict.fromkeys(name.strip().lower() for name in names):
        if not name or name == "none":
            continue
        built_in = _BUILT_IN.get(name)
        if built_in is not None:
            made.append(getattr(import_module(f"lighttrace.propagation.{built_in[0]}"), built_in[1])())
            continue
        found = _from_entry_point(name)
        if found is not None:
            made.append(found)
    return CompositePropagator(made)


def _from_entry_point(name: str) -> TextMapPropagator | None:
    try:
        from importlib.metadata import entry_points

        for entry in entry_points(group="opentelemetry_propagator"):
            if entry.name.lower() == name:
                found: TextMapPropagator = entry.load()()
                return found
        problem = "is not known"
        from difflib import get_close_matches

        close = get_close_matches(name, _BUILT_IN, 1)
        if close:
            problem += f" (did you mean {close[0]}?)"
    except Exception as error:  # loading runs somebody else's code
        problem = f"could not be loaded ({type(error).__name__}: {error})"
    guard.count("propagation.unknown")
    guard.log(f"propagation.{name}", f"the propagator {name!r} {problem}; it is left out of OTEL_PROPAGATORS")
    return None
