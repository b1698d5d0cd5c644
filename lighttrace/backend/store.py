"""The last traces, in memory, bounded."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from lighttrace.analysis.model import SpanRecord


class TraceStore:
    """Keeps the last `traces` traces, of each at most `spans_per_trace` spans, and at most `spans` in all.

    The trace that began to arrive first goes first. `dropped` counts the spans that had to go. Safe for many threads.

    >>> store = TraceStore(traces=1)
    >>> store.add([SpanRecord("1" * 32, "a" * 16), SpanRecord("2" * 32, "b" * 16)])
    >>> list(store.traces()) == ["2" * 32], store.dropped
    (True, 1)
    """

    def __init__(self, traces: int = 1000, spans_per_trace: int = 10_000, spans: int = 100_000) -> None:
        self.most_traces = traces
        self.most_spans_per_trace = spans_per_trace
        self.most_spans = spans
        self.dropped = 0
        self._kept = 0
        self._traces: OrderedDict[str, list[SpanRecord]] = OrderedDict()
        self._changed = threading.Condition()

    def add(self, spans: Iterable[SpanRecord]) -> None:
        """Take spans in."""
        with self._changed:
            for span in spans:
                trace = self._traces.setdefault(span.trace_id, [])
                if len(trace) < self.most_spans_per_trace:
                    trace.append(span)
                    self._kept += 1
                else:
                    self.dropped += 1
            while len(self._traces) > self.most_traces or (self._kept > self.most_spans and len(self._traces) > 1):
                gone = len(self._traces.popitem(last=False)[1])
                self._kept -= gone
                self.dropped += gone
            self._changed.notify_all()

    def traces(self) -> dict[str, list[SpanRecord]]:
        """A copy of what is kept: spans by trace id, the oldest trace first."""
        with self._changed:
            return {trace_id: list(spans) for trace_id, spans in self._traces.items()}

    def wait_for(self, predicate: Callable[[dict[str, list[SpanRecord]]], object], timeout: float = 10.0) -> bool:
        """Wait until `predicate(traces)` holds; False if it does not within `timeout` seconds.

        It is asked at once and whenever spans arrive; meanwhile none are taken in.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not predicate(self.traces()):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True
