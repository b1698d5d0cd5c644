"""Span limits (OpenTelemetry specification, "Span Limits") and the cleaning of attributes that they call for."""

from collections.abc import Mapping
from typing import Any

from lighttrace.tracing.values import exportable, is_plain, text_of


class Limits:
    """How much one span may hold. `attribute_length` None means that values are never cut."""

    __slots__ = ("attribute_length", "attributes", "event_attributes", "events", "link_attributes", "links", "most_plain")

    def __init__(
        self,
        attributes: int = 128,
        attribute_length: int | None = None,
        events: int = 128,
        links: int = 128,
        event_attributes: int = 128,
        link_attributes: int = 128,
    ) -> None:
        self.attributes = attributes
        self.attribute_length = attribute_length
        self.events = events
        self.links = links
        self.event_attributes = event_attributes
        self.link_attributes = link_attributes
        # How many attributes, each a str or an int, surely are within the limits.
        self.most_plain = attributes if attribute_length is None else -1

    def clean(self, attributes: Mapping[str, Any] | None, most: int) -> tuple[dict[str, Any], int]:
        """A copy holding only exportable values, at most `most` of them, and how many were dropped for want of room."""
        if not attributes:
            return {}, 0
        kept: dict[str, Any] = {}
        dropped = 0
        length = self.attribute_length
        for key, value in attributes.items():
            value = exportable(value, length)
            name = key if type(key) is str else text_of(key)
            if value is None or not name:
                continue
            if len(kept) >= most and name not in kept:
                dropped += 1
                continue
            kept[name] = value
        return kept, dropped

    def fits(self, attributes: Mapping[str, Any]) -> bool:
        """Whether a plain copy of `attributes` is already within the limits: strings and whole numbers, few enough."""
        return len(attributes) <= self.most_plain and is_plain(attributes.values())
