"""OTLP JSON lines in a file: one request a line, appended and flushed batch by batch, as the Collector's file exporter writes."""

import os
from typing import TYPE_CHECKING, Any

from lighttrace.export.exporter import ARRIVED, Outcome
from lighttrace.export.json_encoder import encode_json

if TYPE_CHECKING:
    from io import FileIO

    from lighttrace.tracing.span import Span


class FileExporter:
    """Appends to `path`. Several processes may share a file: each line goes out in one write."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: FileIO | None = None
        self._torn = False
        self._pid = os.getpid()

    def prepare(self, batch: "list[Span]", extra: dict[str, Any] | None, broken: "list[Span] | None" = None) -> bytes:
        """Encode a batch as one line."""
        return encode_json(batch, extra, broken).encode() + b"\n"

    def send(self, payload: bytes, timeout: float) -> Outcome:
        """Append the line."""
        try:
            if self._file is None or self._pid != os.getpid():
                self._file, self._pid = open(self.path, "ab", buffering=0), os.getpid()  # noqa: SIM115  # kept open between batches
            # After a write that broke off (a full disk), what follows must not be glued to the torn line.
            data = b"\n" + payload if self._torn else payload
            self._torn = True
            while data:
                data = data[self._file.write(data) :]
            self._torn = False
        except OSError as error:
            self.close()
            return Outcome(f"file: {self.path}: {error.strerror or error}", retry=False)
        return ARRIVED

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
