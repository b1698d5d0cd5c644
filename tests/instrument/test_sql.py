"""Statements in few words, and without their literals, in every dialect."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lighttrace.instrument import sql

# The first ones are the semantic conventions' own examples.
SUMMARIES = {
    "SELECT * FROM wuser_table": "SELECT wuser_table",
    "INSERT INTO shipping_details (order_id, address) SELECT order_id, address FROM orders WHERE order_id = ?": "INSERT shipping_details SELECT orders",
    "SELECT * FROM songs, artists WHERE songs.artist_id == artists.id": "SELECT songs artists",
    "SELECT order_date FROM (SELECT * FROM orders o JOIN customers c ON o.customer_id = c.customer_id)": "SELECT SELECT orders customers",
    'SELECT * FROM "song list"': 'SELECT "song list"',
    "EXEC GetUser": "EXEC GetUser",
    "": "",
    "   ": "",
    "/* comment */": "",
    "-- comment": "",
    "; ;": "",
    "hello world": "",
    "select 1": "select",
    "/* hint */ select a from b": "select b",
    "SELECT a FROM s.t AS x, u y WHERE x.a = (SELECT max(b) FROM v)": "SELECT s.t u SELECT v",
    'SELECT "t"."id" FROM "s"."t"': 'SELECT "s"."t"',
    "SELECT * FROM [dbo].[Order Details]": "SELECT [dbo].[Order Details]",
    "SELECT * FROM `db`.`t`": "SELECT `db`.`t`",
    "SELECT * FROM a LEFT OUTER JOIN b ON a.x = b.x CROSS JOIN c JOIN d USING (y)": "SELECT a b c d",
    "SELECT * FROM (a JOIN b ON true)": "SELECT a b",
    "SELECT EXTRACT(year FROM created) FROM orders": "SELECT orders",
    "SELECT trim(both 'x' FROM name) FROM users": "SELECT users",
    "SELECT a IS DISTINCT FROM b FROM t": "SELECT t",
    "SELECT * FROM ONLY t FOR UPDATE OF t": "SELECT t",
    "SELECT a FROM t FOR NO KEY UPDATE": "SELECT t",
    "SELECT * FROM generate_series(1, 10) g": "SELECT generate_series",
    "SELECT a INTO b FROM c": "SELECT b c",
    "(SELECT a FROM b) UNION ALL (SELECT c FROM d)": "SELECT b SELECT d",
    "WITH x AS (SELECT * FROM a), y AS (SELECT * FROM x) SELECT * FROM x JOIN y JOIN z": "SELECT a SELECT SELECT z",
    "WITH RECURSIVE t(n) AS (VALUES (1) UNION SELECT n+1 FROM t) SELECT n FROM t": "SELECT SELECT",
    "INSERT INTO t VALUES (1)": "INSERT t",
    "INSERT t VALUES (1)": "INSERT t",
    "INSERT OR REPLACE INTO t VALUES (1)": "INSERT t",
    "INSERT IGNORE INTO t (a) VALUES (1) ON DUPLICATE KEY UPDATE a = 2": "INSERT t",
    "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2 RETURNING a": "INSERT t",
    "REPLACE INTO t VALUES (1)": "REPLACE t",
    "SELECT replace(a, 'x', 'y') FROM t": "SELECT t",
    "UPDATE ONLY t SET a = 1 FROM u WHERE t.x = u.x": "UPDATE t u",
    "UPDATE a, b SET a.x = b.x": "UPDATE a b",
    "DELETE FROM t USING u WHERE t.x = u.x": "DELETE t u",
    "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = 1 WHEN NOT MATCHED THEN INSERT VALUES (1)": "MERGE t s",
    "CREATE TABLE t (id int, name text DEFAULT 'x')": "CREATE TABLE t",
    "CREATE TEMPORARY TABLE IF NOT EXISTS t AS SELECT * FROM u": "CREATE TABLE t SELECT u",
    "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t USING btree (a)": "CREATE INDEX i",
    "CREATE OR REPLACE FUNCTION f() RETURNS int AS $$ SELECT secret FROM t $$ LANGUAGE sql": "CREATE FUNCTION f",
    "CREATE MATERIALIZED VIEW v AS SELECT 1": "CREATE VIEW v SELECT",
    "CREATE TABLE a (x int REFERENCES b ON DELETE CASCADE ON UPDATE SET NULL)": "CREATE TABLE a",
    "DROP TABLE IF EXISTS a, b": "DROP TABLE a b",
    "ALTER TABLE t ADD COLUMN c int": "ALTER TABLE t",
    "TRUNCATE TABLE t": "TRUNCATE TABLE t",
    "TRUNCATE t": "TRUNCATE t",
    "CREATE TABLE a (x); INSERT INTO a VALUES (1); DROP TABLE a;": "CREATE TABLE a INSERT a DROP TABLE a",
    "CALL proc(1, 2)": "CALL proc",
    "{call proc(?)}": "call proc",
    "EXEC dbo.proc @a = 1": "EXEC dbo.proc",
    "COPY t (a, b) FROM STDIN": "COPY t",
    "COPY (SELECT * FROM t) TO STDOUT": "COPY SELECT t",
    "EXPLAIN ANALYZE SELECT * FROM t": "EXPLAIN ANALYZE SELECT t",
    "GRANT SELECT, INSERT ON t TO bob": "GRANT",
    "SAVEPOINT s1234_x1": "SAVEPOINT",
    "RELEASE SAVEPOINT s1234_x1": "RELEASE",
    'FETCH FORWARD 10 FROM "c_7f00"': "FETCH",
    'DECLARE "c_7f00" CURSOR FOR SELECT * FROM t': "DECLARE SELECT t",
    "BEGIN": "BEGIN",
    "SET TIME ZONE 'UTC'": "SET",
    "PRAGMA table_info(t)": "PRAGMA table_info",
    "LISTEN channel": "LISTEN channel",
    "SELECT * FROM %s WHERE a = %(b)s": "SELECT",
    "VALUES (1), (2)": "VALUES",
    "SELECT é FROM größe": "SELECT größe",
}


@pytest.mark.parametrize(("statement", "summary"), SUMMARIES.items(), ids=range(len(SUMMARIES)))
def test_summary_names_operations_and_targets_in_order(statement, summary):
    assert sql.describe(statement, True)[0] == summary


# Statement, then the systems in which it means that.
ALL = ("postgresql", "sqlite", "mysql", "oracle.db", "microsoft.sql_server", "")
TEXTS = [
    ("SELECT a FROM t WHERE b = 'x' AND c = 42", "SELECT a FROM t WHERE b = ? AND c = ?", ALL),
    ("SELECT -1, +2, 3.5, .5, 1e10, 0xFF, 1_000, a1, t2.c3", "SELECT -?, +?, ?, ?, ?, ?, ?, a1, t2.c3", ALL),
    ("SELECT a-1, a- 1", "SELECT a-?, a- ?", ALL),
    ("SELECT 'it''s', ''", "SELECT ?, ?", ALL),
    ("SELECT N'x', X'00ff', B'01', U&'x'", "SELECT ?, ?, ?, ?", ALL),
    ("SELECT E'it\\'s', 'x'", "SELECT ?, ?", ("postgresql",)),
    ("SELECT 'C:\\', 'x'", "SELECT ?, ?", ("postgresql", "sqlite", "oracle.db", "microsoft.sql_server")),
    ("SELECT 'it\\'s', 'x'", "SELECT ?, ?", ("mysql", "mariadb")),
    ("SELECT $$a 'b' c$$, $tag$ $$ $tag$, $1", "SELECT ?, ?, $1", ("postgresql",)),
    ("SELECT q'[it's]', Q'{a'b}', nq'!x'y!' FROM t", "SELECT ?, ?, ? FROM t", ("oracle.db",)),
    ('SELECT "a" FROM "t" WHERE "b" = "c"."d"', 'SELECT "a" FROM "t" WHERE "b" = "c"."d"', ("postgresql", "sqlite", "oracle.db")),
    ('SELECT a FROM t WHERE b = "x" AND c IN ("y", "z")', "SELECT a FROM t WHERE b = ? AND c IN (?)", ("mysql", "sqlite", "")),
    ("SELECT a FROM t WHERE b IN (1, 2,3) AND c IN ('x')", "SELECT a FROM t WHERE b IN (?) AND c IN (?)", ALL),
    ("SELECT a /* b = 'x' */ FROM t -- 'y'", "SELECT a  FROM t", ALL),
    ("SELECT a FROM t # 'y'", "SELECT a FROM t", ALL),
    ("SELECT a::int, %s, %(b)s, :c, @d, ?, ?1", "SELECT a::int, %s, %(b)s, :c, @d, ?, ?1", ALL),
    ("SELECT ARRAY[e'x', 4]", "SELECT ARRAY[?, ?]", ("postgresql",)),
    ("SELECT 'unterminated", "SELECT ?", ALL),
    ("SELECT 'a\\", "SELECT ?", ALL),
    ("SELECT /* unterminated 'x'", "SELECT", ALL),
]


@pytest.mark.parametrize(("statement", "text", "systems"), TEXTS, ids=range(len(TEXTS)))
def test_literals_are_replaced_in_every_dialect(statement, text, systems):
    for system in systems:
        assert sql.describe(statement, False, system)[1] == text, system


SECRET = "hunter2"
HIDDEN = [
    "SELECT 'a\\' , 'hunter2' , 'b'",
    "SELECT 'a\\'' , 'hunter2'",
    'SELECT "a\\" , \'hunter2\' , "b"',
    "SELECT 'hunter2\\",
    "SELECT 'x' 'hunter2'",
    "SELECT $hunter$hunter2$hunter$",
    "SELECT '''hunter2'''",
    "/* hunter2 */ SELECT 1 -- hunter2",
    "SELECT q'<hunter2'>'",
]


@pytest.mark.parametrize("statement", HIDDEN)
@pytest.mark.parametrize("system", ["", "something else"])
def test_where_it_cannot_tell_it_says_less(statement, system):
    assert SECRET not in " ".join(sql.describe(statement, False, system))


def test_kept_literals_leave_the_text_as_it_is():
    statement = "SELECT 'x' /* y */ FROM t WHERE a = 42"
    assert sql.describe(statement, True)[1] == statement


def test_summary_is_never_cut_inside_a_token():
    names = [f'"a table with a long name, number {number}"' for number in range(50)]
    summary, _ = sql.describe("SELECT * FROM " + ", ".join(names), True)
    assert len(summary) <= sql.SUMMARY_LIMIT
    assert summary.endswith('"')
    assert sql.describe(f"SELECT * FROM {'x' * 300}", True)[0] == "SELECT"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["", "mysql", "postgresql", "sqlite"]))
def test_anything_is_described_without_an_exception(statement, system):
    summary, text = sql.describe(statement, False, system)
    assert len(summary) <= sql.SUMMARY_LIMIT
    assert len(text) <= len(statement)


TOKENS = st.sampled_from(
    [
        "SELECT",
        "FROM",
        "t",
        ",",
        "(",
        ")",
        "'",
        '"',
        "\\",
        "$",
        "$$",
        "$a$",
        "/*",
        "*/",
        "--",
        "\n",
        " ",
        "=",
        ".",
        "[",
        "]",
        "`",
        "E'",
        "q'[",
        "%(",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TOKENS, max_size=60), st.sampled_from(["", "mysql", "postgresql", "sqlite"]))
def test_planted_string_stays_inside_whatever_comes_before(tokens, system):
    """A well-formed string after well-formed text is never told; this is what makes the text well-formed."""
    before = "".join(
        token for token in tokens if token not in ("'", '"', "\\", "$", "$$", "$a$", "/*", "--", "`", "E'", "q'[", "[", "]", "%(")
    )
    assert SECRET not in "".join(sql.describe(f"{before} '{SECRET}'", False, system))


@pytest.mark.parametrize(
    "unit",
    [
        "'",
        "''",
        "'\\",
        "\\'",
        "$",
        "$a",
        "$$",
        "%(",
        "[a",
        "(",
        "/*",
        "--",
        "a.",
        "1.",
        "-",
        '"',
        "`",
        "q'[",
        "E'",
        "a,",
        "WITH a",
    ],
)
def test_time_is_linear(unit):
    def cost(size):
        text = "SELECT " + unit * (size // len(unit))
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            sql.describe(text, False)
            best = min(best, time.process_time() - start)
        return best

    small, large = cost(4_000), cost(32_000)
    assert large < 0.5
    assert large < 8 * small * 6 + 0.02  # eight times the text; six times that is not quadratic


def test_statement_of_any_length_takes_bounded_time():
    start = time.process_time()
    summary, text = sql.describe("SELECT " + "'x', " * 1_000_000, False)
    assert time.process_time() - start < 1
    assert summary == "SELECT"
    assert len(text) <= sql.TEXT_LIMIT
