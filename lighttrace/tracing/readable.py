"""What code written for opentelemetry-sdk reads from a span: `ReadableSpan`'s attributes, made when they are asked for.

Third-party processors, exporters and samplers see our spans through these properties; our own exporters never do. The
SDK itself is imported here only when a property needs one of its classes, and then somebody uses it already.
"""

import sys
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STATUS = {0: StatusCode.UNSET, 1: StatusCode.OK, 2: StatusCode.ERROR}


class ReadableMixin:
    """`ReadableSpan` of opentelemetry-sdk over the slots of `Span`."""

    __slots__ = ()

    @property
    def __class__(self) -> Any:
        """The SDK's `Span` once the SDK is loaded, so that its `isinstance` checks hold without it being imported for us."""
        sdk = sys.modules.get("opentelemetry.sdk.trace")
        return getattr(sdk, "Span", None) or type(self)

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise TypeError("the class of a span cannot be changed")

    def get_span_context(self) -> SpanContext:
        raise NotImplementedError

    @property
    def context(self) -> SpanContext:
        return self.get_span_context()

    @property
    def _context(self) -> SpanContext:
        return self.get_span_context()

    @property
    def name(self) -> str:
        return self._name  # type: ignore[attr-defined,no-any-return]  # a slot of the class that mixes this in

    @property
    def kind(self) -> SpanKind:
        return self._kind  # type: ignore[attr-defined,no-any-return]  # as above

    @property
    def parent(self) -> SpanContext | None:
        me: Any = self
        if not me._parent_id:
            return None
        trace = me._trace
        remote: SpanContext | None = trace.remote
        if remote is not None and remote.span_id == me._parent_id:
            return remote
        return SpanContext(trace.trace_id, me._parent_id, False, TraceFlags(trace.flags), trace.state)

    @property
    def _parent(self) -> SpanContext | None:
        return self.parent

    @property
    def start_time(self) -> int | None:
        return self._start or None  # type: ignore[attr-defined]  # as above

    @property
    def _start_time(self) -> int | None:
        return self.start_time

    @property
    def end_time(self) -> int | None:
        return self._end or None  # type: ignore[attr-defined]  # as above

    @property
    def _end_time(self) -> int | None:
        return self.end_time

    @property
    def status(self) -> Status:
        me: Any = self
        return Status(_STATUS[me._status], me._rare.message if me._rare is not None and me._status == 2 else None)

    @property
    def attributes(self) -> "Mapping[str, Any]":
        """A read-only copy: the span's own attributes, then those of its owner and of what its trace hands down."""
        from types import MappingProxyType

        me: Any = self
        # The start of a span looks at values only; a key that is no text becomes it here and in the encoder.
        merged = {**me._shared.attributes, **{str(key): value for key, value in me.said().items() if key != ""}}
        merged.update(me._owner.attributes)
        if me._inherited is not None:
            merged.update(me._inherited.attributes)
        return MappingProxyType(merged)

    @property
    def events(self) -> "Sequence[Any]":
        from opentelemetry.sdk.trace import Event

        me: Any = self
        return (
            tuple(Event(name, attributes, time) for name, time, attributes, _ in me._rare.events) if me._rare is not None else ()
        )

    @property
    def links(self) -> "Sequence[Link]":
        me: Any = self
        return tuple(Link(context, attributes) for context, attributes, _ in me._rare.links) if me._rare is not None else ()

    @property
    def dropped_attributes(self) -> int:
        me: Any = self
        return me._rare.dropped_attributes if me._rare is not None else 0

    @property
    def dropped_events(self) -> int:
        me: Any = self
        return me._rare.dropped_events if me._rare is not None else 0

    @property
    def dropped_links(self) -> int:
        me: Any = self
        return me._rare.dropped_links if me._rare is not None else 0

    @property
    def resource(self) -> Any:
        return self._tracer.pipeline.sdk_resource()  # type: ignore[attr-defined]  # as above

    @property
    def instrumentation_scope(self) -> Any:
        return self._tracer.sdk_scope()  # type: ignore[attr-defined]  # as above

    @property
    def instrumentation_info(self) -> Any:
        from opentelemetry.sdk.util.instrumentation import InstrumentationInfo

        scope = self.instrumentation_scope
        return InstrumentationInfo(scope.name, scope.version, scope.schema_url)

    def to_json(self, indent: int | None = 4) -> str:
        """The span as the SDK's console exporter prints it."""
        from opentelemetry.sdk.trace import Event, ReadableSpan

        copy = self._readable_span()
        copy._attributes = _printable(copy._attributes)
        copy._events = [Event(event.name, _printable(event.attributes), event.timestamp) for event in self.events]
        copy._links = [Link(link.context, _printable(link.attributes)) for link in self.links]
        text: str = ReadableSpan.to_json(copy, indent)
        return text

    def _readable_span(self) -> Any:
        """A copy made of the SDK's own class, for code that wants one to keep or to change."""
        from opentelemetry.sdk.trace import ReadableSpan

        return ReadableSpan(
            name=self.name,
            context=self.context,
            parent=self.parent,
            resource=self.resource,
            attributes=dict(self.attributes),
            events=self.events,
            links=self.links,
            kind=self.kind,
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=self.instrumentation_scope,
        )


def _printable(value: Any) -> Any:
    """What JSON has no form for as text: the SDK's spans never hold bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if hasattr(value, "items"):
        return {key: _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, tuple) else value
