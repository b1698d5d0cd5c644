"""The console: each trace of this process as a tree, once its local root has ended."""

import sys
from typing import TYPE_CHECKING, Any

from lighttrace import semconv
from lighttrace.export.exporter import ARRIVED, Outcome
from lighttrace.terminal import Row, render_trace, wants_color

if TYPE_CHECKING:
    from lighttrace.tracing.span import Span

_MOST = 1000  # traces whose root has not ended that are kept waiting


class ConsoleExporter:
    """Prints to standard error, so that the program's own output stays what it is."""

    def __init__(self, stream: Any = None) -> None:
        self._stream = stream
        self._waiting: dict[Any, list[Span]] = {}

    def prepare(
        self, batch: "list[Span]", extra: dict[str, Any] | None, broken: "list[Span] | None" = None
    ) -> list[list["Span"]]:
        """Group the spans by trace, and take those whose local root is among them."""
        whole: list[list[Span]] = []
        for span in batch:
            local = span._local
            key = local or span  # a root without a trace has nothing below it
            group = self._waiting.setdefault(key, [])
            group.append(span)
            if not span._parent_id or (local is not None and local.entered_by(span._parent_id)):
                whole.append(self._waiting.pop(key))
        while len(self._waiting) > _MOST:
            whole.append(self._waiting.pop(next(iter(self._waiting))))
        return whole

    def send(self, payload: list[list["Span"]], timeout: float) -> Outcome:
        """Print them."""
        stream = self._stream or sys.stderr
        color = wants_color(stream)
        try:
            for group in payload:
                stream.write(render_trace(map(_row, group), color=color) + "\n\n")
            stream.flush()
        except (OSError, ValueError) as error:  # closed
            return Outcome(f"console: {error}")
        return ARRIVED

    def close(self) -> None:
        """Print what is left without its root."""
        rest, self._waiting = list(self._waiting.values()), {}
        self.send(rest, 0)


def _row(span: "Span") -> Row:
    error = None
    if span._status == 2:
        error = (span._rare.message if span._rare is not None else None) or str(span._attributes.get(semconv.ERROR_TYPE, "error"))
    service = str(span._tracer.pipeline.resource.get(semconv.SERVICE_NAME, ""))
    parent = f"{span._parent_id:016x}" if span._parent_id else None
    return Row(f"{span._span_id:016x}", parent, span._name, service, span._owner.team, span._start, span._end, error)
