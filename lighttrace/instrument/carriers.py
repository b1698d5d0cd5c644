"""Libraries' own headers, written to without the detours that their mappings take for each access.

A client library's case-insensitive mapping spends a microsecond and more on each look-up; we make three per call. These
speak to the structure behind it, with the three operations that propagation needs. Names are lower case.
"""

from typing import Any


class StoredHeaders:
    """Over `requests.structures.CaseInsensitiveDict`: lower-case name to (name, value)."""

    __slots__ = ("_store",)

    def __init__(self, headers: Any) -> None:
        self._store: dict[str, tuple[str, str]] = headers._store

    def __contains__(self, name: str) -> bool:
        return name in self._store

    def __setitem__(self, name: str, value: str) -> None:
        self._store[name] = (name, value)

    def pop(self, name: str, default: Any = None) -> Any:
        """Take a header out again."""
        return self._store.pop(name, default)

    def get(self, name: str) -> str | None:
        """A header's value, or None."""
        found = self._store.get(name.lower())
        return found[1] if found is not None else None


class RawHeaders:
    """Over `httpx.Headers`: a list of (name as written, lower-case name, value), in bytes."""

    __slots__ = ("_list",)

    def __init__(self, headers: Any) -> None:
        self._list: list[tuple[bytes, bytes, bytes]] = headers._list

    def __contains__(self, name: str) -> bool:
        wanted = name.encode()
        return wanted in [lower for _, lower, _ in self._list]

    def __setitem__(self, name: str, value: str) -> None:
        key = name.encode()
        self._list.append((key, key, value.encode("latin-1", "replace")))

    def pop(self, name: str, default: Any = None) -> Any:
        """Take a header out again."""
        wanted = name.encode()
        for index in range(len(self._list) - 1, -1, -1):
            if self._list[index][1] == wanted:
                return self._list.pop(index)
        return default

    def get(self, name: str) -> list[str] | None:
        """A header's values, or None."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for _, lower, value in self._list if lower == wanted] or None
