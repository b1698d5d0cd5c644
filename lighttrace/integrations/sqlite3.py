"""Trace statements sent to SQLite, through the standard library's own factories."""

from sqlite3 import Connection, Cursor

from lighttrace.instrument import Database, FactoryPatch, Integration


def read_execute(cursor, statement, parameters=None, *rest):
    return cursor.connection, statement, parameters, None


def read_batch(cursor, statement, sets=(), *rest):
    return cursor.connection, statement, True, sets


def read_script(cursor, statement, *rest):
    return cursor.connection, statement, None, None


def read_database(connection):
    # Asking SQLite (`pragma database_list`) would run a statement of ours on the program's connection.
    return Database("sqlite")


def read_code(error):
    return getattr(error, "sqlite_errorname", None)


CALLS = {"execute": read_execute, "executemany": read_batch, "executescript": read_script}

INTEGRATION = Integration(
    name="sqlite3",
    requires="sqlite3",
    patches=(
        # `sqlite3.dbapi2.connect` is the same function, and is replaced with it.
        FactoryPatch("sqlite3:connect", lambda: Connection, lambda: Cursor, CALLS, read_database, read_code),
    ),
)
