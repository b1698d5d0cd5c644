"""How spans, errors and times are called in the sentences of a verdict."""

import re
from typing import Any

from lighttrace import semconv
from lighttrace.analysis.model import SpanRecord

_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] [\w ,.]+")


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
    address = span.get(semconv.SERVER_ADDRESS) or span.get(semconv.NETWORK_PEER_ADDRESS)
    port = span.get(semconv.SERVER_PORT) or span.get(semconv.NETWORK_PEER_PORT)
    if address:
        return f"{address}:{port}" if port else str(address)
    host = str(span.get(semconv.URL_FULL) or "").partition("://")[2].partition("/")[0].rpartition("@")[2]
    return host or str(span.get(semconv.DB_SYSTEM_NAME) or "an unknown host")


def call_of(span: SpanRecord) -> str:
    """How a call is named in a question: `POST /charges to bank`, `SELECT orders to orders-db`."""
    path = str(span.get(semconv.URL_FULL) or "").partition("://")[2].partition("?")[0].partition("/")[2]
    title = title_of(span)
    return f"{title}{shorten(f' /{path}', 60) if path and ' ' not in title else ''} to {remote_of(span)}"


def raiser_of(span: SpanRecord, code: str | None) -> str:
    """The function that raised, with its place, where it is known, else the span: `score() in fraud.py:31`."""
    place, separator, function = (code or "").partition(" in ")
    if separator:
        return f"{function.rpartition('.')[2]}() in {place}"
    return f"the code at {place}" if place else f"{title_of(span)} of {span.service or 'an unnamed service'}"


def raised_by(span: SpanRecord) -> str:
    """What a function did wrong, as a verb: `raise KeyError: 'BE'`, `answer status 503`, `fail`."""
    error = error_of(span)
    if span.exception is not None:
        return f"raise {error}"
    return f"answer with {error}" if error.startswith("status ") else "fail" if error == "an error" else f"fail ({error})"


def error_of(span: SpanRecord) -> str:
    """What went wrong in it: `KeyError: 'BE'`, `status 503`."""
    event = span.exception
    if event is not None and event["attributes"].get(semconv.EXCEPTION_TYPE):
        message = shorten(message_of(event))
        kind = str(event["attributes"][semconv.EXCEPTION_TYPE]).rpartition(".")[2]
        return f"{kind}: {message}" if message else kind
    kind = str(span.get(semconv.ERROR_TYPE) or span.http_status or "").rpartition(".")[2]
    if kind.isdigit():
        return f"status {kind}"
    return shorten(span.status_message) or kind or "an error"


def message_of(event: dict[str, Any]) -> str:
    """An exception's message; of one that tells its whole pedigree, as urllib3's do, what the operating system said."""
    message = str(event["attributes"].get(semconv.EXCEPTION_MESSAGE) or "")
    root = _SYSTEM_ERROR.search(message) if "Caused by" in message else None
    return root.group().strip() if root is not None else message


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
