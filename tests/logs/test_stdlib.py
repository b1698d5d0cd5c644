"""The standard library's logging, with the four fields on each record."""

import io
import json
import logging
import logging.config
import logging.handlers
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from opentelemetry import trace

import lighttrace
from lighttrace.logs import NAMES, JsonFormatter, fields, stdlib
from lighttrace.testing import capture

ROOT = str(Path(lighttrace.__file__).resolve().parent.parent)


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def said(self):
        return [tuple(getattr(record, name) for name in NAMES) for record in self.records]


@pytest.fixture
def log():
    """A logger of its own with a handler that keeps what it gets."""
    logger = logging.getLogger("shop")
    handler = Kept()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.kept = handler
    yield logger
    logger.removeHandler(handler)
    logger.filters.clear()


@pytest.fixture
def on():
    lighttrace.init(service="checkout", team="payments", exporter="none")
    yield
    lighttrace.shutdown()


def ids(span):
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def test_record_says_which_span_and_whose(log, on):
    log.info("before")
    with lighttrace.span("outer") as outer:
        log.info("in a span")
        with lighttrace.span("inner", team="fraud") as inner:
            log.info("in another's")
        with lighttrace.team("risk"):
            log.info("in a scope")
    with lighttrace.team("risk"):
        log.info("in a scope without a span")
    assert log.kept.said() == [
        ("", "", "checkout", "payments"),
        (*ids(outer), "checkout", "payments"),
        (*ids(inner), "checkout", "fraud"),
        (*ids(outer), "checkout", "risk"),
        ("", "", "checkout", "risk"),
    ]


def test_fields_can_stand_in_a_format(log, on):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(trace_id)s|%(span_id)s|%(service)s|%(team)s|%(message)s"))
    log.addHandler(handler)
    log.info("hello")
    log.removeHandler(handler)
    assert stream.getvalue() == "||checkout|payments|hello\n"


def test_what_the_program_says_goes_first(log, on):
    with lighttrace.span("work"):
        log.info("hello", extra={"team": "mine", "service": "other", "trace_id": "x", "order": 7})
        logging.LoggerAdapter(log, {"team": "adapter's"}).info("hello")
    first, second = log.kept.records
    assert (first.team, first.service, first.trace_id, first.order) == ("mine", "other", "x", 7)
    assert len(first.span_id) == 16
    assert second.team == "adapter's"


def test_unsampled_and_foreign_spans_are_named_too(log):
    lighttrace.init(service="checkout", exporter="none", sampler="always_off")
    with lighttrace.span("unsampled") as span:
        log.info("hello")
    lighttrace.shutdown()
    lighttrace.init(service="checkout", exporter="none")
    remote = trace.SpanContext(10, 11, True)
    with trace.use_span(trace.NonRecordingSpan(remote)):
        log.info("hello")
    with trace.use_span(trace.INVALID_SPAN):
        log.info("hello")
    lighttrace.shutdown()
    assert log.kept.said() == [
        (*ids(span), "checkout", ""),
        (f"{10:032x}", f"{11:016x}", "checkout", ""),
        ("", "", "checkout", ""),
    ]


def test_factory_of_the_programs_own_stays(log, on):
    before = logging.getLogRecordFactory()

    def factory(*args, **kwargs):
        record = before(*args, **kwargs)
        record.mine = True
        return record

    logging.setLogRecordFactory(factory)
    try:
        log.info("hello")
        assert logging.getLogRecordFactory() is factory
    finally:
        logging.setLogRecordFactory(before)
    (record,) = log.kept.records
    assert record.mine and record.service == "checkout"


def test_filters_of_the_logger_see_the_fields(log, on):
    log.addFilter(lambda record: record.team != "payments")
    log.info("left out")
    with lighttrace.team("fraud"):
        log.info("kept")
    assert [record.getMessage() for record in log.kept.records] == ["kept"]


def test_queue_keeps_the_fields_of_where_the_record_was_made(log, on):
    records = queue.SimpleQueue()
    kept = Kept()
    listener = logging.handlers.QueueListener(records, kept)
    listener.start()
    handler = logging.handlers.QueueHandler(records)
    log.addHandler(handler)
    with lighttrace.span("work", team="fraud") as span:
        log.info("hello")
    log.removeHandler(handler)
    listener.stop()
    assert kept.said() == [(*ids(span), "checkout", "fraud")]


def test_threads_log_under_the_span_that_started_them(log, on):
    with lighttrace.span("work") as span:
        thread = threading.Thread(target=log.info, args=("hello",))
        thread.start()
        thread.join()
    assert log.kept.said() == [(*ids(span), "checkout", "payments")]


