"""sqlite3, the standard library's."""

import contextlib
import sqlite3
import sys

import pytest

from lighttrace.integrations.sqlite3 import INTEGRATION
from lighttrace.testing.kits import DatabaseKit
from lighttrace.testing.kits.database import SELECT, SUMMARY

Connection, Cursor, connect = sqlite3.Connection, sqlite3.Cursor, sqlite3.connect


class OwnCursor(Cursor):
    """As users write them: with methods of their own."""

    def execute(self, statement, *parameters):
        self.seen = statement
        return super().execute(statement, *parameters)


class OwnConnection(Connection):
    """As users write them: `cursor` takes no factory, and makes one of the user's."""

    def cursor(self):
        return super().cursor(OwnCursor)


class TestSqlite3(DatabaseKit):
    integration = INTEGRATION
    library = "sqlite3"
    system = "sqlite"
    duplicate_code = "SQLITE_CONSTRAINT_PRIMARYKEY" if sys.version_info >= (3, 11) else ""
    imports = """
import sqlite3
from contextlib import closing
from sqlite3 import connect
from sqlite3.dbapi2 import connect as connect2
class Mine(sqlite3.Connection):
    def cursor(self):
        return super().cursor()
"""
    uses = {
        "through the module": "with closing(sqlite3.connect(':memory:')) as c: c.execute('select 1')",
        "a name imported before": "with closing(connect(':memory:')) as c: c.execute('select 1')",
        "a name of the inner module": "with closing(connect2(':memory:')) as c: c.execute('select 1')",
        "a subclass made before": "with closing(connect(':memory:', factory=Mine)) as c: c.cursor().execute('select 1')",
    }
    unsupported = {
        "test_version_that_is_too_old_is_reported_and_left_alone": "part of the standard library",
        "test_absent_library_is_reported_and_breaks_nothing": "part of the standard library",
    }

    @pytest.fixture
    def database(self, tmp_path):
        self.path = tmp_path / "kit.db"

    @contextlib.contextmanager
    def connection(self, **options):
        connection = sqlite3.connect(self.path, timeout=20, **options)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def run(self, statement, *parameters):
        with self.connection() as connection:
            return connection.cursor().execute(statement, *parameters).fetchall()

    def run_many(self, statement, sets):
        with self.connection() as connection:
            return connection.cursor().executemany(statement, sets).rowcount

    def ways(self):
        def way(use, **options):
            def run():
                with self.connection(**options) as connection:
                    return use(connection)

            return run

        def run_script(runner):
            runner.executescript(SELECT)
            return [(1,), (2,)]

        return {
            "cursor": way(lambda c: c.cursor().execute(SELECT).fetchall()),
            "shortcut": way(lambda c: c.execute(SELECT).fetchall()),
            "script": way(lambda c: run_script(c.cursor())),
            "shortcut of script": way(run_script),
            "iteration": way(lambda c: list(c.execute(SELECT))),
            "user's connection": way(lambda c: c.cursor().execute(SELECT).fetchall(), factory=OwnConnection),
            "user's connection, shortcut": way(lambda c: c.execute(SELECT).fetchall(), factory=OwnConnection),
            "user's cursor": way(lambda c: c.cursor(OwnCursor).execute(SELECT).fetchall()),
            "user's cursor by keyword": way(lambda c: c.cursor(factory=OwnCursor).execute(SELECT).fetchall()),
            "row factory": way(lambda c: setattr(c, "row_factory", sqlite3.Row) or c.execute(SELECT).fetchall()),
            "autocommit": way(lambda c: c.execute(SELECT).fetchall(), isolation_level=None),
        }

    def transaction(self):
        for end in ("commit", "rollback"):
            with self.connection() as connection:
                connection.execute(SELECT).fetchall()
                getattr(connection, end)()

    def iterate(self, each):
        with self.connection() as connection:
            for row in connection.execute(SELECT):
                each(row)

    def test_classes_of_the_users_own_stay_what_they_are(self):
        with self.connection(factory=OwnConnection) as connection:
            assert isinstance(connection, OwnConnection)
            cursor = connection.cursor()
            assert isinstance(cursor, OwnCursor)
            cursor.execute(SELECT)
            assert cursor.seen == SELECT
            assert cursor.connection is connection
            assert type(connection).__name__ == "OwnConnection"
            assert type(cursor).__qualname__ == "OwnCursor"
        self.one(name=SUMMARY)

    def test_classes_with_slots_and_mixins_stay_what_they_are(self):
        class Slots(Connection):
            __slots__ = ("tag",)

        class Mixin:
            def cursor(self, *args):
                self.asked = True
                return super().cursor(*args)

        class Mixed(Mixin, Connection):
            pass

        with self.connection(factory=Slots) as connection:
            connection.tag = "mine"
            connection.execute(SELECT)
        with self.connection(factory=Mixed) as connection:
            connection.cursor().execute(SELECT)
            assert connection.asked
        self.spans.take(2)

    def test_factories_that_are_no_classes_are_left_alone(self):
        with self.connection(factory=lambda *args, **kwargs: Connection(*args, **kwargs)) as connection:
            assert type(connection) is Connection
            connection.execute(SELECT)
        with self.connection() as connection:
            cursor = connection.cursor(lambda owner: OwnCursor(owner))
            assert type(cursor) is OwnCursor
            with pytest.raises(TypeError):
                connection.cursor(lambda owner: None)
        self.spans.expect_none()

    def test_backup_and_blobs_take_our_connections(self):
        with self.connection() as source, contextlib.closing(sqlite3.connect(":memory:")) as target:
            source.backup(target)
            assert target.execute(SELECT).fetchall() == [(1,), (2,)]
        self.one()

    def test_rows_of_a_row_factory_know_their_cursor(self):
        with self.connection() as connection:
            connection.row_factory = lambda cursor, row: {column[0]: row[0] for column in cursor.description}
            assert connection.execute(SELECT).fetchone() == {"id": 1}
            connection.cursor().row_factory = sqlite3.Row
        self.one()

    def test_connections_outlive_tracing(self):
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            with self.disabled():
                assert connection.execute("select 1").fetchall() == [(1,)]
            self.spans.expect_none()
            connection.execute("select 1")
            self.one()

    def test_script_is_summarised(self):
        with self.connection() as connection:
            connection.executescript("CREATE TABLE a (x); INSERT INTO a VALUES ('planted'); DROP TABLE a;")
        assert self.one().name == "CREATE TABLE a INSERT a DROP TABLE a"

    @pytest.mark.filterwarnings("ignore:Passing more than 1 positional argument:DeprecationWarning")
    def test_uri_positional_arguments_pass(self):
        connection = connect(f"file:{self.path}?mode=ro", 5.0, 0, "DEFERRED", True, OwnConnection, 128, True)
        with contextlib.closing(connection):
            assert isinstance(connection, OwnConnection)
            assert connection.execute(SELECT).fetchall() == [(1,), (2,)]
        self.one()
