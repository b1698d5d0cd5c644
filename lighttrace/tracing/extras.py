"""What few spans are started with, and whom the rules give a span to before it is there."""

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from lighttrace import guard, semconv
from lighttrace.tracing.owner import Owner, owner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import Link

    from lighttrace.tracing.span import Span

CLIENT, PRODUCER = SpanKind.CLIENT, SpanKind.PRODUCER


class Extras:
    """What few spans are started with; on the span before a processor is told of it."""

    __slots__ = ("dropped", "links", "record_exception", "set_status", "start_time")

    def __init__(
        self,
        links: "Sequence[Link] | None",
        start_time: int | None,
        dropped: int,
        record_exception: bool = True,
        set_status: bool = True,
    ) -> None:
        self.links = links or ()
        self.start_time = start_time
        self.dropped = dropped
        self.record_exception = record_exception
        self.set_status = set_status

    def apply(self, span: "Span") -> None:
        """Put them on the span."""
        if self.start_time is not None:
            span._start = self.start_time
        if self.dropped:
            span.rare().dropped_attributes += self.dropped
        if not (self.record_exception and self.set_status):
            span.rare().on_error = self.record_exception, self.set_status
        for link in self.links:
            span.add_link(link.context, link.attributes)


def ruled(rules: Any, name: str, kind: SpanKind, attributes: dict[str, Any]) -> Owner | None:
    """Whom an explicit rule gives a span to. A rule that cannot be applied gives it to nobody, and breaks nothing.

    The module of a span is known where there is a function to it: see `lighttrace.trace` and the handlers of requests.
    """
    try:
        peer = attributes.get(semconv.SERVER_ADDRESS) if kind is CLIENT or kind is PRODUCER else None
        found = rules.team_for_span(name, attributes.get(semconv.HTTP_ROUTE), None, peer)
        if found is None and peer is not None and semconv.SERVICE_PEER_NAME in attributes:
            found = rules.team_for_span(name, None, None, attributes[semconv.SERVICE_PEER_NAME])
        return owner(*found) if found is not None else None
    except Exception as error:
        guard.site("ownership.rules").failed(error)
        return None
