"""What must not leave the process: user names and passwords in URLs, and the values of secret parameters."""

import re

from lighttrace.instrument.engine import Bounded, state
from lighttrace.secret_names import IN_QUERIES, PARTS, REDACTED, WHOLE

_SECRET = re.compile(rf"(?i){'|'.join(PARTS)}|^(?:{'|'.join(IN_QUERIES + WHOLE)})$")
# For casefolded text: a pattern that ignores case takes seven times as long to find nothing.
_QUICK = re.compile("|".join((*PARTS, *IN_QUERIES, *WHOLE, "%")))
_SHORT = 256  # characters of a query string that may come again
_SEPARATOR = re.compile(r"([&;#])")
_chosen: dict[tuple[str, ...], frozenset[str]] = {}


def _is_secret(name: str) -> bool:
    if "%" in name:  # `%74oken=` is a token too
        from urllib.parse import unquote

        name = unquote(name)
    names = state.redacted_parameters
    if names is None:
        return _SECRET.search(name) is not None
    chosen = _chosen.get(names)
    if chosen is None:
        chosen = _chosen[names] = frozenset(each.lower() for each in names)
    return name.lower() in chosen


class Queries(Bounded):
    """query string, as text or in bytes: the text without its secrets. Remembers short ones that have none: they may come again."""

    __slots__ = ()

    def __missing__(self, given: str | bytes) -> str:
        text = given if type(given) is str else given.decode("latin-1")  # type: ignore[union-attr]  # else it is bytes
        if state.redacted_parameters is None and not _QUICK.search(text.casefold()):
            if len(text) < _SHORT:
                self[given] = text
            return text
        # Part by part, and not with one pattern for all: what a stranger sends must take time in proportion to its length.
        parts = _SEPARATOR.split(text)
        for index in range(0, len(parts), 2):
            name, equals, value = parts[index].partition("=")
            if equals and value and _is_secret(name):
                parts[index] = f"{name}={REDACTED}"
        return "".join(parts)


queries = Queries(1024)


def forget() -> None:
    """Another configuration may take other parameters for secrets."""
    global queries
    queries = Queries(1024)


def query(text: str) -> str:
    """A query string without its secrets.

    >>> query("page=2&api_key=abc&X-Amz-Signature=f00")
    'page=2&api_key=REDACTED&X-Amz-Signature=REDACTED'
    """
    return queries[text]  # type: ignore[no-any-return]  # a cache of anything


def url(text: str) -> str:
    """A URL without credentials and secrets.

    >>> url("https://bob:hunter2@example.com/a?sig=abc")
    'https://REDACTED:REDACTED@example.com/a?sig=REDACTED'
    """
    head, mark, rest = text.partition("?")
    scheme, separator, after = head.partition("//")
    if separator and (not scheme or scheme[-1] == ":"):
        authority, slash, path = after.partition("/")
        if "@" in authority:
            head = f"{scheme}//{REDACTED}:{REDACTED}@{authority.rpartition('@')[2]}{slash}{path}"
    if mark:
        before, hash_mark, fragment = rest.partition("#")
        rest = query(before) + (hash_mark + query(fragment) if hash_mark else "")
        return f"{head}?{rest}"
    if "#" in head:
        before, _, fragment = head.partition("#")
        return f"{before}#{query(fragment)}"
    return head
