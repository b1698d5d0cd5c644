"""Logs that lead to the trace and to the team: every log record carries `trace_id`, `span_id`, `service` and `team`.

`lighttrace.init()` sees to it for the standard library's `logging`; `init(logs=True)` for structlog and loguru too, and
`init(logs="otlp")` also sends records to the backend. What a program wants to put in by hand is named here and loaded when
it is first used; see `docs/logs.md`.
"""

from typing import TYPE_CHECKING, Any

from lighttrace.logs.fields import NAMES, fields

if TYPE_CHECKING:
    from lighttrace.logs.json_formatter import JsonFormatter
    from lighttrace.logs.loguru import add_to_record
    from lighttrace.logs.otlp import OtlpHandler
    from lighttrace.logs.structlog import add_to_event

__all__ = ["NAMES", "JsonFormatter", "OtlpHandler", "add_to_event", "add_to_record", "fields"]

_LATER = {
    "JsonFormatter": "json_formatter",
    "OtlpHandler": "otlp",
    "add_to_event": "structlog",
    "add_to_record": "loguru",
}


def __getattr__(name: str) -> Any:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{module}"), name)
