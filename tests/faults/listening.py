"""A backend that keeps what is sent as it came, for whoever looks for bytes that must not be in there."""

import gzip
from typing import Any

from tests.faults.backend import Backend


class Listening(Backend):
    """Takes everything. `raw` has targets with headers, and bodies without their compression."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        super().__init__()

    def _received(self, body: bytes, target: str, headers: dict[str, str], *others: Any) -> Any:
        self.raw.append(repr((target, headers)).encode())
        self.raw.append(gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body)
        return super()._received(body, target, headers, *others)
