"""psycopg 3, sync and async, against a real PostgreSQL."""

import asyncio
import contextlib

import psycopg
import psycopg_pool
import pytest
from psycopg import rows, sql

from lighttrace import semconv
from lighttrace.integrations.psycopg import INTEGRATION
from lighttrace.testing.kits import DatabaseKit
from lighttrace.testing.kits.database import SELECT, SUMMARY
from lighttrace.tracing.context import suppressed

POOL = {"min_size": 1, "max_size": 1, "open": False}


class OwnCursor(psycopg.Cursor):
    def execute(self, query, *args, **kwargs):
        self.seen = query
        return super().execute(query, *args, **kwargs)


class OwnAsyncCursor(psycopg.AsyncCursor):
    async def execute(self, query, *args, **kwargs):
        self.seen = query
        return await super().execute(query, *args, **kwargs)


class PostgresKit(DatabaseKit):
    """What both halves of psycopg have in common."""

    integration = INTEGRATION
    library = "psycopg"
    system = "postgresql"
    parameter = "%s"
    duplicate_code = "23505"

    @pytest.fixture
    def database(self, postgresql):
        self.dsn = postgresql.dsn
        self.place = {
            semconv.DB_NAMESPACE: postgresql.dbname,
            semconv.SERVER_ADDRESS: postgresql.host,
            semconv.SERVER_PORT: postgresql.port,
        }

    @pytest.fixture(autouse=True)
    def _dsn(self, postgresql):
        self.dsn = postgresql.dsn

    def globals(self):
        return {"DSN": self.dsn}

    def copy(self):
        """Copy a row that is there already."""
        raise NotImplementedError

    def operations(self):
        return {**super().operations(), "copy": self.copy}

    def test_composed_statement_never_keeps_its_literals(self):
        statement = sql.SQL("SELECT id FROM {} WHERE note = {} AND id > %s").format(
            sql.Identifier("kit_items"), sql.Literal("planted")
        )
        assert self.run(statement, (0,)) == []
        span = self.one(name='SELECT "kit_items"')
        assert span.attributes[semconv.DB_QUERY_TEXT] == 'SELECT id FROM "kit_items" WHERE note = ? AND id > %s'

    def test_bytes_are_read_as_text(self):
        assert self.run(SELECT.encode()) == [(1,), (2,)]
        self.one(name=SUMMARY, attributes={semconv.DB_QUERY_TEXT: SELECT})

    def test_details_of_an_error_keep_their_values(self):
        with pytest.raises(psycopg.errors.UniqueViolation):
            self.run("INSERT INTO kit_items VALUES (%s, %s)", (1, "planted"))
        span = self.one(status="error", attributes={semconv.DB_RESPONSE_STATUS_CODE: "23505", semconv.ERROR_TYPE: "23505"})
        assert "(id)=(?)" in span.message
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            self.run("SELECT %s::int", ("planted",))
        span = self.one(status="error")
        assert "planted" not in repr([vars(span), [event.attributes for event in span.events]])


