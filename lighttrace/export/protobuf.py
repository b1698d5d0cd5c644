"""Protobuf by hand: numbers, texts, and what OTLP calls `AnyValue` and `KeyValue` (opentelemetry-proto, `common/v1/common.proto`)."""

import struct
from typing import Any

from lighttrace import guard

CACHED_VALUE = 256  # characters of a value that is worth keeping
CACHED_KEYS = 4_096

_pack_double = struct.Struct("<d").pack


def varint(value: int) -> bytes:
    """An unsigned number in protobuf's variable length."""
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


LENGTHS = [varint(size) for size in range(4096)]


def sized(tag: bytes, body: bytes) -> bytes:
    """A field of any length: its tag, the length, and the body."""
    size = len(body)
    return tag + (LENGTHS[size] if size < 4096 else varint(size)) + body


_SHORT = 2048  # bytes of a text up to which its headers are looked up
_TEXTS = [sized(b"\x12", b"\x0a" + LENGTHS[size] + bytes(size))[: -size or None] for size in range(_SHORT)]  # KeyValue.value


def encoded_text(value: str) -> bytes:
    """A text in UTF-8, whatever it holds."""
    try:
        return value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return value.encode("utf-8", "replace")


def any_value(value: Any) -> bytes:
    """An `AnyValue`: what `lighttrace.tracing.values.exportable` gives, in OTLP's form."""
    kind = type(value)
    if kind is str:
        return sized(b"\x0a", encoded_text(value))
    if kind is int:
        if not -(1 << 63) <= value < 1 << 63:
            return sized(b"\x0a", str(value).encode())
        return b"\x18" + varint(value & 0xFFFFFFFFFFFFFFFF)
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is float:
        return b"\x21" + _pack_double(value)
    if kind is bytes:
        return sized(b"\x3a", value)
    if kind is tuple or kind is list:
        return sized(b"\x2a", b"".join([sized(b"\x0a", any_value(item)) for item in value]))
    if kind is dict:
        return sized(b"\x32", b"".join([key_value(b"\x0a", key, item) for key, item in value.items()]))
    if value is None:
        return b""
    guard.count("encoder.unexpected_type")
    return sized(b"\x0a", encoded_text(str(value)))


class _Keys(dict[str, bytes]):
    """key: `KeyValue.key`, encoded."""

    def __missing__(self, key: str) -> bytes:
        encoded = sized(b"\x0a", encoded_text(key if type(key) is str else str(key)))
        if len(encoded) <= CACHED_VALUE:
            if len(self) >= CACHED_KEYS:
                self.clear()
            self[key] = encoded
        return encoded


_keys = _Keys()


def key_value(tag: bytes, key: str, value: Any) -> bytes:
    """A `KeyValue` as a field of another message."""
    head = _keys[key]
    if type(value) is str:
        text = encoded_text(value)
        size = len(text)
        if size < _SHORT:
            middle = _TEXTS[size]
            size += len(head) + len(middle)
            return tag + (LENGTHS[size] if size < 4096 else varint(size)) + head + middle + text
        return sized(tag, head + sized(b"\x12", sized(b"\x0a", text)))
    return sized(tag, head + sized(b"\x12", any_value(value)))
