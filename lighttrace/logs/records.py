"""What the JSON formatter and the exporter have in common about a `LogRecord`."""

import logging

from lighttrace.logs.fields import NAMES
from lighttrace.tracing.values import exportable

# Made directly: a factory of the program's own may add to what every record has.
USUAL = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName", *NAMES}
"""What every record has; anything else on it came by `extra`."""


def message_of(record: logging.LogRecord) -> str:
    """The record's message; what there is of it where its arguments do not fit, for which logging prints a stack trace."""
    try:
        return record.getMessage()
    except Exception:
        return f"{exportable(record.msg)} {exportable(record.args)}"
