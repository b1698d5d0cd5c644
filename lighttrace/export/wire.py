"""One HTTP/1.1 request and its answer over a connected socket.

The standard library connects (TLS, proxies); the exchange itself is done here, because `http.client` parses an answer's
three headers with the machinery made for mail, and a batch of 512 spans is encoded in less time than that takes.
"""

import os
import socket
import ssl
import struct
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


def gone(sock: socket.socket) -> bool:
    """Whether the other side of a kept connection has closed it meanwhile."""
    sock.settimeout(0)
    try:
        if isinstance(sock, ssl.SSLSocket):
            sock.recv(1)  # takes in what is the protocol's own, as session tickets are
        else:
            sock.recv(1, socket.MSG_PEEK)
        return True  # the end, or something that nobody asked for
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def talk(sock: socket.socket, deadline: float) -> "Source":
    """What `send` and `receive` use, both within one deadline (of `time.monotonic()`)."""
    return _Patient(sock, deadline) if _is_plain(sock) else Source(sock, deadline)


def send(source: "Source", head: bytes, payload: bytes) -> None:
    """Send a request. Raises HungUp, and what sockets raise (TimeoutError, OSError)."""
    try:
        source.send(head, payload)
        if _QUICKACK is not None:
            # Many servers send headers and body apart, and hold the body back until the headers are acknowledged: 40 ms.
            source.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
    except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise HungUp(str(error)) from None


def receive(source: "Source") -> Answer:
    """Read the answer. Raises HungUp, BadAnswer, and what sockets raise (TimeoutError, OSError)."""
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


class Source:
    """What is written to and read from: every step gets what is left of the time for all of them."""

    __slots__ = ("deadline", "sock")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline

    def left(self) -> float:
        """Seconds that are left. Raises TimeoutError where there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def send(self, head: bytes, payload: bytes) -> None:
        """In one write: a small first segment would wait for the acknowledgement of the one before."""
        self.sock.settimeout(self.left())
        self.sock.sendall(head + payload)

    def more(self) -> bytes:
        self.sock.settimeout(self.left())
        return self.sock.recv(65_536)


class _Patient(Source):
    """The same over a plain socket, with the system's own timeouts.

    Python's are a mode to be set and a poll before each step, and around each of these system calls it lets go of the
    interpreter's lock, for which the worker then queues behind a busy program.
    """

    __slots__ = ()

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        super().__init__(sock, deadline)
        if sock.gettimeout() is not None:
            sock.settimeout(None)

    def _allow(self, option: int) -> None:
        left = self.left()
        seconds = int(left)
        self.sock.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(seconds, int((left - seconds) * 1e6) or 1))

    def send(self, head: bytes, payload: bytes) -> None:
        left = [memoryview(head), memoryview(payload)]  # not put together: a batch is large
        while left:
            self._allow(socket.SO_SNDTIMEO)
            try:
                sent = self.sock.sendmsg(left)
            except BlockingIOError:
                raise TimeoutError from None
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if sent:
                left[0] = left[0][sent:]

    def more(self) -> bytes:
        self._allow(socket.SO_RCVTIMEO)
        try:
            return self.sock.recv(65_536)
        except BlockingIOError:
            raise TimeoutError from None


_TIMEVAL = struct.Struct("@ll")


def _is_plain(sock: socket.socket) -> bool:
    """Whether it is the standard library's own: neither TLS, nor one of gevent's or eventlet's, which must not block."""
    kind = type(sock)
    return os.name == "posix" and kind.__module__ == "socket" and kind.__name__ == "socket"


def _parse(source: Source, head: bytes, rest: bytes) -> Answer:
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


def _read(source: Source, data: bytes, size: int) -> bytes:
    while len(data) < size:
        more = source.more()
        if not more:
            raise BadAnswer("the answer broke off")
        data += more
    return data


def _chunked(source: Source, data: bytes) -> bytes:
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
