"""structlog: our processor in whatever chain the program configures."""

import io
import json
import logging

import pytest
import structlog

import lighttrace
from lighttrace.logs import NAMES, add_to_event
from lighttrace.logs import structlog as ours

OUTSIDE = {"trace_id": "", "span_id": "", "service": "checkout", "team": "payments"}


@pytest.fixture(autouse=True)
def fresh():
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    yield
    lighttrace.shutdown()
    structlog.reset_defaults()


def init(**options):
    lighttrace.init(**{"service": "checkout", "team": "payments", "exporter": "none", "logs": True, **options})


def configure(stream, *processors, **options):
    structlog.configure(
        processors=[*processors, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(stream),
        **options,
    )


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("first", ["init", "configure"])
def test_events_say_which_span_and_whose(first):
    stream = io.StringIO()
    if first == "init":
        init()
    configure(stream)
    if first == "configure":
        init()
    structlog.get_logger().info("before")
    with lighttrace.span("work", team="fraud") as span:
        structlog.get_logger().info("inside", order=7)
    context = span.get_span_context()
    assert lines(stream) == [
        {"event": "before", **OUTSIDE},
        {
            "event": "inside",
            "order": 7,
            "trace_id": f"{context.trace_id:032x}",
            "span_id": f"{context.span_id:016x}",
            "service": "checkout",
            "team": "fraud",
        },
    ]


def test_what_the_program_bound_goes_first():
    stream = io.StringIO()
    init()
    configure(stream, structlog.contextvars.merge_contextvars)
    structlog.contextvars.bind_contextvars(team="context's")
    structlog.get_logger().bind(service="bound").info("hello", trace_id="mine")
    assert lines(stream) == [{"event": "hello", "team": "context's", "service": "bound", "trace_id": "mine", "span_id": ""}]


def test_cached_loggers_configured_after_init_have_the_fields():
    stream = io.StringIO()
    init()
    log = structlog.get_logger()
    configure(stream, cache_logger_on_first_use=True)
    log.info("hello")
    log.info("again")
    assert [line["service"] for line in lines(stream)] == ["checkout", "checkout"]


def test_the_default_chain_has_the_fields_and_is_still_to_be_configured(capsys):
    init()
    structlog.get_logger().info("hello")
    assert "service" in capsys.readouterr().out
    assert not structlog.is_configured()
    structlog.configure_once(processors=[structlog.processors.KeyValueRenderer()])
    structlog.get_logger().info("hello")
    assert "service='checkout'" in capsys.readouterr().out


def test_undo_is_exact():
    functions = structlog.configure, structlog.reset_defaults, structlog._config.configure
    defaults = list(structlog.get_config()["processors"])
    init()
    assert add_to_event in structlog.get_config()["processors"]
    lighttrace.shutdown()
    assert structlog.get_config()["processors"] == defaults
    assert not structlog.is_configured()
    chain = [structlog.processors.JSONRenderer()]
    structlog.configure(processors=chain)
    init()
    assert chain == chain[:1], "the program's own list is never changed"
    lighttrace.shutdown()
    assert structlog.get_config()["processors"] is chain
    assert (structlog.configure, structlog.reset_defaults, structlog._config.configure) == functions
    assert not ours._replaced


def test_only_when_asked_for():
    lighttrace.init(service="checkout", exporter="none")
    assert add_to_event not in structlog.get_config()["processors"]


def test_captured_logs_are_what_the_test_expects():
    init()
    configure(io.StringIO())
    with structlog.testing.capture_logs() as captured:
        structlog.get_logger().info("hello")
    assert captured == [{"event": "hello", "log_level": "info"}]
    assert add_to_event in structlog.get_config()["processors"]


def test_through_the_standard_library_it_is_said_once():
    """ProcessorFormatter, as structlog's documentation has it: our fields on the event and on the record."""
    init()
    stream = io.StringIO()
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[add_to_event],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
        )
    )
    log = logging.getLogger("structlog shop")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    structlog.get_logger("structlog shop").info("ours")
    log.info("foreign")
    log.removeHandler(handler)
    assert lines(stream) == [{"event": "ours", "level": "info", **OUTSIDE}, {"event": "foreign", **OUTSIDE}]


def test_async_loggers_have_the_fields_of_their_caller():
    import asyncio

    stream = io.StringIO()
    init()
    configure(stream, wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))

    async def main():
        with lighttrace.span("work") as span:
            await structlog.get_logger().ainfo("hello")
        return f"{span.get_span_context().span_id:016x}"

    assert asyncio.run(main()) == lines(stream)[0]["span_id"]


@pytest.mark.contained
def test_what_fails_in_it_never_reaches_the_program(monkeypatch, contained):
    monkeypatch.setattr(ours, "fill", lambda event: 1 / 0)
    stream = io.StringIO()
    init()
    configure(stream)
    structlog.get_logger().info("hello")
    assert lines(stream) == [{"event": "hello"}]
    assert contained


def test_processor_by_hand_needs_no_tracing():
    assert add_to_event(None, "info", {"event": "hello"}) == {"event": "hello", **dict.fromkeys(NAMES, "")}
