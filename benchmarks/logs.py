"""What the four fields add to one log record, in microseconds: logging, structlog and loguru, each with a handler that does nothing.

    python benchmarks/logs.py

The best of several rounds, with and without LightTrace in turn, in one process.
"""

import logging
import timeit
from collections.abc import Callable
from typing import Any

import loguru
import structlog

import lighttrace

CALLS = 20_000
ROUNDS = 7


class Nothing(logging.Handler):
    """Takes a record and forgets it."""

    def emit(self, record: logging.LogRecord) -> None:
        return


class Silent:
    """A file for structlog."""

    def write(self, text: str) -> None:
        return

    def flush(self) -> None:
        return


def calls() -> dict[str, Callable[[], Any]]:
    """One log line of each library, and one of `logging` that its level stops."""
    log = logging.getLogger("benchmark")
    log.handlers[:] = [Nothing()]
    log.setLevel(logging.INFO)
    log.propagate = False
    structlog.configure(
        processors=[lambda logger, method, event: "rendered"],
        logger_factory=structlog.PrintLoggerFactory(Silent()),  # type: ignore[arg-type]  # all it uses
    )
    loguru.logger.remove()
    loguru.logger.add(lambda message: None, format="{message}")
    structured = structlog.get_logger().bind()
    return {
        "logging": lambda: log.info("hello"),
        "logging, below the level": lambda: log.debug("hello"),
        "structlog": lambda: structured.info("hello"),
        "loguru": lambda: loguru.logger.info("hello"),
    }


def measure() -> dict[str, float]:
    """Microseconds of each call."""
    return {name: min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6 for name, call in calls().items()}


def main() -> None:
    """Print a table."""
    without = measure()
    lighttrace.init(service="benchmark", team="benchmarks", exporter="none", logs=True)
    with lighttrace.span("work"):
        inside = measure()
    lighttrace.shutdown()
    after = measure()
    print(f"{'one record of':28}{'without':>10}{'with':>10}{'adds':>10}")
    for name, value in inside.items():
        bare = min(without[name], after[name])
        print(f"{name:28}{bare:10.2f}{value:10.2f}{value - bare:10.2f}")


if __name__ == "__main__":
    main()
