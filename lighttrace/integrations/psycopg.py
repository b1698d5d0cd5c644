"""Trace statements sent to PostgreSQL through psycopg 3, sync and async."""

from lighttrace.instrument import Database, DbPatch, Integration


def read_execute(cursor, query, params=None, **options):
    return cursor.connection, query, params is not None, None


def read_batch(cursor, query, params_seq, **options):
    return cursor.connection, query, True, params_seq


def read_copy(cursor, statement, params=None, **options):
    return cursor.connection, statement, params is not None, None


def read_database(connection):
    info = connection.info
    return Database("postgresql", info.dbname, info.host or None, info.port, 5432)


def read_code(error):
    return getattr(error, "sqlstate", None)


CALLS = {"execute": read_execute, "executemany": read_batch, "stream": read_execute}
CLASSES = ("Cursor", "AsyncCursor", "ServerCursor", "AsyncServerCursor")

INTEGRATION = Integration(
    name="psycopg",
    requires="psycopg>=3.1",
    patches=tuple(
        DbPatch(f"psycopg:{kind}.{method}", read, read_database, read_code)
        for kind in CLASSES
        for method, read in CALLS.items()
        if not (kind.endswith("ServerCursor") and method == "stream")
    ),
)
