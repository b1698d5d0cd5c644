"""A finished span as a test wants to read it, and how it is compared with what is expected."""

from collections.abc import Mapping
from typing import Any

from lighttrace import semconv
from lighttrace.tracing.span import Span

_STATUS = ("unset", "ok", "error")


class Event:
    """Something that happened during a span."""

    __slots__ = ("attributes", "name", "time_ns")

    def __init__(self, name: str, time_ns: int, attributes: Mapping[str, Any]) -> None:
        self.name = name
        self.time_ns = time_ns
        self.attributes = dict(attributes)

    def __repr__(self) -> str:
        return f"Event({self.name!r}, {self.attributes!r})"


class CapturedSpan:
    """A span that has ended. Ids are hex strings, kinds and statuses words, times nanoseconds since the epoch.

    >>> from lighttrace.testing import capture
    >>> import lighttrace
    >>> with capture(service="checkout", team="payments") as spans:
    ...     with lighttrace.span("reserve stock", sku="A-1"):
    ...         pass
    ...     span = spans.take()[0]
    >>> span.name, span.kind, span.status, span.team, span.service, span.attributes["sku"]
    ('reserve stock', 'internal', 'unset', 'payments', 'checkout', 'A-1')
    """

    def __init__(self, span: Span) -> None:
        rare = span._rare
        self.name = span._name
        self.kind = span._kind.name.lower()
        self.trace_id = f"{span._trace.trace_id:032x}"
        self.span_id = f"{span._span_id:016x}"
        self.parent_id = f"{span._parent_id:016x}" if span._parent_id else None
        self.trace_flags = span._trace.flags
        self.trace_state = span._trace.state.to_header() if span._trace.state else ""
        self.start_ns = span._start
        self.end_ns = span._end
        self.status = _STATUS[span._status]
        self.message = rare.message if rare is not None else None
        self.attributes: dict[str, Any] = dict(span.attributes)
        self.events = [Event(name, time, kept) for name, time, kept, _ in rare.events] if rare is not None else []
        self.links = (
            [f"{context.trace_id:032x}-{context.span_id:016x}" for context, _, _ in rare.links] if rare is not None else []
        )
        self.team = span._owner.team
        self.team_source = span._owner.source
        self.scope = span._tracer.scope_name
        self.resource: dict[str, Any] = dict(span._tracer.pipeline.resource)

    @property
    def service(self) -> str | None:
        """The service that sent it."""
        return self.resource.get(semconv.SERVICE_NAME)

    @property
    def traceparent(self) -> str:
        """The W3C header that names this span as a parent."""
        return f"00-{self.trace_id}-{self.span_id}-{self.trace_flags:02x}"

    @property
    def exceptions(self) -> list[Event]:
        """The exceptions recorded on it."""
        return [event for event in self.events if event.name == semconv.EXCEPTION_EVENT]

    def differences(self, expected: Mapping[str, Any]) -> list[str]:
        """What is not as expected: one line each, none if everything is."""
        found = []
        for key, want in expected.items():
            if key == "attributes":
                for name, value in want.items():
                    have = self.attributes.get(name)
                    if not _equal(have, value):
                        found.append(f"attribute {name} is {have!r}, not {_shown(value)}")
            elif key == "parent":
                wanted = want.span_id if want is not None else None
                if self.parent_id != wanted:
                    found.append(f"parent is {self.parent_id}, not {wanted}")
            else:
                have = getattr(self, key)
                if not _equal(have, want):
                    found.append(f"{key} is {have!r}, not {_shown(want)}")
        return found

    def __repr__(self) -> str:
        return f"<{self.kind} span {self.name!r}, {self.status}, team {self.team}, {self.attributes}>"


def _equal(have: Any, want: Any) -> bool:
    if want is ...:
        return have is not None
    if isinstance(want, type):
        return isinstance(have, want)
    if callable(want):
        return bool(want(have))
    return bool(have == want)


def _shown(want: Any) -> str:
    return "there" if want is ... else getattr(want, "__name__", None) or repr(want)
