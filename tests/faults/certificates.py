"""Certificates for backends that fail: an authority of the test's own, another one, one that has expired, a client's."""

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

HOSTS = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Certificates:
    """Files for the client, and contexts for servers."""

    authority: str
    another_authority: str
    client: str
    client_key: str
    strangers: str  # a client's certificate that the authority did not sign
    strangers_key: str
    _made: Any

    def server(self, *, kind: str = "good", demand_client: bool = False) -> ssl.SSLContext:
        """A server's context: its certificate is `good`, `expired`, or for another `host`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._made[kind].configure_cert(context)
        if demand_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self._made["authority"].configure_trust(context)
        return context

    def grpc(self, *, kind: str = "good", demand_client: bool = False) -> Any:
        """The same as credentials of a gRPC server."""
        import grpc

        made = self._made[kind]
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        root = self._made["authority"].cert_pem.bytes()
        return grpc.ssl_server_credentials(
            [(made.private_key_pem.bytes(), chain)], root if demand_client else None, demand_client
        )


def make(directory: Path) -> Certificates:
    """Make them all, in `directory`."""
    authority, another = trustme.CA(), trustme.CA()
    past = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=2)
    client, strange = authority.issue_cert("client.example"), another.issue_cert("stranger.example")
    made = {
        "authority": authority,
        "good": authority.issue_cert(*HOSTS),
        "expired": authority.issue_cert(*HOSTS, not_before=past - dt.timedelta(days=1), not_after=past),
        "host": authority.issue_cert("elsewhere.example"),
    }

    def write(name: str, *blobs: Any) -> str:
        path = directory / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)

    return Certificates(
        write("authority.pem", authority.cert_pem),
        write("another.pem", another.cert_pem),
        write("client.pem", *client.cert_chain_pems),
        write("client.key", client.private_key_pem),
        write("stranger.pem", *strange.cert_chain_pems),
        write("stranger.key", strange.private_key_pem),
        made,
    )
