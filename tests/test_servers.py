"""The servers that tests use are real, and their absence is never overlooked."""

import psycopg
import pytest

from tests.servers import PostgresServer, unavailable


def test_postgresql_answers_with_its_own_version(postgresql: PostgresServer) -> None:
    with psycopg.connect(postgresql.dsn) as connection:
        row = connection.execute("SELECT current_database(), current_user, current_setting('port')::int, version()").fetchone()
    assert row is not None
    assert row[:3] == (postgresql.dbname, postgresql.user, postgresql.port)
    assert row[3].startswith("PostgreSQL ")


async def test_postgresql_answers_async_too(postgresql: PostgresServer) -> None:
    where = f"host={postgresql.host} port={postgresql.port} user={postgresql.user} dbname={postgresql.dbname}"
    connection = await psycopg.AsyncConnection.connect(where)
    async with connection:
        cursor = await connection.execute("SELECT 1")
        assert await cursor.fetchone() == (1,)


def test_missing_server_skips_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_REAL_SERVERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="Thing is not available: not installed"):
        unavailable("Thing", "not installed")


def test_missing_server_fails_where_servers_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_REAL_SERVERS", "1")
    with pytest.raises(pytest.fail.Exception, match="Thing is not available: not installed"):
        unavailable("Thing", "not installed")
