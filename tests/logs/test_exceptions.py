"""Exceptions as log records: OpenTelemetry's `OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN`, to a real receiver."""

import sqlite3

import pytest
from opentelemetry import trace

import lighttrace
from lighttrace import guard
from tests.logs.receiver import LogReceiver

VARIABLE = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"


@pytest.fixture
def receiver():
    with LogReceiver() as running:
        yield running
        lighttrace.shutdown()


def init(receiver, **options):
    given = {"service": "checkout", "team": "payments", "endpoint": receiver.endpoint, "logs": "otlp"}
    lighttrace.init(**{**given, **options})


def fail(name="work", message="gone", **options):
    with pytest.raises(LookupError), lighttrace.span(name, **options) as span:
        raise LookupError(message)
    return span


@pytest.mark.parametrize(
    ("value", "on_the_span", "in_the_log"), [(None, 1, 0), ("logs", 0, 1), ("logs/dup", 1, 1), ("both", 1, 0)]
)
def test_variable_says_where_exceptions_go(receiver, monkeypatch, value, on_the_span, in_the_log):
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    init(receiver)
    span = fail()
    assert lighttrace.flush()
    assert len(span.events) == on_the_span
    assert len(receiver.records) == in_the_log


def test_record_says_what_the_event_says_and_whose_it_is(receiver, monkeypatch):
    monkeypatch.setenv(VARIABLE, "logs/dup")
    init(receiver)
    secret = "hunter2"
    span = fail(message=f"password={secret}", team="fraud")
    assert lighttrace.flush()
    ((_, resource, record, attributes),) = receiver.wait_for(1)
    context = span.get_span_context()
    assert (record.trace_id.hex(), record.span_id.hex()) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    (event,) = span.events
    for key in ("exception.type", "exception.message", "exception.stacktrace"):
        assert attributes[key] == event.attributes[key]
    assert "exception.escaped" not in attributes
    assert secret not in record.body.string_value
    assert (record.body.string_value, attributes["exception.type"]) == ("LookupError: password=REDACTED", "LookupError")
    assert (attributes["team"], resource["service.name"]) == ("fraud", "checkout")
    assert attributes["code.function.name"] == span.attributes["code.function.name"] == "fail"
    assert (record.severity_text, record.severity_number) == ("ERROR", 17)
    assert getattr(record, "event_name", "exception") == "exception"  # older SDKs know no names of events


def test_status_and_place_stay_on_the_span(receiver):
    init(receiver, exceptions="logs")
    span = fail()
    assert not span.events
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == "LookupError: gone"
    assert span.attributes["error.type"] == "LookupError"
    assert span.attributes["code.function.name"] == "fail"


def test_exception_that_passes_many_spans_is_one_record(receiver):
    init(receiver, exceptions="logs")
    with pytest.raises(LookupError), lighttrace.span("outer"), lighttrace.span("middle"):
        fail_inside()
    assert lighttrace.flush()
    assert len(receiver.wait_for(1)) == 1


def fail_inside():
    with lighttrace.span("inner"):
        raise LookupError("gone")


def test_what_failed_at_a_client_is_a_warning(receiver):
    init(receiver, exceptions="logs")
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError):
        connection.execute("SELECT * FROM nowhere")
    connection.close()
    assert lighttrace.flush()
    ((_, _, record, attributes),) = receiver.wait_for(1)
    assert (record.severity_text, record.severity_number) == ("WARN", 13)
    assert attributes["exception.type"] == "sqlite3.OperationalError"


def test_what_a_program_records_itself_stays_on_the_span(receiver):
    init(receiver, exceptions="logs")
    with trace.get_tracer("theirs").start_as_current_span("work") as span:
        span.record_exception(LookupError("gone"))
    assert lighttrace.flush()
    assert [event.name for event in span.events] == ["exception"]
    assert not receiver.records


def test_variable_is_ignored_aloud_where_no_log_records_are_exported(receiver, monkeypatch, caplog):
    monkeypatch.setenv(VARIABLE, "logs")
    init(receiver, logs=True)
    assert len(fail().events) == 1
    assert [VARIABLE in record.message for record in caplog.records if record.name == "lighttrace"] == [True]


@pytest.mark.contained
def test_exception_stays_on_the_span_where_the_log_record_cannot_be_made(receiver, monkeypatch, contained):
    from lighttrace.logs import otlp

    monkeypatch.setattr(otlp, "make_exporter", lambda config: 1 / 0)
    init(receiver, exceptions="logs")
    assert len(fail().events) == 1
    assert contained[0][0] == "logs.otlp"
    guard.sites["logs.otlp"].failures = 0


def test_exceptions_after_the_end_stay_on_the_span(receiver):
    init(receiver, exceptions="logs")
    with pytest.raises(LookupError), lighttrace.span("late") as span:
        lighttrace.shutdown()
        raise LookupError("gone")
    assert len(span.events) == 1
    assert not receiver.records
