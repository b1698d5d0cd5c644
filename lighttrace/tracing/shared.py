"""Attributes that many spans have in common: of one statement, of one URL, of one caller. Held once, and encoded once.

A span starts with a reference to them and a dict of its own for the rest. Whoever sets an attribute on it, or looks at all
that it has, makes them the span's own first (`Span._attributes`).
"""

from collections.abc import Mapping
from typing import Any


class Shared:
    """Each key and value exportable, each value exactly a str or an int. Never changed."""

    __slots__ = ("attributes", "encoded", "plain")

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self.attributes = attributes
        self.encoded: bytes | None = None  # filled in by the encoder on its first use
        self.plain = True  # what is said of the span's own attributes, too


def _nothing(plain: bool) -> Shared:
    made = Shared({})
    made.encoded = b""
    made.plain = plain
    return made


NOTHING = _nothing(plain=True)
"""A span with nothing but its own attributes, each value exactly a str or an int."""
MIXED = _nothing(plain=False)
"""A span with nothing but its own attributes, of any kind."""