def test_undo_is_exact(log):
    before = dict(vars(logging.Logger)), logging.getLogRecordFactory(), list(logging.root.handlers)
    for mode in (True, "logging", "otlp", False):
        lighttrace.init(service="checkout", exporter="none", logs=mode)
        lighttrace.shutdown()
    assert (dict(vars(logging.Logger)), logging.getLogRecordFactory(), list(logging.root.handlers)) == before
    log.info("hello")
    assert not hasattr(log.kept.records[0], "trace_id")


def test_switched_off_nothing_is_patched(log):
    lighttrace.init(service="checkout", exporter="none", logs=False)
    log.info("hello")
    lighttrace.shutdown()
    assert not hasattr(log.kept.records[0], "trace_id")


@pytest.mark.contained
def test_what_fails_in_it_never_reaches_the_program(log, on, monkeypatch, contained):
    monkeypatch.setattr(stdlib, "fill", lambda record: 1 / 0)
    root = Kept()
    logging.root.addHandler(root)  # hears our own line about it, which fails in the same way
    log.info("hello")
    logging.root.removeHandler(root)
    assert [record.getMessage() for record in log.kept.records] == ["hello"]
    assert contained[0][1].startswith("ZeroDivisionError")
    assert len(root.records) == 1


def test_caller_of_a_log_line_stays_the_caller(log, on):
    log.info("hello")
    log.info("hello", stacklevel=2)
    first, second = log.kept.records
    assert (first.filename, first.funcName) == ("test_stdlib.py", "test_caller_of_a_log_line_stays_the_caller")
    assert second.funcName != first.funcName


def test_program_without_logging_gets_none():
    code = (
        "import sys, lighttrace; lighttrace.init(service='a', exporter='none', logs=True)\n"
        "bare = [name for name in ('logging', 'structlog', 'loguru', 'lighttrace.logs.stdlib', 'json') if name in sys.modules]\n"
        "import logging; logging.basicConfig(format='%(service)s %(message)s'); logging.warning('hello')\n"
        "print(bare)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LIGHTTRACE_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**environment, "PYTHONPATH": ROOT},
    )
    assert done.stderr == "a hello\n"
    # What opentelemetry-api imports is its own affair.
    assert not {"structlog", "loguru"} & set(done.stdout.split("'"))


# -- JSON ------------------------------------------------------------------------------------------------------------


def formatted(**values):
    return JsonFormatter().format(logging.makeLogRecord({"name": "shop", "levelname": "INFO", **values}))


def test_json_formatter_in_a_dict_config(on, capsys):
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": "lighttrace.logs.JsonFormatter"}},
            "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
            "loggers": {"json shop": {"handlers": ["out"], "level": "INFO", "propagate": False}},
        }
    )
    log = logging.getLogger("json shop")
    with lighttrace.span("work") as span:
        log.info("paid %s", "A-1", extra={"order": 7, "team": "mine"})
    log.handlers.clear()
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said.pop("time").endswith("+00:00")
    assert said == {
        "level": "INFO",
        "logger": "json shop",
        "message": "paid A-1",
        "trace_id": ids(span)[0],
        "span_id": ids(span)[1],
        "service": "checkout",
        "team": "mine",
        "order": 7,
    }


def test_json_formatter_needs_no_tracing():
    assert {name: json.loads(formatted(msg="hello"))[name] for name in NAMES} == dict.fromkeys(NAMES, "")


def test_json_formatter_puts_an_exception_into_the_same_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        line = formatted(msg="a\nb", exc_info=sys.exc_info(), stack_info="stack")
    assert "\n" not in line
    said = json.loads(line)
    assert said["message"] == "a\nb"
    assert said["exception"].endswith("ValueError: two\nlines")
    assert said["stack"] == "stack"


class Hostile:
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


CIRCLE = {}
CIRCLE["self"] = CIRCLE


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: 2}, {(1, 2): 3}, {b"a": Hostile()}, CIRCLE, Hostile(), b"\xff", "\ud800", {1, 2}, 10**400, object()],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_json_formatter_takes_every_value(value):
    line = formatted(msg="hello", odd=value)
    assert "\n" not in line and line.isascii()
    said = json.loads(line, parse_constant=lambda constant: pytest.fail(constant))
    assert said["message"] == "hello"
    assert "odd" in said


@pytest.mark.parametrize(("message", "args"), [("%d", ("x",)), ("%s %s", (1,)), (Hostile(), ()), ("%s", (Hostile(),))])
def test_json_formatter_keeps_lines_that_logging_would_lose(message, args):
    assert json.loads(formatted(msg=message, args=args))["level"] == "INFO"


def test_fields_under_a_capture():
    with capture(service="kit", team="kit-team", resolver=None, patch=False):
        assert fields() == ("", "", "kit", "kit-team")
        with lighttrace.span("work") as span:
            assert fields() == (*ids(span), "kit", "kit-team")
    assert fields() == ("", "", "", "")
