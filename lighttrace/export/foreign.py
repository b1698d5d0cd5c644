"""Exporters written for opentelemetry-sdk, found by their entry point. Our spans look to them as the SDK's do."""

from typing import TYPE_CHECKING, Any

from lighttrace.export.exporter import ARRIVED, Outcome

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span


def load(name: str) -> "ForeignExporter":
    """The exporter that `OTEL_TRACES_EXPORTER` names. Raises LookupError saying which there are."""
    from importlib.metadata import entry_points

    found = entry_points(group="opentelemetry_traces_exporter")
    for entry in found:
        if entry.name == name:
            return ForeignExporter(entry.load()())
    known = sorted({"otlp", "console", "file", "none", *(entry.name for entry in found)})
    raise LookupError(f"there is none of that name; there are {', '.join(known)}")


class ForeignExporter:
    """One `SpanExporter` behind our queue."""

    def __init__(self, exporter: Any) -> None:
        self.exporter = exporter

    def prepare(self, batch: "list[Span]", extra: dict[str, Any] | None, broken: "list[Span] | None" = None) -> "list[Span]":
        """As they are."""
        return batch

    def send(self, payload: "list[Span]", timeout: float) -> Outcome:
        """Call its `export`."""
        result = self.exporter.export(payload)
        return (
            ARRIVED
            if getattr(result, "name", "SUCCESS") == "SUCCESS"
            else Outcome(f"exporter: {type(self.exporter).__name__} failed")
        )

    def close(self) -> None:
        """Shut it down."""
        self.exporter.shutdown()
