"""The four fields of a log record, as they are here and now."""

from typing import TYPE_CHECKING, Any

from lighttrace.instrument.engine import state
from lighttrace.tracing.context import SPAN_KEY, TEAM_KEY, bare, read_current

if TYPE_CHECKING:
    from lighttrace.tracing.owner import Owner

NAMES = ("trace_id", "span_id", "service", "team")
"""What every log record carries. The ids are empty outside a trace, the others where nobody has said."""


def fields() -> tuple[str, str, str, str]:
    """Trace id and span id in hexadecimal, the service, and the team whose span or scope this is.

    >>> fields()[:2]
    ('', '')
    """
    context = read_current()
    alone = type(context) in bare
    span: Any = context if alone else context.get(SPAN_KEY)
    if type(span) in bare:
        who: Owner = span._owner
        if not alone and len(context) > 1 and who.source != "span":
            who = context.get(TEAM_KEY, who)
        return span._trace.id_bytes.hex(), f"{span._span_id:016x}", state.service, who.team or ""
    scope: Any = context.get(TEAM_KEY)
    if scope is None and state.provider is not None:
        scope = state.provider.pipeline.default_owner
    team = scope.team or "" if scope is not None else ""
    if span is not None:  # another process's, or another tracer's
        found = span.get_span_context()
        if found.is_valid:
            return f"{found.trace_id:032x}", f"{found.span_id:016x}", state.service, team
    return "", "", state.service if state.provider is not None else "", team


def fill(record: Any) -> None:
    """Put the fields into a mapping, each where nothing of that name is there yet: what the program says goes first."""
    trace_id, span_id, service, team = fields()
    put = record.setdefault
    put("trace_id", trace_id)
    put("span_id", span_id)
    put("service", service)
    put("team", team)
