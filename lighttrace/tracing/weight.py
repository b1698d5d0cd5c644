"""How much memory a span holds, for whoever keeps spans within bounds."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from lighttrace.tracing.span import Span


def weigh(span: "Span") -> int:
    """About how many bytes a span holds."""
    size = 600 + _weigh_attributes(span.said())
    rare = span._rare
    if rare is not None:
        size += len(rare.message or "")
        for _, _, attributes, _ in rare.events:
            size += 200 + _weigh_attributes(attributes)
        for _, attributes, _ in rare.links:
            size += 300 + _weigh_attributes(attributes)
    return size


def _weigh_attributes(attributes: "Mapping[str, Any]") -> int:
    size = 0
    for value in attributes.values():
        kind = type(value)
        size += 80 + (len(value) if kind is str or kind is bytes else 0)
        if kind is tuple or kind is dict:
            size += len(repr(value))
    return size
