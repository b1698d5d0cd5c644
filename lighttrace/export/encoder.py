"""Spans to OTLP protobuf, by hand (opentelemetry-proto, `trace/v1/trace.proto`).

What repeats is encoded once: an attribute whose key and value were seen before is one dictionary lookup, and a span's
attributes are joined without leaving C. Caches are bounded, and keys whose values never repeat are kept out of them.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lighttrace import guard, semconv
from lighttrace.export.protobuf import CACHED_KEYS, CACHED_VALUE, LENGTHS, encoded_text, key_value, sized, varint
from lighttrace.tracing.shared import NOTHING_OWN
from lighttrace.tracing.values import exportable, text_of

if TYPE_CHECKING:
    from lighttrace.tracing.local_trace import Far
    from lighttrace.tracing.owner import Owner
    from lighttrace.tracing.shared import Shared
    from lighttrace.tracing.span import Rare, Span

_CACHED_PER_KEY = 256  # distinct values after which a key counts as one whose values do not repeat
_CACHED = 16_384  # entries in all

_FROM_OUTSIDE_THE_SPAN = frozenset(
    {semconv.TEAM, semconv.TEAM_SOURCE, semconv.CALLER_SERVICE, semconv.CALLER_TEAM, semconv.TRANSACTION, semconv.CUSTOMER}
)
"""What a span's owner and its trace say of it. A span that says one of these itself must not say it twice."""

_PATH, _QUERY = semconv.URL_PATH, semconv.URL_QUERY

_pack_root = struct.Struct(">H16sHQ").pack  # trace id and span id, with their tags
_pack_child = struct.Struct(">H16sHQHQ").pack  # and the parent's
_pack_times = struct.Struct("<BQBQ").pack
_pack_fixed64 = struct.Struct("<Q").pack

_IDS_AND_TIMES = len(_pack_root(0, b"", 0, 0)) + len(_pack_times(0, 0, 0, 0))
_PARENT = len(_pack_child(0, b"", 0, 0, 0, 0)) - len(_pack_root(0, b"", 0, 0))

_LOCAL = b"\x85\x01\x00\x01\x00\x00"  # flags: whether the parent is remote is known, and it is not
_REMOTE = b"\x85\x01\x00\x03\x00\x00"
_TAIL = b"\x7a\x00" + _LOCAL  # an unset status, then the flags: how nearly every span ends
_REMOTE_TAIL = b"\x7a\x00" + _REMOTE

_SPANS = [b"\x12" + length for length in LENGTHS]  # tag of ScopeSpans.spans, and the length


class _UnusualError(Exception):
    """A span whose attributes must be looked at one by one."""


class _Attributes(dict[tuple[str, Any], bytes]):
    """(key, value): the span attribute, encoded. Holds strings and whole numbers only: `1`, `True` and `1.0` are one key."""

    def __init__(self) -> None:
        self.room: dict[str, int] = {}  # how many more values of a key may be kept
        self.heads: dict[str, tuple[list[bytes], list[bytes]]] = {}  # of keys whose values do not repeat

    def __missing__(self, item: tuple[str, Any]) -> bytes:
        key, value = item
        heads = self.heads.get(key)
        if heads is not None:
            if type(value) is str:
                text = encoded_text(value)
                size = len(text)
                if size < _SHORT_NEW:
                    return heads[0][size] + text
            elif -1 < value < _NUMBERS:
                number = LENGTHS[value] if value < 4096 else varint(value)
                return heads[1][len(number)] + number
            return key_value(b"\x4a", key, value)
        return self._learn(key, value, item)

    def _learn(self, key: str, value: Any, item: tuple[str, Any]) -> bytes:
        encoded = key_value(b"\x4a", key, value)
        room = self.room.get(key)
        if room is None:
            if type(key) is not str or not key or key in _FROM_OUTSIDE_THE_SPAN:
                raise _UnusualError
            if len(key) > CACHED_VALUE:
                return encoded
            room = _CACHED_PER_KEY
        if not room:
            self.heads[key] = _heads(key)
        elif len(encoded) <= CACHED_VALUE + len(key):
            if len(self) >= _CACHED:
                self.clear()
                self.room.clear()
                self.heads.clear()
            self.room[key] = room - 1
            self[item] = encoded
        return encoded


_SHORT_NEW = 128  # bytes of a text, and
_NUMBERS = 1 << 63  # the numbers, that `_heads` are for