class TestPsycopg(PostgresKit):
    imports = """
import psycopg
from psycopg import connect, Cursor
class Mine(Cursor):
    def execute(self, *args, **kwargs):
        return super().execute(*args, **kwargs)
def use(**options):
    with connect(DSN, **options) as connection:
        connection.cursor().execute("SELECT 1")
"""
    uses = {"a name imported before": "use()", "a subclass made before": "use(cursor_factory=Mine)"}

    def run(self, statement, *parameters):
        with psycopg.connect(self.dsn) as connection:
            cursor = connection.execute(statement, *parameters)
            return cursor.fetchall() if cursor.description else []

    def run_many(self, statement, sets):
        with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
            cursor.executemany(statement, sets)
            return cursor.rowcount

    def ways(self):
        def way(use, **options):
            def run():
                with psycopg.connect(self.dsn, **options) as connection:
                    return use(connection)

            return run

        def named(cursor):
            with cursor:
                return cursor.execute(SELECT).fetchall()

        def returning(connection):
            cursor = connection.cursor()
            cursor.executemany(SELECT, [()], returning=True)
            return cursor.fetchall()

        def pooled():
            with psycopg_pool.ConnectionPool(self.dsn, **POOL) as pool, pool.connection() as connection:
                return connection.execute(SELECT).fetchall()

        def pipelined(connection):
            with connection.pipeline():
                return connection.execute(SELECT).fetchall()

        return {
            "cursor": way(lambda c: c.cursor().execute(SELECT).fetchall()),
            "shortcut": way(lambda c: c.execute(SELECT).fetchall()),
            "binary": way(lambda c: c.execute(SELECT, binary=True).fetchall()),
            "prepared": way(lambda c: c.execute(SELECT, prepare=True).fetchall()),
            "iteration": way(lambda c: list(c.execute(SELECT))),
            "named cursor": way(lambda c: named(c.cursor("named"))),
            "scrollable": way(lambda c: named(c.cursor("named", scrollable=True))),
            "stream": way(lambda c: list(c.cursor().stream(SELECT))),
            "client cursor": way(lambda c: psycopg.ClientCursor(c).execute(SELECT).fetchall()),
            "raw cursor": way(lambda c: psycopg.RawCursor(c).execute(SELECT).fetchall()),
            "user's cursor": way(lambda c: c.execute(SELECT).fetchall(), cursor_factory=OwnCursor),
            "row factory": way(lambda c: [tuple(row) for row in c.execute(SELECT).fetchall()], row_factory=rows.namedtuple_row),
            "executemany, returning": way(returning),
            "autocommit": way(lambda c: c.execute(SELECT).fetchall(), autocommit=True),
            "pipeline": way(pipelined),
            "pool": pooled,
        }

    def transaction(self):
        with psycopg.connect(self.dsn) as connection:
            with connection.transaction():
                connection.execute(SELECT)
            connection.execute(SELECT)
            connection.rollback()

    def iterate(self, each):
        with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
            for row in cursor.stream(SELECT):
                each(row)

    def copy(self):
        with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
            with cursor.copy("COPY kit_items FROM STDIN") as copy:
                copy.write_row((1, "planted"))

    def test_copy_lasts_as_long_as_its_block(self):
        with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
            with cursor.copy("COPY kit_items FROM STDIN") as copy:
                self.spans.take(0, 0)
                copy.write_row((3, "planted"))
            assert cursor.rowcount == 1
            done = self.one(name="COPY kit_items", status="unset")
            with pytest.raises(psycopg.errors.InvalidTextRepresentation), cursor.copy("COPY kit_items FROM STDIN") as copy:
                copy.write("planted")
        failed = self.one(name="COPY kit_items", status="error", attributes={semconv.DB_RESPONSE_STATUS_CODE: "22P02"})
        assert "planted" not in repr([vars(done), vars(failed), [event.attributes for event in failed.events]])

    def test_stream_that_is_left_early_ends(self):
        with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
            for _ in cursor.stream(SELECT):
                break
        self.one(name=SUMMARY, status="unset")

    def test_closed_connection_is_the_callers_business(self):
        connection = psycopg.connect(self.dsn)
        cursor = connection.cursor()
        connection.close()
        with pytest.raises(psycopg.OperationalError):
            cursor.execute(SELECT)
        self.one(status="error")

    def test_facts_of_a_connection_are_asked_for_once(self):
        with psycopg.connect(self.dsn) as connection:
            for _ in range(3):
                connection.execute(SELECT)
        self.spans.take(3)


