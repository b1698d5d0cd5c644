"""Attributes that many spans have in common: of one statement, of one URL, of one caller. Held once, and encoded once.

A span starts with a reference to them and a dict of its own for the rest. Whoever sets an attribute on it, or looks at all
that it has, makes them the span's own first (`Span._attributes`).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


class Shared:
    """Each key and value of `attributes` exportable, each value exactly a str or an int. They never change."""

    __slots__ = ("attributes", "encoded", "frame", "further", "plain", "routes")

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self.attributes = attributes
        self.encoded: bytes | None = None  # filled in by the encoder on its first use
        self.frame: Any = None  # as well: all of a span that has these and nothing else, but for its ids and times
        self.further: Mapping[Any, Shared] = _NONE_YET  # these and more, by what brought it: a status, for example
        self.routes: Mapping[Any, tuple[Any, ...]] = _NONE_YET  # the same for what a framework finds (`engine.Routes`)
        self.plain = True  # what is said of the span's own attributes, too

    @property
    def lasts(self) -> bool:
        """Whether it is worth adding to, for all those to come."""
        return self.further is not _NONE_YET

    def expect_more(self) -> None:
        """Say that these come again and again: then the first that is added to them is remembered at once."""
        if self.attributes and self.further is _NONE_YET:
            self.further, self.routes = {}, {}

    def with_more(self, what: Any, attributes: Mapping[str, Any]) -> "Shared | None":
        """These and `attributes`, remembered in `further`. None where that is not worth it, and they are to be the span's own.

        That is so where nothing is shared, for what comes first (it may be all that ever comes), and beyond a few.

        >>> caller = Shared({"server.address": "a"})
        >>> caller.with_more(200, {"http.response.status_code": 200})
        >>> caller.with_more(200, {"http.response.status_code": 200}).attributes
        {'server.address': 'a', 'http.response.status_code': 200}
        >>> 200 in caller.further
        True
        """
        further = self.further
        if further is _NONE_YET:
            self.expect_more()
            return None
        if len(further) >= _FEW:
            return None
        made = further[what] = Shared({**self.attributes, **attributes})  # type: ignore[index]  # only the one above is not ours
        return made


_NONE_YET: Mapping[Any, Any] = MappingProxyType({})
_FEW = 8


def _nothing(plain: bool) -> Shared:
    made = Shared({})
    made.encoded = b""
    made.plain = plain
    return made


NOTHING = _nothing(plain=True)
"""A span with nothing but its own attributes, each value exactly a str or an int."""
MIXED = _nothing(plain=False)
"""A span with nothing but its own attributes, of any kind."""

NOTHING_OWN: Any = MappingProxyType({})
"""What a span is started with that has nothing beside its `Shared` attributes, of which there are some then (`Span.own`).

Most calls and statements are like that: an empty dict for each of them would be a seventh of what they hold while they wait.
"""