def _heads(key: str) -> tuple[list[bytes], list[bytes]]:
    """What stands before a text and before a whole number of `key`, by their length in bytes."""
    texts = [key_value(b"\x4a", key, "x" * size)[: -size or None] for size in range(_SHORT_NEW)]
    numbers = [key_value(b"\x4a", key, (1 << 7 * size) - 1)[: -size or None] for size in range(10)]
    return texts, numbers


class _Names(dict[str, list[bytes]]):
    """name: the name and each kind, encoded."""

    def __missing__(self, name: str) -> list[bytes]:
        encoded = sized(b"\x2a", encoded_text(name))
        made = [encoded + b"\x30" + bytes((kind + 1,)) for kind in range(5)]
        if len(name) <= CACHED_VALUE:
            if len(self) >= CACHED_KEYS:
                self.clear()
            self[name] = made
        return made


_attributes = _Attributes()
_names = _Names()
_attribute: Callable[[Any], bytes] = _attributes.__getitem__


def _said_once(source: "Owner | Shared") -> bytes:
    encoded = source.encoded = b"".join([key_value(b"\x4a", key, value) for key, value in source.attributes.items()])
    return encoded


def _mixed(attributes: Mapping[str, Any]) -> bytes:
    """Attributes among which some are neither text nor whole numbers: those go past the cache."""
    parts = []
    for item in attributes.items():
        key, value = item
        kind = type(value)
        if kind is str or kind is int:
            parts.append(_attributes[item])
        elif type(key) is str and key and key not in _FROM_OUTSIDE_THE_SPAN:
            parts.append(key_value(b"\x4a", key, value))
        else:
            raise _UnusualError
    return b"".join(parts)


def _one_by_one(attributes: Mapping[str, Any]) -> bytes:
    return b"".join([key_value(b"\x4a", key, value) for key, value in attributes.items() if value is not None])


def attributes_of(span: "Span") -> dict[str, Any]:
    """All that a span says, each key once: what its owner and its trace say of it goes before what it says itself."""
    own = {key if type(key) is str else str(key): value for key, value in span.said().items() if key != ""}
    said = span._owner.attributes
    merged = {**span._shared.attributes, **said, **own, **said}  # the second time for the values, and the first for the order
    if span._inherited is not None:
        merged.update(span._inherited.attributes)
    return merged


def nanoseconds(value: Any) -> int:
    """A time as OTLP holds it. Programs give floats, too: `span.end(time.time() * 1e9)`. Raises for what is no number."""
    return min(max(int(value), 0), 0xFFFFFFFFFFFFFFFF)