class TestPsycopgAsync(PostgresKit):
    imports = """
import asyncio, psycopg
from psycopg import AsyncConnection, AsyncCursor
class Mine(AsyncCursor):
    async def execute(self, *args, **kwargs):
        return await super().execute(*args, **kwargs)
async def use(**options):
    async with await AsyncConnection.connect(DSN, **options) as connection:
        await connection.cursor().execute("SELECT 1")
"""
    uses = {"a name imported before": "asyncio.run(use())", "a subclass made before": "asyncio.run(use(cursor_factory=Mine))"}

    @contextlib.asynccontextmanager
    async def connection(self, **options):
        async with await psycopg.AsyncConnection.connect(self.dsn, **options) as connection:
            yield connection

    def run(self, statement, *parameters):
        async def call():
            async with self.connection() as connection:
                cursor = await connection.execute(statement, *parameters)
                return await cursor.fetchall() if cursor.description else []

        return asyncio.run(call())

    def run_many(self, statement, sets):
        async def call():
            async with self.connection() as connection, connection.cursor() as cursor:
                await cursor.executemany(statement, sets)
                return cursor.rowcount

        return asyncio.run(call())

    def ways(self):
        def way(use, **options):
            async def call():
                async with self.connection(**options) as connection:
                    return await use(connection)

            return lambda: asyncio.run(call())

        async def cursor(c):
            return await (await c.cursor().execute(SELECT)).fetchall()

        async def shortcut(c):
            return await (await c.execute(SELECT)).fetchall()

        async def named(c):
            async with c.cursor("named") as cursor:
                return await (await cursor.execute(SELECT)).fetchall()

        async def stream(c):
            return [row async for row in c.cursor().stream(SELECT)]

        async def iteration(c):
            return [row async for row in await c.execute(SELECT)]

        async def pooled():
            async with psycopg_pool.AsyncConnectionPool(self.dsn, **POOL) as pool, pool.connection() as connection:
                return await shortcut(connection)

        return {
            "cursor": way(cursor),
            "shortcut": way(shortcut),
            "named cursor": way(named),
            "stream": way(stream),
            "iteration": way(iteration),
            "user's cursor": way(shortcut, cursor_factory=OwnAsyncCursor),
            "pool": lambda: asyncio.run(pooled()),
        }

    def transaction(self):
        async def call():
            async with self.connection() as connection:
                async with connection.transaction():
                    await connection.execute(SELECT)
                await connection.execute(SELECT)
                await connection.rollback()

        asyncio.run(call())

    def iterate(self, each):
        async def call():
            async with self.connection() as connection, connection.cursor() as cursor:
                async for row in cursor.stream(SELECT):
                    each(row)

        asyncio.run(call())

    def raising(self, error):
        def sets():
            yield 10, "ten"
            raise error

        async def call():
            async with self.connection() as connection, connection.cursor() as cursor:
                try:
                    await cursor.executemany("INSERT INTO kit_items VALUES (%s, %s)", sets())
                except BaseException as raised:  # before the loop puts its own hands on it
                    return raised

        raised = asyncio.run(call())
        raise raised

    def copy(self):
        async def call():
            async with self.connection() as connection, connection.cursor() as cursor:
                async with cursor.copy("COPY kit_items FROM STDIN") as copy:
                    await copy.write_row((1, "planted"))

        asyncio.run(call())

    def test_copy_lasts_as_long_as_its_block(self):
        async def call():
            async with self.connection() as connection, connection.cursor() as cursor:
                async with cursor.copy("COPY kit_items FROM STDIN") as copy:
                    self.spans.take(0, 0)
                    await copy.write_row((3, "planted"))
                assert cursor.rowcount == 1

        asyncio.run(call())
        assert "planted" not in repr(vars(self.one(name="COPY kit_items", status="unset")))

    def test_cancelled_statement_is_no_error(self):
        async def call():
            async with self.connection() as connection:
                task = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
                async with self.connection(autocommit=True) as other:
                    with contextlib.contextmanager(suppressed)():
                        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)'"
                        while await (await other.execute(sleeping)).fetchone() != (1,):
                            await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(call())
        self.one(name="SELECT", status="unset")
