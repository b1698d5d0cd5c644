"""What HTTP spans say, whichever library and side they are of: captured headers, a response, an unusual method, an error."""

from typing import Any

from lighttrace import semconv
from lighttrace.instrument import redaction
from lighttrace.instrument.engine import state
from lighttrace.tracing import errors
from lighttrace.tracing.span import Span

METHOD = semconv.HTTP_REQUEST_METHOD
STATUS, ERROR_TYPE = semconv.HTTP_RESPONSE_STATUS_CODE, semconv.ERROR_TYPE


def answer(span: Span, status: int) -> None:
    """Put what a response says on a span: on it alone, or on what it shares with the calls of its target that end alike."""
    said: dict[str, Any] = {STATUS: status}
    if status >= 400:
        said[ERROR_TYPE] = str(status)
    more = span._shared.with_more(status, said) if type(status) is int else None
    if more is not None:
        span._shared = more
    else:
        span.own().update(said)


def other_method(method: Any, attributes: dict[str, Any]) -> str:
    """What a span is called whose method is none of those known as they are written; says both in `attributes`."""
    text = method.decode("ascii", "replace") if isinstance(method, bytes) else str(method)
    upper = text.upper()
    if upper in state.known_methods:
        attributes[METHOD] = upper
        if upper != text:
            attributes[semconv.HTTP_REQUEST_METHOD_ORIGINAL] = text
        return upper
    attributes[METHOD] = "_OTHER"
    attributes[semconv.HTTP_REQUEST_METHOD_ORIGINAL] = text[:64]
    return "HTTP"


def capture(span: Any, prefix: str, names: tuple[str, ...], headers: Any) -> None:
    """Put the headers that the program asked for on the span, each as a list (semantic conventions)."""
    for name in names:
        value = headers.get(name)
        if value is not None:
            span.set_attribute(prefix + name.lower(), [value] if isinstance(value, str) else list(value))


def redact(error: BaseException) -> str:
    """The message of a client's exception, which may quote the URL with its secrets."""
    text = errors.message_of(error)
    if "://" not in text and "?" not in text and "@" not in text:
        return text
    return " ".join(redaction.url(word) if "?" in word or "://" in word else word for word in text.split(" "))
