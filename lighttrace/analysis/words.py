"""How spans, errors and times are called in the sentences of a verdict."""

from typing import Any

from lighttrace import semconv
from lighttrace.analysis.model import SpanRecord


def title_of(span: SpanRecord) -> str:
    """The span's name."""
    return span.name or "a span without a name"


def owner_of(span: SpanRecord, team: Any = None) -> str:
    """Its service and team: `checkout (team payments)`."""
    team = team or span.team
    service = span.service or "an unnamed service"
    return f"{service} (team {team})" if team else service


def remote_of(span: SpanRecord) -> str:
    """The other side of a client span: its name in the peer table, else its address."""
    peer = span.get(semconv.SERVICE_PEER_NAME)
    if peer:
        return str(peer)
    address, port = (
        span.get(semconv.SERVER_ADDRESS) or span.get(semconv.DB_SYSTEM_NAME) or "an unknown host",
        span.get(semconv.SERVER_PORT),
    )
    return f"{address}:{port}" if port else str(address)


def error_of(span: SpanRecord) -> str:
    """What went wrong in it: `KeyError: 'BE'`, `status 503`."""
    event = span.exception
    if event is not None and event["attributes"].get(semconv.EXCEPTION_TYPE):
        message = shorten(str(event["attributes"].get(semconv.EXCEPTION_MESSAGE) or ""))
        kind = str(event["attributes"][semconv.EXCEPTION_TYPE]).rpartition(".")[2]
        return f"{kind}: {message}" if message else kind
    kind = str(span.get(semconv.ERROR_TYPE) or span.http_status or "").rpartition(".")[2]
    if kind.isdigit():
        return f"status {kind}"
    return shorten(span.status_message) or kind or "an error"


def said_of(span: SpanRecord) -> str:
    """Everything that the span says about its error, the stack trace included."""
    parts = [str(span.get(semconv.ERROR_TYPE) or ""), span.status_message]
    event = span.exception
    if event is not None:
        keys = (semconv.EXCEPTION_TYPE, semconv.EXCEPTION_MESSAGE, semconv.EXCEPTION_STACKTRACE)
        parts += [str(event["attributes"].get(key) or "") for key in keys]
    return "\n".join(parts)


def shorten(text: str, most: int = 100) -> str:
    """The first line, or the beginning of it."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= most else line[: most - 3] + "..."


def time_of(nanoseconds: float) -> str:
    """`1.20 s`, `85 ms`, `2.5 ms`."""
    milliseconds = nanoseconds / 1e6
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"
