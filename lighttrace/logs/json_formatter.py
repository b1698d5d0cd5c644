"""One line of JSON for each record of the standard library's `logging`."""

import json
import logging
from datetime import datetime, timezone
from typing import Any

from lighttrace.logs.fields import NAMES, fill
from lighttrace.logs.records import USUAL, message_of
from lighttrace.tracing.values import exportable

_encode = json.JSONEncoder(default=exportable, allow_nan=False).encode


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, `trace_id`, `span_id`, `service`, `team`, the exception, and what `extra` gave.

    `handler.setFormatter(JsonFormatter())`, or in a `dictConfig`: `"formatters": {"json": {"()": "lighttrace.logs.JsonFormatter"}}`.
    The fields are always there, whether tracing is on or not. It never raises and always gives one line: what JSON has no form
    for becomes text. `extra` cannot replace `time`, `level`, `logger`, `message` or `exception`.

    >>> record = logging.makeLogRecord({"msg": "paid %d", "args": (3,), "name": "shop", "levelname": "INFO", "order": 7})
    >>> said = json.loads(JsonFormatter().format(record))
    >>> said["message"], said["logger"], said["level"], said["trace_id"], said["order"]
    ('paid 3', 'shop', 'INFO', '', 7)
    """

    def format(self, record: logging.LogRecord) -> str:
        values = vars(record)
        known: dict[str, Any] = {name: values[name] for name in NAMES if name in values}
        if len(known) < len(NAMES):
            fill(known)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": message_of(record),
        }
        for name in NAMES:
            line[name] = known[name]
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self._exception(record)
        elif record.exc_text:
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        for name, value in values.items():
            if name not in USUAL and name not in line:
                line[str(name)] = value
        try:
            return _encode(line)
        except Exception:  # NaN, a circle, keys that JSON has no form for
            return json.dumps({name: _plain(value) for name, value in line.items()})

    def _exception(self, record: logging.LogRecord) -> str:
        try:
            return self.formatException(record.exc_info)  # type: ignore[arg-type]  # looked at before
        except Exception:  # an exception whose __str__ raises, on old Pythons
            return str(getattr(record.exc_info[0], "__name__", "")) if record.exc_info else ""


def _plain(value: Any) -> Any:
    made = exportable(value)
    if isinstance(made, dict):
        return {str(key): _plain(item) for key, item in made.items()}
    if isinstance(made, (list, tuple)):
        return [_plain(item) for item in made]
    return made if made is None or (type(made) in {str, int, bool}) else str(made)
