"""What keep decisions cost: CPU microseconds per span that holding it until its local root ends adds.

    python benchmarks/keeping.py [--rounds 7]

Local roots with four spans each end in a deque, or in a keeper before it; the worker and the encoder are left out, so that
the figure is that of the decision alone. The median over rounds, in which the ways take turns.
"""

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from lighttrace.tracing.keeping import Keeper
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider

TRACES = 10_000
SPANS = 5  # of each
WAYS: dict[str, dict[str, Any] | None] = {
    "without": None,
    "a tenth by ratio": {"ratio": 0.1},
    "errors, slow, rate and ratio": {"ratio": 0.1, "slower_than": 0.5, "rates": [{"route": "*", "per_second": 1.0}]},
    "everything is kept": {"slower_than": 0.0},
}


def cost(put: "Callable[[Any], Any]") -> float:
    """Microseconds of CPU per span, its own making included."""
    start = TracerProvider(Pipeline(put=put)).get_tracer("bench").start_as_current_span
    before = time.process_time()
    for _ in range(TRACES):
        with start("root"):
            for _ in range(SPANS - 1):
                with start("child"):
                    pass
    return (time.process_time() - before) / TRACES / SPANS * 1e6


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    figures: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(parser.parse_args().rounds):
        for way, options in WAYS.items():
            end: deque[Any] = deque(maxlen=100)
            figures[way].append(cost(end.append if options is None else Keeper(end.append, **options).put))
    without = statistics.median(figures["without"])
    for way, found in figures.items():
        median = statistics.median(found)
        print(f"{way:30} {median:6.2f} us per span  {median - without:+6.2f}")


if __name__ == "__main__":
    main()
