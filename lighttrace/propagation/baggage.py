"""W3C baggage: reading and writing the `baggage` header, and what of it is LightTrace's own.

A value is the text that the sender meant, percent-decoded. One that was received also remembers how it was written,
with its properties, so that foreign baggage passes through unchanged.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator, default_getter, default_setter

from lighttrace import guard, semconv
from lighttrace.propagation.carrier import MOST_BYTES, MOST_MEMBERS, MOST_VALUES, values

BAGGAGE = "baggage"

OURS = (semconv.CALLER_SERVICE, semconv.CALLER_TEAM, semconv.TRANSACTION, semconv.CUSTOMER)
"""The members that LightTrace writes, and that become attributes on the other side: exactly these."""

MOST_OF_A_VALUE = 64
MOST_OF_OURS = 512
"""Bytes: of one of our values as UTF-8, and of all our members as they stand in the header."""

ALLOWED_KEY = "lighttrace-baggage-allowed"
"""Set in a context that is injected for a host which may read our members. Without it, no propagator here writes them."""

_BLANKS = " \t"
_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_OCTETS = r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
is_token = re.compile(_NAME).fullmatch
"""Whether a text can be the name of a header or of a member."""

_is_value = re.compile(_OCTETS).fullmatch
_is_property = re.compile(rf"{_NAME}(?:[ \t]*=[ \t]*{_OCTETS})?").fullmatch
_needs_no_encoding = re.compile(r"[\x21\x23\x24\x26-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*").fullmatch
_SAFE = "!#$&'()*+-./:<=>?@[]^_`{|}~"


class Received(str):
    """A value from another process; `written` is how it stood in the header, with its properties."""

    __slots__ = ("written",)
    written: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (str(self), self.written)


def _received(text: str, written: str) -> Received:
    made = Received(text)
    made.written = written
    return made


def parse(header: str | Iterable[object]) -> dict[str, str]:
    """The members of one `baggage` header or of several, in order. Never raises.

    Malformed members are left out, and so are whole members beyond 64 or beyond 8,192 bytes. Of a name that comes
    twice the last counts.

    >>> parse("user=alice, node=DF%2028;level=1")
    {'user': 'alice', 'node': 'DF 28'}
    >>> format(parse(["user=alice", "node = DF%2028 ; level=1"]))
    'user=alice,node=DF%2028;level=1'
    """
    members: dict[str, str] = {}
    room = MOST_BYTES
    seen = 0
    for text in (header,) if isinstance(header, str) else header:
        seen += 1
        if seen > MOST_VALUES or room <= 0:
            break
        if not isinstance(text, str) or not text:
            continue
        if len(text) > room:
            cut = text.rfind(",", 0, room + 1)
            guard.count("baggage.dropped")
            text, room = text[: max(cut, 0)], 0
        else:
            room -= len(text) + 1
        for member in text.split(","):
            if "=" in member and len(members) <= MOST_MEMBERS:
                _read(member, members)
    if len(members) > MOST_MEMBERS:
        members.popitem()
        guard.count("baggage.dropped")
    return members


def _read(member: str, members: dict[str, str]) -> None:
    name, _, rest = member.partition("=")
    text, semicolon, properties = rest.partition(";")
    name, text = name.strip(_BLANKS), text.strip(_BLANKS)
    if is_token(name) is None or _is_value(text) is None:
        return
    written = text
    if semicolon:
        for item in properties.split(";"):
            item = item.strip(_BLANKS)
            if item and _is_property(item) is None:
                return
            if item:
                written += ";" + item
    made = Received(_decoded(text) if "%" in text else text)
    made.written = written
    members[name] = made


def _decoded(text: str) -> str:
    from urllib.parse import unquote

    return unquote(text)  # what is no UTF-8 becomes U+FFFD, as the specification has it


def format(members: Mapping[Any, object]) -> str:
    """The header for these members; "" for none. Whole members are left out beyond 64, and where 8,192 bytes are full.

    >>> format({"node": "DF 28", "user": "a,b"})
    'node=DF%2028,user=a%2Cb'
    """
    parts: list[str] = []
    room = MOST_BYTES
    for name, value in members.items():
        if len(parts) == MOST_MEMBERS:
            guard.count("baggage.dropped")
            break
        if type(value) is Received:
            part = f"{name}={value.written}"
        else:
            text = _text(value)
            if text is None or len(text) > room or not isinstance(name, str) or not 0 < len(name) < room:
                guard.count("baggage.dropped")
                continue
            if is_token(name) is None:
                name = _encoded(name, "!#$&'*+-.^_`|~")
            part = f"{name}={text if _needs_no_encoding(text) else _encoded(text, _SAFE)}"
        if len(part) > room:
            guard.count("baggage.dropped")
            continue
        parts.append(part)
        room -= len(part) + 1
    return ",".join(parts)


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception:  # an object of the program's in its own baggage
        return None


def _encoded(text: str, safe: str) -> str:
    from urllib.parse import quote

    return quote(text, safe, errors="replace")


def get_all(context: Context | None = None) -> Mapping[str, object]:
    """The baggage in `context`, or in the current one."""
    module = sys.modules.get("opentelemetry.baggage")
    if module is None:  # nobody can have put anything there
        return {}
    found: Mapping[str, object] = module.get_all(context)
    return found


def with_all(members: Mapping[str, object], context: Context) -> Context:
    """`context` with these members added to its baggage."""
    # The public way copies context and baggage for every member; 64 of them would be quadratic work for a caller to ask for.
    return _replaced({**get_all(context), **members}, context)


def clipped(value: object) -> str:
    """A value of ours as text of at most 64 bytes, never cut inside a character.

    >>> clipped("x" * 100) == "x" * 64, len(clipped("\u20ac" * 100))
    (True, 21)
    """
    text = _text(value) or ""
    if len(text) * 4 <= MOST_OF_A_VALUE or (len(text) <= MOST_OF_A_VALUE and text.isascii()):
        return str(text)
    return text[:MOST_OF_A_VALUE].encode("utf-8", "replace")[:MOST_OF_A_VALUE].decode("utf-8", "ignore")


def format_ours(members: Mapping[str, object]) -> str:
    """Our members as they leave: each value clipped, and whole members left out where 512 bytes are full."""
    parts: list[str] = []
    room = MOST_OF_OURS
    for name in OURS:
        value = members.get(name)
        part = format({name: clipped(value)}) if value else ""
        if not part:
            continue
        if len(part) > room:
            guard.count("baggage.dropped")
            continue
        parts.append(part)
        room -= len(part) + 1
    return ",".join(parts)


def joined(theirs: str, ours: str) -> str:
    """Both as one header. What others wrote goes first: where the limits are reached, it is our members that stay behind."""
    if not theirs or not ours:
        return theirs or ours
    members = theirs.count(",") + 1
    for part in ours.split(","):
        if members == MOST_MEMBERS or len(theirs) + len(part) + 1 > MOST_BYTES:
            guard.count("baggage.dropped")
            continue
        theirs += "," + part
        members += 1
    return theirs


def foreign(members: Mapping[str, object]) -> Mapping[str, object]:
    """What of it is not ours."""
    for name in OURS:
        if name in members:
            return {key: value for key, value in members.items() if key not in OURS}
    return members


def without_ours(context: Context) -> Context:
    """`context` without our members; itself, if it has none."""
    members = get_all(context)
    kept = foreign(members)
    return context if kept is members else _replaced(kept, context)


def _replaced(members: Mapping[str, object], context: Context) -> Context:
    """A context of its own whose baggage is exactly these members."""
    from opentelemetry import baggage

    key = getattr(baggage, "_BAGGAGE_KEY", None)
    if key is None:
        context = baggage.clear(context)
        for name, value in members.items():
            context = baggage.set_baggage(name, value, context)
        return context
    made = Context(context)
    dict.__setitem__(made, key, dict(members))
    return made


def leaving(context: Context | None) -> Mapping[str, object]:
    """What a propagator may write of the baggage in `context`: ours only where whoever asked knows who reads it."""
    if context is None:
        from opentelemetry.context import get_current

        context = get_current()
    members = get_all(context)
    return members if not members or context.get(ALLOWED_KEY) else foreign(members)


class W3CBaggagePropagator(TextMapPropagator):
    """The `baggage` header behind OpenTelemetry's interface."""

    def extract(self, carrier: Any, context: Context | None = None, getter: Getter[Any] = default_getter) -> Context:
        """The context with the caller's baggage added."""
        if context is None:
            from opentelemetry.context import get_current

            context = get_current()
        members = parse(values(getter, carrier, BAGGAGE))
        return with_all(members, context) if members else context

    def inject(self, carrier: Any, context: Context | None = None, setter: Setter[Any] = default_setter) -> None:
        """Write the baggage of `context` into the carrier, if it has any; our members only toward hosts that may read them."""
        text = format(leaving(context))
        if text:
            setter.set(carrier, BAGGAGE, text)

    @property
    def fields(self) -> set[str]:
        """The header that `inject` sets."""
        return {BAGGAGE}
