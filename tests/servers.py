"""Real servers for tests, each started once a session from the programs that the machine has.

Where one is missing, its tests are skipped and say why; with REQUIRE_REAL_SERVERS=1 they fail instead.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

from lighttrace.cli.postgres import Postgres

START_DEADLINE_S = 30
ATTEMPTS = 3  # another process may take the free port before the server does


class PostgresServer(NamedTuple):
    """Where a PostgreSQL listens. Nothing asks for a password."""

    host: str
    port: int
    user: str
    dbname: str
    dsn: str


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def unavailable(server: str, reason: str) -> NoReturn:
    """Skip the test for want of a server, or fail it where servers are required."""
    message = f"{server} is not available: {reason}"
    if os.environ.get("REQUIRE_REAL_SERVERS") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A PostgreSQL of its own: empty, on a free port, gone after the session."""
    said = ""
    for _ in range(ATTEMPTS):
        port = free_port()
        server = Postgres.start(port)
        if server is None:
            unavailable(
                "PostgreSQL",
                "initdb or postgres is not on PATH nor below /usr/lib/postgresql, psycopg is missing, or it did not start",
            )
        try:
            if server.wait_until_ready(START_DEADLINE_S):
                yield PostgresServer("127.0.0.1", port, "shop", "postgres", server.url)
                return
            said = (Path(server.directory) / "log").read_text(errors="replace")[-1000:]
        finally:
            server.stop()
    unavailable("PostgreSQL", f"it did not answer; it said: {said}")
