"""Trace statements sent to PostgreSQL through psycopg 3, sync and async."""

from typing import Any

from lighttrace.instrument import Database, DbPatch, Integration


def read_execute(cursor, query, params=None, **options):
    return cursor.connection, query, params, None


def read_batch(cursor, query, params_seq, **options):
    return cursor.connection, query, True, params_seq


def read_copy(cursor, statement, params=None, **options):
    return cursor.connection, statement, params, None


def read_database(connection):
    if connection.closed:
        return Database("postgresql")
    info = connection.info
    return Database("postgresql", info.dbname, info.host or None, info.port, 5432)


def read_code(error):
    return getattr(error, "sqlstate", None)


CALLS: Any = {"execute": read_execute, "executemany": read_batch, "stream": read_execute, "copy": read_copy}
CLASSES = ("Cursor", "AsyncCursor", "ServerCursor", "AsyncServerCursor")
MISSING = ("stream", "copy")  # a server-side cursor cannot

INTEGRATION = Integration(
    name="psycopg",
    requires="psycopg>=3.1",
    patches=tuple(
        DbPatch(f"psycopg:{kind}.{method}", read, read_database, read_code, block=method == "copy")
        for kind in CLASSES
        for method, read in CALLS.items()
        if not (kind.endswith("ServerCursor") and method in MISSING)
    ),
)
