"""What a trace says: pure functions over spans decoded from OTLP. No input, no output, no clock."""

from lighttrace.analysis.model import SpanRecord
from lighttrace.analysis.verdict import Verdict, verdict

__all__ = ["SpanRecord", "Verdict", "verdict"]
