"""A small OTLP backend that keeps the last traces in memory, for the demo, for tests and for development."""

from lighttrace.backend.receiver import Receiver
from lighttrace.backend.store import TraceStore

__all__ = ["Receiver", "TraceStore"]
