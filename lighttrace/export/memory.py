"""Spans kept in memory, for tests, and spans that are thrown away."""

from typing import TYPE_CHECKING, Any

from lighttrace.export.exporter import ARRIVED, Outcome

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span


class MemoryExporter:
    """Keeps every span that ended, in `spans`."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def prepare(self, batch: "list[Span]", extra: dict[str, Any] | None, broken: "list[Span] | None" = None) -> "list[Span]":
        return batch

    def send(self, payload: "list[Span]", timeout: float) -> Outcome:
        self.spans.extend(payload)
        return ARRIVED

    def close(self) -> None:
        """Nothing to let go."""


class UnusableExporter(MemoryExporter):
    """Where none of the exporters that were asked for can be used: what is not sent must not count as sent."""

    def send(self, payload: "list[Span]", timeout: float) -> Outcome:
        return Outcome("unusable: none of the exporters can be used")


class NoExporter(MemoryExporter):
    """For `exporter="none"`: processors see spans, nobody else does."""

    def send(self, payload: "list[Span]", timeout: float) -> Outcome:
        return ARRIVED
