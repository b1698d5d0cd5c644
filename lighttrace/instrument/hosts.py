"""What is known of the other side before a call: its address and port, who owns it, and whether it is one of us."""

import re
from typing import Any

from lighttrace import semconv
from lighttrace.instrument.engine import Bounded, state

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_PRIVATE = re.compile(
    r"^(?:localhost|127\.\d+\.\d+\.\d+|\[?::1\]?|10\.\d+\.\d+\.\d+|192\.168\.\d+\.\d+|172\.(?:1[6-9]|2\d|3[01])\.\d+\.\d+"
    r"|169\.254\.\d+\.\d+|\[?f[cd][0-9a-f]{2}:[0-9a-f:]*\]?|(?!0x|\d+$)[^.:]+|.*\.(?:local|internal|localhost|svc|cluster\.local|lan|intranet|home\.arpa))$",
    re.IGNORECASE,
)


class Host:
    """One address and port that this program calls."""

    __slots__ = ("address", "internal", "peer", "port")

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.internal = is_internal(address)
        self.peer: dict[str, str] | None = peer_attributes(address, port)


_hosts: Bounded = Bounded(4096)
_by_authority: Bounded = Bounded(4096)


def forget() -> None:
    """Resolve every host anew: the configuration, and with it who is one of us, may be another."""
    _hosts.clear()
    _by_authority.clear()


def host_of(url: str) -> Host:
    """The host that a URL names; resolved once per scheme and authority."""
    scheme, _, rest = url.partition("://")
    for end in "/?#":
        rest = rest.partition(end)[0]
    authority = rest.rpartition("@")[2]
    found = _by_authority.get((scheme, authority))
    if found is None or found[0] is not state.resolver:
        address, port = split_authority(authority, PORTS.get(scheme.lower(), 0))
        found = _by_authority[scheme, authority] = (state.resolver, Host(address, port))
    return found[1]


def host(address: str, port: int) -> Host:
    """The host at an address; resolved once."""
    found = _hosts.get((address, port))
    if found is None or found[0] is not state.resolver:
        found = _hosts[address, port] = (state.resolver, Host(address, port))
    return found[1]


def split_authority(authority: str, default: int) -> tuple[str, int]:
    """Address and port of `host:port`, `[::1]:80` or `host`.

    >>> split_authority("[::1]:8080", 80), split_authority("example.com", 443)
    (('::1', 8080), ('example.com', 443))
    """
    if authority.startswith("["):
        address, _, port = authority[1:].partition("]")
        port = port.removeprefix(":")
    else:
        address, _, port = authority.partition(":")
    return address.lower(), int(port) if port.isdigit() and len(port) < 6 else default


def peer_attributes(address: str, port: int | None) -> dict[str, str] | None:
    """Service and team of the other side, from the configuration's table of peers."""
    if state.resolver is None:
        return None
    found = state.resolver.peer(address, port)
    if found is None:
        return None
    service, team = found
    attributes = {}
    if service:
        attributes[semconv.SERVICE_PEER_NAME] = service
    if team:
        attributes[semconv.PEER_TEAM] = team
    return attributes or None


def is_internal(address: str) -> bool:
    """Whether our own baggage may travel there: loopback, private and cluster-local hosts, and those the configuration allows."""
    if _PRIVATE.match(address):
        return True
    if state.baggage_hosts:
        from fnmatch import fnmatchcase

        lower: Any = address.lower()
        return any(fnmatchcase(lower, glob.lower()) for glob in state.baggage_hosts)
    return False
