"""What every database driver has to pass, against a real database.

The kit makes one table, `kit_items (id, note)`, with the rows (1, 'one') and (2, 'two'), before each test.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ClassVar

import pytest

import lighttrace
from lighttrace import semconv
from lighttrace.testing.kits.outgoing import OutgoingKit
from lighttrace.testing.spans import CapturedSpan
from lighttrace.tracing.context import suppressed

SELECT = "SELECT id FROM kit_items ORDER BY id"
SUMMARY = "SELECT kit_items"

ODD_STATEMENTS = {
    "empty": "",
    "space": " \n ",
    "comment": "/* comment */",
    "open comment": "/* comment",
    "line comment": "-- comment",
    "semicolon": ";",
    "nonsense": "'",
    "null byte": "SELECT 1 \0",
    "very long": f"SELECT {', '.join(['1'] * 100)} {' ' * 100_000}",
    "no statement": None,
    "a number": 7,
}


class DatabaseKit(OutgoingKit):
    """The subclass says how a statement is run, by each of the ways that its driver has."""

    system: ClassVar[str]
    parameter: ClassVar[str] = "?"
    """How the driver spells a parameter in a statement."""
    duplicate_code: ClassVar[str]
    """The code of the error for a row that is there already; empty if the driver gives none."""
    place: ClassVar[dict[str, Any]] = {}
    """Attributes that say where the database is: namespace, address, port."""
    options: ClassVar[dict[str, Any]] = {}

    # -- what a subclass says ------------------------------------------------------------------------------------

    def run(self, statement: Any, *parameters: Any) -> list[Any]:
        """Connect, run one statement, give its rows (an empty list where it has none), commit and close."""
        raise NotImplementedError

    def run_many(self, statement: str, sets: Any) -> int:
        """Connect, run a statement for each of the sets of parameters, commit, close; the count of rows."""
        raise NotImplementedError

    def ways(self) -> dict[str, Callable[[], Any]]:
        """Every way of the driver to run `SELECT`, each giving the rows."""
        raise NotImplementedError

    def transaction(self) -> None:
        """Begin, run `SELECT`, commit; then begin, run `SELECT` and roll back, all by the driver's own means."""
        raise NotImplementedError

    def iterate(self, each: Callable[[Any], None]) -> None:
        """Run `SELECT` and call `each` with every row, while the cursor is open."""
        raise NotImplementedError

    # -- what it makes of that -----------------------------------------------------------------------------------

    @pytest.fixture
    def database(self) -> None:
        """Override it to find, or make, the database that the verbs connect to."""

    @pytest.fixture(autouse=True)
    def _table(self, _traced: None, database: None) -> None:
        with contextlib.contextmanager(suppressed)():
            self.run("DROP TABLE IF EXISTS kit_items")
            self.run("CREATE TABLE kit_items (id INTEGER PRIMARY KEY, note VARCHAR(99) NOT NULL)")
            self.run("INSERT INTO kit_items VALUES (1, 'one'), (2, 'two')")
        self.spans.expect_none()

    def operations(self) -> dict[str, Callable[[], Any]]:
        many = f"INSERT INTO kit_items VALUES ({self.parameter}, {self.parameter})"
        operations: dict[str, Callable[[], Any]] = {
            f"odd: {name}": functools.partial(self.run, odd) for name, odd in ODD_STATEMENTS.items()
        }
        operations.update(self.ways())
        operations["parameters"] = lambda: self.run(f"SELECT note FROM kit_items WHERE id = {self.parameter}", (1,))
        operations["duplicate"] = lambda: self.run("INSERT INTO kit_items VALUES (1, 'planted')")
        operations["wrong parameters"] = lambda: self.run(SELECT, (1, 2, 3))
        operations["wrong table"] = lambda: self.run("SELECT planted FROM nowhere")
        operations["many"] = lambda: (
            self.run_many(many, iter([(3, "a"), (4, "b")])),
            self.run("DELETE FROM kit_items WHERE id > 2"),
        )
        operations["many of which one breaks"] = lambda: self.run_many(many, [(5, "a"), (1, "b")])
        return operations

    def raising(self, error: BaseException) -> None:
        def sets() -> Iterator[tuple[int, str]]:
            yield 10, "ten"
            raise error

        self.run_many(f"INSERT INTO kit_items VALUES ({self.parameter}, {self.parameter})", sets())

    def call_once(self) -> Any:
        return self.run(SELECT)

    def one(self, **expected: Any) -> CapturedSpan:
        """The only span there is."""
        (span,) = self.spans.take()
        differences = span.differences(expected)
        assert not differences, differences
        return span

    # -- which calls are traced ----------------------------------------------------------------------------------

    def test_every_way_to_run_a_statement_is_one_span(self) -> None:
        for name, way in self.ways().items():
            assert [row[0] for row in way()] == [1, 2], name
            (span,) = self.spans.take()
            assert span.name == SUMMARY, name
            assert span.kind == "client"
            assert span.status == "unset"

    def test_transactions_and_connecting_make_no_noise(self) -> None:
        self.transaction()
        assert [span.name for span in self.spans.take(2)] == [SUMMARY, SUMMARY]

    def test_statement_below_a_span_is_its_child(self) -> None:
        with lighttrace.span("parent"), lighttrace.team("fraud"):
            self.run(SELECT)
        parent = self.spans.expect(name="parent")
        self.one(parent=parent, trace_id=parent.trace_id, team="fraud", team_source="scope")

    def test_work_on_the_rows_is_no_child_of_the_statement(self) -> None:
        def work(row: Any) -> None:
            with lighttrace.span("work"):
                pass

        with lighttrace.span("parent"):
            self.iterate(work)
        spans = self.spans.take(4)
        parent = next(span for span in spans if span.name == "parent")
        assert {span.parent_id for span in spans if span is not parent} == {parent.span_id}

    def test_unsampled_and_suppressed_statements_run_as_ever(self) -> None:
        with self.tracing(sampler="always_off", strict=True):
            assert len(self.run(SELECT)) == 2
        with contextlib.contextmanager(suppressed)():
            assert len(self.run(SELECT)) == 2
        self.spans.expect_none()

    def test_driver_below_a_library_of_ours_is_one_span(self) -> None:
        from opentelemetry.trace import SpanKind

        tracer = self.spans.provider.get_tracer("opentelemetry.instrumentation.an_orm")
        with tracer.start_as_current_span("the orm's", kind=SpanKind.CLIENT):
            self.run(SELECT)
        self.one(name="the orm's")

    def test_concurrent_statements_do_not_mix(self) -> None:
        def call(number: int) -> None:
            with lighttrace.span(f"caller {number}"):
                self.run(f"SELECT id AS a{number} FROM kit_items")

        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(copy_context().run, call, number) for number in range(16)]:
                future.result()
        spans = self.spans.take(32)
        callers = {span.name: span for span in spans if span.kind == "internal"}
        for span in spans:
            if span.kind == "client":
                number = span.attributes[semconv.DB_QUERY_TEXT].split(" ")[3][1:]
                assert span.parent_id == callers[f"caller {number}"].span_id

    # -- what the span says --------------------------------------------------------------------------------------

    def test_span_says_what_was_asked_and_of_whom(self) -> None:
        self.run(SELECT)
        span = self.one(name=SUMMARY)
        assert {key: value for key, value in span.attributes.items() if key != semconv.TEAM} == {
            semconv.DB_SYSTEM_NAME: self.system,
            semconv.DB_QUERY_SUMMARY: SUMMARY,
            semconv.DB_QUERY_TEXT: SELECT,
            **self.place,
        }

    def test_literals_never_leave(self) -> None:
        self.run("SELECT id, 4711 FROM kit_items WHERE note = 'planted' AND id < 4711")
        span = self.one(name=SUMMARY)
        assert span.attributes[semconv.DB_QUERY_TEXT] == "SELECT id, ? FROM kit_items WHERE note = ? AND id < ?"

    def test_literals_leave_when_asked_for(self) -> None:
        with self.tracing(capture_literals=True, strict=True) as spans:
            self.run("SELECT id FROM kit_items WHERE note = 'kept'")
            spans.expect(attributes={semconv.DB_QUERY_TEXT: "SELECT id FROM kit_items WHERE note = 'kept'"})

    def test_parameters_never_leave(self) -> None:
        statement = f"SELECT id FROM kit_items WHERE note = {self.parameter}"
        self.run(statement, ("planted",))
        span = self.one(name=SUMMARY)
        assert span.attributes[semconv.DB_QUERY_TEXT] == statement
        assert "planted" not in repr(vars(span))

    def test_empty_parameters_make_no_parameterised_statement(self) -> None:
        """Libraries above pass an empty tuple with whatever text they are given."""
        self.run("SELECT id FROM kit_items WHERE note = 'planted'", ())
        assert "planted" not in repr(vars(self.one()))

    def test_failed_statement_gives_its_code_and_keeps_its_values(self) -> None:
        with pytest.raises(Exception) as caught:
            self.run("INSERT INTO kit_items VALUES (1, 'planted')")
        span = self.one(name="INSERT kit_items", status="error")
        code = span.attributes.get(semconv.DB_RESPONSE_STATUS_CODE)
        kind = type(caught.value)
        assert code == (self.duplicate_code or None)
        assert span.attributes[semconv.ERROR_TYPE] == (code or f"{kind.__module__}.{kind.__qualname__}")
        assert len(span.exceptions) == 1
        assert span.message
        assert "planted" not in repr([vars(span), [event.attributes for event in span.events]])

    def test_values_do_not_leave_through_the_spans_above(self) -> None:
        value = "planted"  # a stack trace quotes the lines of the source, and that is no value

        def save() -> None:
            try:
                self.run(f"INSERT INTO kit_items VALUES (1, '{value}')")
            except Exception as error:
                raise LookupError(f"not saved: {error}") from error

        with pytest.raises(LookupError), lighttrace.span("outer"), lighttrace.span("inner"):
            save()
        for span in self.spans.take(3):
            assert span.status == "error"
            assert value not in repr([vars(span), [event.attributes for event in span.events]])

    def test_very_long_statement_is_cut_and_not_kept(self) -> None:
        self.run(f"SELECT id FROM kit_items WHERE id IN ({', '.join(['1'] * 20_000)})")
        span = self.one(name=SUMMARY)
        assert len(span.attributes[semconv.DB_QUERY_TEXT]) <= 32_768

    # -- batches -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, 2, 5])
    def test_batch_gives_its_size(self, size: int) -> None:
        self.run_many(
            f"INSERT INTO kit_items VALUES ({self.parameter}, {self.parameter})", [(10 + n, "planted") for n in range(size)]
        )
        summary = "INSERT kit_items" if size == 1 else "BATCH INSERT kit_items"
        span = self.one(name=summary, attributes={semconv.DB_QUERY_SUMMARY: summary})
        assert span.attributes.get(semconv.DB_OPERATION_BATCH_SIZE) == (None if size == 1 else size)
        assert "planted" not in repr(vars(span))

    def test_batch_of_an_iterator_is_left_to_the_driver(self) -> None:
        statement = f"INSERT INTO kit_items VALUES ({self.parameter}, {self.parameter})"
        self.run_many(statement, ((10 + n, "x") for n in range(3)))
        self.one(name="INSERT kit_items")
        with contextlib.contextmanager(suppressed)():
            assert len(self.run(SELECT)) == 5
