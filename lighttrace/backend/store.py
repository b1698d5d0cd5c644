"""The last traces, in memory, bounded."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from lighttrace.analysis.model import SpanRecord


class TraceStore:
    """Keeps at most `traces` traces of at most `spans` spans each; the oldest trace goes first. Safe for many threads."""

    def __init__(self, traces: int = 1000, spans: int = 10_000) -> None:
        self.most_traces = traces
        self.most_spans = spans
        self.dropped = 0
        self._traces: OrderedDict[str, list[SpanRecord]] = OrderedDict()
        self._changed = threading.Condition()

    def add(self, spans: Iterable[SpanRecord]) -> None:
        """Take spans in."""
        with self._changed:
            for span in spans:
                trace = self._traces.setdefault(span.trace_id, [])
                if len(trace) < self.most_spans:
                    trace.append(span)
                else:
                    self.dropped += 1
            while len(self._traces) > self.most_traces:
                self.dropped += len(self._traces.popitem(last=False)[1])
            self._changed.notify_all()

    def traces(self) -> dict[str, list[SpanRecord]]:
        """A copy of what is kept: spans by trace id, the oldest trace first."""
        with self._changed:
            return {trace_id: list(spans) for trace_id, spans in self._traces.items()}

    def wait_for(self, predicate: Callable[[dict[str, list[SpanRecord]]], object], timeout: float = 10.0) -> bool:
        """Wait until `predicate(traces)` holds; False if it does not within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not predicate(self.traces()):
            with self._changed:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.1))
        return True
