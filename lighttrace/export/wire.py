"""One HTTP/1.1 request and its answer over a connected socket.

The standard library connects (TLS, proxies); the exchange itself is done here, because `http.client` parses an answer's
three headers with the machinery made for mail, and a batch of 512 spans is encoded in less time than that takes.
"""

import socket
import ssl
import time

_MOST_HEAD = 65_536
_MOST_BODY = 1 << 20


_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux


class BadAnswer(Exception):
    """What came back is no HTTP; the message says what it was."""


class Answer:
    """A status line, headers by lower-case name, the body (cut at 1 MiB), and whether the connection can be used again."""

    __slots__ = ("body", "headers", "keep", "reason", "status")

    def __init__(self, status: int, reason: str, headers: dict[str, str], body: bytes, keep: bool) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body
        self.keep = keep


class HungUp(OSError):
    """The other side closed before it said anything: a kept connection that was no longer one."""


def exchange(sock: socket.socket, head: bytes, payload: bytes, timeout: float) -> Answer:
    """Send a request and read its answer, within `timeout` seconds in all.

    Raises HungUp, BadAnswer, and what sockets raise (TimeoutError, OSError).
    """
    source = _Source(sock, time.monotonic() + timeout)
    try:
        # One write: a small first segment would wait for the acknowledgement of the one before.
        sock.sendall(head + payload)
        if _QUICKACK is not None:
            # Many servers send headers and body apart, and hold the body back until the headers are acknowledged: 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
    except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise HungUp(str(error)) from None
    data = b""
    while True:
        end = data.find(b"\r\n\r\n")
        if end >= 0 and data.startswith(b"HTTP/1.1 1"):
            data = data[end + 4 :]
            continue
        if end >= 0:
            break
        if len(data) > _MOST_HEAD or (len(data) >= 5 and not data.startswith(b"HTTP/")):
            raise BadAnswer(f"not HTTP: {data[:40]!r}")
        try:
            more = source.more()
        except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise HungUp(str(error)) from None
        if not more:
            if data:
                raise BadAnswer(f"the answer broke off after {data[:40]!r}")
            raise HungUp("the connection was closed")
        data += more
    return _parse(source, data[:end], data[end + 4 :])


class _Source:
    """What is read from: every read gets what is left of the time for all of them."""

    __slots__ = ("deadline", "sock")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline

    def more(self) -> bytes:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)
        return self.sock.recv(65_536)


def _parse(source: _Source, head: bytes, rest: bytes) -> Answer:
    lines = head.decode("latin-1").split("\r\n")
    version, _, after = lines[0].partition(" ")
    code, _, reason = after.partition(" ")
    if not code.isdigit() or not version.startswith("HTTP/1"):
        raise BadAnswer(f"not HTTP/1.1: {lines[0][:40]!r}")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    status = int(code)
    keep = version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
    if status == 204 or status == 304:
        return Answer(status, reason, headers, b"", keep)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return Answer(status, reason, headers, _chunked(source, rest), keep)
    length = headers.get("content-length")
    if length is None:
        while len(rest) < _MOST_BODY and (more := source.more()):
            rest += more
        return Answer(status, reason, headers, rest, False)
    if not length.isdigit():
        raise BadAnswer(f"a Content-Length of {length[:20]!r}")
    size = int(length)
    if size > _MOST_BODY:
        return Answer(status, reason, headers, rest, False)
    return Answer(status, reason, headers, _read(source, rest, size)[:size], keep)


def _read(source: _Source, data: bytes, size: int) -> bytes:
    while len(data) < size:
        more = source.more()
        if not more:
            raise BadAnswer("the answer broke off")
        data += more
    return data


def _chunked(source: _Source, data: bytes) -> bytes:
    body = b""
    while True:
        while b"\r\n" not in data:
            if len(data) > _MOST_HEAD:
                raise BadAnswer(f"a chunk of size {data[:20]!r}")
            data = _read(source, data, len(data) + 1)
        line, _, data = data.partition(b"\r\n")
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise BadAnswer(f"a chunk of size {line[:20]!r}") from None
        if size < 0 or len(body) + size > _MOST_BODY:
            raise BadAnswer("an answer of more than 1 MiB")
        data = _read(source, data, size + 2)
        if not size:
            return body
        body, data = body + data[:size], data[size + 2 :]