def _events_and_links(rare: "Rare") -> bytes:
    parts = []
    if rare.dropped_attributes:
        parts.append(b"\x50" + varint(rare.dropped_attributes))
    for name, time, attributes, dropped in rare.events:
        body = [b"\x09", _pack_fixed64(nanoseconds(time)), sized(b"\x12", encoded_text(name))]
        body += [key_value(b"\x1a", key, value) for key, value in attributes.items()]
        if dropped:
            body.append(b"\x20" + varint(dropped))
        parts.append(sized(b"\x5a", b"".join(body)))
    if rare.dropped_events:
        parts.append(b"\x60" + varint(rare.dropped_events))
    for context, attributes, dropped in rare.links:
        body = [b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big")]
        body += [key_value(b"\x22", key, value) for key, value in attributes.items()]
        if dropped:
            body.append(b"\x28" + varint(dropped))
        body.append(b"\x35\x00\x03\x00\x00" if context.is_remote else b"\x35\x00\x01\x00\x00")
        parts.append(sized(b"\x6a", b"".join(body)))
    if rare.dropped_links:
        parts.append(b"\x70" + varint(rare.dropped_links))
    return b"".join(parts)


def _end_of(span: "Span") -> bytes:
    """What comes after the attributes on a span that is not the usual one: tracestate, events, links, status, flags."""
    trace = span._trace
    parts = []
    if trace.state:
        parts.append(sized(b"\x1a", encoded_text(",".join([f"{key}={value}" for key, value in trace.state.items()]))))
    rare = span._rare
    status = b"\x18" + bytes((span._status,)) if span._status else b""
    if rare is not None:
        parts.append(_events_and_links(rare))
        if rare.message and span._status == 2:
            status = sized(b"\x12", encoded_text(rare.message)) + status
    parts.append(sized(b"\x7a", status))
    far = trace.far
    parts.append(_REMOTE if far is not None and far.is_remote and span._parent_id == far.parent_id else _LOCAL)
    return b"".join(parts)


def encode_span(span: "Span") -> bytes:
    """One span as a field of `ScopeSpans`."""
    local = span._local
    shared = span._shared
    frame = shared.frame
    if frame is not None:
        # Most requests, calls and statements: all but four numbers, and little that is its own, is as it was on the one before.
        name, owner, kind, size, rest, root, child = frame
        if span._name is name and span._owner is owner and span._kind is kind and not span._status and span._rare is None:
            parent = span._parent_id
            if local is None:
                tail = _TAIL
                trace_id = span._root.to_bytes(16, "big")
            else:
                tail = _TAIL if local.far is None else _tail(local.far, parent)
                trace_id = local.id_bytes
            if tail:
                times = _pack_times(0x39, span._start, 0x41, span._end)
                own: Any = span._own
                if own:
                    said = b"".join(map(_attribute, own.items()))
                elif span._path is not None:
                    said = _attributes[_PATH, span._path]
                    if span._query is not None:
                        said += _attributes[_QUERY, span._query]
                elif tail is _TAIL:  # as nearly all calls and statements
                    if parent:
                        ids = _pack_child(0x0A10, trace_id, 0x1208, span._span_id, 0x2208, parent)
                        return b"".join((child, ids, rest, times, tail))
                    return b"".join((root, _pack_root(0x0A10, trace_id, 0x1208, span._span_id), rest, times, tail))
                else:
                    said = b""
                size += len(said) + len(tail)
                if parent:
                    ids = _pack_child(0x0A10, trace_id, 0x1208, span._span_id, 0x2208, parent)
                    size += _PARENT
                else:
                    ids = _pack_root(0x0A10, trace_id, 0x1208, span._span_id)
                return b"".join((_SPANS[size] if size < 4096 else b"\x12" + varint(size), ids, rest, times, said, tail))
    parent = span._parent_id
    owner = span._owner
    own = span._own
    if own is NOTHING_OWN:
        own = span.said()
    if local is None:
        far = None
        trace_id = span._root.to_bytes(16, "big")
    else:
        far = local.far
        trace_id = local.id_bytes
    usual = b"" if span._rare is not None or span._status else _TAIL if far is None else _tail(far, parent)
    end = usual
    if not usual:
        end = _end_of(span)
        if far is not None and far.inherited is not None:
            end = (far.inherited.encoded or _said_once(far.inherited)) + end
    body = b"".join(
        (
            _pack_child(0x0A10, trace_id, 0x1208, span._span_id, 0x2208, parent)
            if parent
            else _pack_root(0x0A10, trace_id, 0x1208, span._span_id),
            _names[span._name][span._kind._value_],
            _pack_times(0x39, span._start, 0x41, span._end),
            shared.encoded if shared.encoded is not None else _said_once(shared),
            owner.encoded if owner.encoded is not None else _said_once(owner),
            (b"".join(map(_attribute, own.items())) if shared.plain else _mixed(own)) if own else b"",
            end,
        )
    )
    if usual and shared.attributes:
        # Where names or owners change all the time, this one gives way before another takes its place.
        shared.frame = _frame(span) if frame is None else None
    size = len(body)
    return (_SPANS[size] if size < 4096 else b"\x12" + varint(size)) + body


def _tail(far: "Far", parent: int) -> bytes:
    """What comes after the own attributes of a span whose trace began elsewhere; nothing if there is a tracestate to be said, too."""
    if far.state:
        return b""
    end = _REMOTE_TAIL if far.is_remote and parent == far.parent_id else _TAIL
    inherited = far.inherited
    return end if inherited is None else (inherited.encoded or _said_once(inherited)) + end


def _frame(span: "Span") -> tuple[Any, ...]:
    """What a span has in common with others of its name, owner and kind: the size of a root's that has nothing of its own, without
    its tail; what stands between ids and times; and how a root and a child begin that have nothing of their own, and the usual tail.
    """
    shared, owner = span._shared, span._owner
    rest = b"".join((_names[span._name][span._kind._value_], shared.encoded or b"", owner.encoded or b""))
    size = len(rest) + _IDS_AND_TIMES
    whole = size + len(_TAIL)
    return span._name, owner, span._kind, size, rest, b"\x12" + varint(whole), b"\x12" + varint(whole + _PARENT)


def _with_care(span: "Span") -> bytes:
    """The same for a span that `encode_span` could not take as it is."""
    trace = span._trace
    parent = int(span._parent_id)
    ids = trace.id_bytes, 0x1208, int(span._span_id)
    return sized(
        b"\x12",
        b"".join(
            (
                _pack_child(0x0A10, *ids, 0x2208, parent) if parent else _pack_root(0x0A10, *ids),
                sized(b"\x2a", encoded_text(text_of(span._name))) + b"\x30" + bytes((span._kind.value + 1,)),
                _pack_times(0x39, nanoseconds(span._start), 0x41, nanoseconds(span._end)),
                _one_by_one(attributes_of(span)),
                _end_of(span),
            )
        ),
    )


def encode_spans(batch: Iterable["Span"], extra: Mapping[str, Any] | None = None, broken: "list[Span] | None" = None) -> bytes:
    """An `ExportTraceServiceRequest` of all of them, by resource and scope. `extra` goes onto the resource.

    A span that cannot be encoded is left out, counted, and added to `broken` where that is given; the others go.
    """
    groups: dict[Any, list[bytes]] = {}
    last: Any = None
    for span in batch:
        try:
            encoded = encode_span(span)
        except Exception:
            try:
                encoded = _with_care(span)
            except Exception as error:
                leave_out(span, error, broken)
                continue
        tracer = span._tracer
        if tracer is not last:
            last = tracer
            group = groups.get(tracer)
            if group is None:
                group = groups[tracer] = [_scope(tracer)]
            add = group.append
        add(encoded)
    # From the inside out only sizes are added up, and all is put together once: each copy of a batch takes 40 us and more.
    resources: dict[int, tuple[Any, list[bytes], list[int]]] = {}
    for tracer, group in groups.items():
        schema = scope_of(tracer)[3]
        if schema:
            group.append(sized(b"\x1a", encoded_text(schema)))
        resource = tracer.pipeline.resource
        _, parts, sizes = resources.setdefault(id(resource), (resource, [], []))
        size = sum(map(len, group))
        head = b"\x12" + varint(size)
        parts.append(head)
        parts += group
        sizes.append(len(head) + size)
    made: list[bytes] = []
    for resource, parts, sizes in resources.values():
        first = _resource(resource, extra)
        made += (b"\x0a" + varint(len(first) + sum(sizes)), first)
        made += parts
    return b"".join(made)


def leave_out(span: "Span", error: Exception, broken: "list[Span] | None") -> None:
    """Count a span that cannot be encoded."""
    guard.count("spans.dropped.unencodable")
    guard.site("export.encoder").failed(error)
    if broken is not None:
        broken.append(span)


def scope_of(tracer: Any) -> tuple[str, str, dict[str, Any], str]:
    """Name, version, attributes and schema of a scope, made exportable: a program may have given anything for them."""
    attributes = tracer.scope_attributes
    try:
        kept = {_as_text(key): exportable(value) for key, value in (attributes or {}).items() if value is not None}
    except Exception as error:  # no mapping
        guard.site("export.encoder").failed(error)
        kept = {}
    return _as_text(tracer.scope_name), _as_text(tracer.scope_version), kept, _as_text(tracer.schema_url)


def _as_text(value: Any) -> str:
    return value if type(value) is str else "" if value is None else str(exportable(value))


def _scope(tracer: Any) -> bytes:
    encoded: bytes | None = tracer.encoded
    if encoded is None:
        name, version, attributes, _ = scope_of(tracer)
        body = [sized(b"\x0a", encoded_text(name))] if name else []
        if version:
            body.append(sized(b"\x12", encoded_text(version)))
        for key, value in attributes.items():
            body.append(key_value(b"\x1a", key, value))
        encoded = tracer.encoded = sized(b"\x0a", b"".join(body))
    return encoded


def _resource(resource: Mapping[str, Any], extra: Mapping[str, Any] | None) -> bytes:
    merged = {**resource, **extra} if extra else resource
    items: Sequence[tuple[str, Any]] = [(key, exportable(value)) for key, value in merged.items()]
    return sized(b"\x0a", b"".join([key_value(b"\x0a", key, value) for key, value in items if value is not None]))
