"""How an exception stands on a span: status, `error.type`, one event where it was raised, and the place in the code.

An exception is recorded once, on the innermost span that it passes; the spans around that one get its status and no
second copy. The mark is an attribute on the exception object itself, because nothing else lives exactly as long.
"""

from time import time_ns
from typing import TYPE_CHECKING, Any

from lighttrace import guard, semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lighttrace.tracing.span import Span

_MARK = "__lighttrace_trace__"
_SAID = "__lighttrace_message__"  # what may be said of an exception whose own message is secret
_CHAIN = 256  # exceptions that led to an exception or are grouped in it, and are looked at
_NOTHING: dict[str, Any] = {}
_site = guard.site("tracing.errors")
_ERROR = 2
_STACK_LIMIT = 16_384  # characters of a stack trace that are kept; the innermost frames come last and are the ones kept


def type_name(error: BaseException) -> str:
    """The qualified class of an exception, builtins without their module (semantic conventions, `exception.type`)."""
    kind = type(error)
    module = kind.__module__
    return kind.__qualname__ if not module or module == "builtins" else f"{module}.{kind.__qualname__}"


def message_of(error: BaseException) -> str:
    """The exception's message; the name of its class where even `str` fails."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__}>"


def is_control_flow(error: BaseException) -> bool:
    """Whether it ends something on purpose: closing a generator, cancelling a task, leaving the program with success."""
    if isinstance(error, GeneratorExit):
        return True
    if isinstance(error, SystemExit):
        return error.code in (None, 0)
    return type(error).__name__ == "CancelledError" or any(base.__name__ == "CancelledError" for base in type(error).__mro__)


def public(error: BaseException, text: str) -> str:
    """`text`, which may quote `error` and those that led to it, with what has been scrubbed from them by an inner span."""
    for step in _all_of(error):
        said = getattr(step, "__dict__", _NOTHING).get(_SAID)
        if said is not None:
            secret = message_of(step)
            if secret and secret in text:
                text = text.replace(secret, said)
            elif secret:  # in the stack of a group each line has a margin
                first, *others = secret.split("\n")
                for line in others:
                    if len(line.strip()) > 1:
                        text = text.replace(line, "")
                text = text.replace(first, said.partition("\n")[0]) if first else text
    return text


def _all_of(error: BaseException) -> "list[BaseException]":
    """The exception, those that led to it and those that it groups."""
    found = [error]
    seen = {id(error)}
    for step in found:  # it grows meanwhile
        for other in (step.__cause__, step.__context__, *_grouped(step)):
            if other is not None and id(other) not in seen and len(found) < _CHAIN:
                seen.add(id(other))
                found.append(other)
    return found


def _grouped(error: BaseException) -> "tuple[BaseException, ...]":
    inner = getattr(error, "exceptions", None)  # of the groups that Python has from 3.11 on, and of their backport
    if type(inner) is not tuple:
        return ()
    return tuple([each for each in inner[:_CHAIN] if isinstance(each, BaseException)])


def fail(span: "Span", error: BaseException, message: str | None = None, *, record: bool = True, status: bool = True) -> None:
    """Mark the span as failed by `error`, and record the exception if no inner span has. Never raises.

    `message` replaces the exception's own, for callers that scrub it.
    """
    try:
        if is_control_flow(error):
            return
        from lighttrace.tracing import scrubbing  # its patterns are compiled with the first error, not at start-up

        if record and not was_recorded(error, span):
            _record(span, error, None, None, True, message, span._tracer.pipeline.tell_exception)
        if status and span._status != 1:
            span._attributes.setdefault(semconv.ERROR_TYPE, type_name(error))
            span._status = _ERROR
            text = scrubbing.message(public(error, message_of(error)) if message is None else message)
            # OpenTelemetry's own instrumentations describe a status as "Type: message".
            span.rare().message = f"{type(error).__name__}: {text}"[:1024]
    except Exception as ours:
        _site.failed(ours)


def record(
    span: "Span", error: BaseException, attributes: "Mapping[str, Any] | None", timestamp: int | None, escaped: bool
) -> None:
    """Add the exception event, as `Span.record_exception` promises. Never raises."""
    try:
        _record(span, error, attributes, timestamp, escaped, None)
    except Exception as ours:
        _site.failed(ours)


def was_recorded(error: BaseException, span: "Span") -> bool:
    """Whether a span of the same trace has recorded this very exception already."""
    # Of the same trace: one exception object may be raised again and again, for every request.
    return getattr(error, "__dict__", _NOTHING).get(_MARK) == span._trace_id


def _record(
    span: "Span",
    error: BaseException,
    attributes: "Mapping[str, Any] | None",
    timestamp: int | None,
    escaped: bool,
    message: str | None,
    tell: "Callable[[Span, Mapping[str, Any]], bool] | None" = None,
) -> None:
    from lighttrace.tracing import scrubbing

    try:
        error.__dict__[_MARK] = span._trace_id
    except Exception:
        guard.count("errors.unmarked")  # an exception class with slots: outer spans will record it again
    if message is None:
        text = scrubbing.message(public(error, message_of(error)))
    else:
        text = scrubbing.message(message)
        try:
            error.__dict__[_SAID] = message
        except Exception:
            guard.count("errors.unmarked")
    event: dict[str, Any] = {
        semconv.EXCEPTION_TYPE: type_name(error),
        semconv.EXCEPTION_MESSAGE: text,
        semconv.EXCEPTION_STACKTRACE: _stack(error, message),
        semconv.EXCEPTION_ESCAPED: "True" if escaped else "False",
    }
    pipeline = span._tracer.pipeline
    if attributes:
        event.update(attributes)
    kept, dropped = pipeline.limits.clean(event, pipeline.limits.event_attributes)
    resolver = pipeline.resolver
    if resolver is not None:
        frame = resolver.failing_frame_of(error)
        if frame is not None:
            file, function, line, team = frame
            own = span._attributes
            own[semconv.CODE_FILE_PATH] = file
            own[semconv.CODE_FUNCTION_NAME] = function
            own[semconv.CODE_LINE_NUMBER] = line
            if team is not None:
                own[semconv.ERROR_TEAM] = team
    if tell is not None and tell(span, kept):
        return
    rare = span.rare()
    if len(rare.events) >= pipeline.limits.events:
        rare.dropped_events += 1
        if not pipeline.limits.events:
            return
        del rare.events[0]
    rare.events.append((semconv.EXCEPTION_EVENT, time_ns() if timestamp is None else timestamp, kept, dropped))


def _stack(error: BaseException, message: str | None) -> str:
    """The stack trace as text, at once: keeping the traceback would keep every frame's locals alive."""
    import traceback

    from lighttrace.tracing import scrubbing

    try:
        if message is None:
            text = scrubbing.stack(
                public(error, "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-64)))
            )
        else:  # the message is secret: the frames, then what may be said
            text = (
                "".join(traceback.format_tb(error.__traceback__, limit=-64))
                + f"{type_name(error)}: {scrubbing.message(message)}\n"
            )
    except Exception:
        return type_name(error)
    return text if len(text) <= _STACK_LIMIT else "…" + text[-_STACK_LIMIT:]
