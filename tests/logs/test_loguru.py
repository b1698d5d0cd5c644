"""loguru: our patcher, chained behind the program's own."""

import logging

import pytest
from loguru import logger

import lighttrace
from lighttrace.logs import NAMES, add_to_record
from lighttrace.logs import loguru as ours


@pytest.fixture(autouse=True)
def fresh():
    handlers, patcher = dict(logger._core.handlers), logger._core.patcher
    yield
    lighttrace.shutdown()
    assert logger._core.patcher is patcher
    assert logger._core.handlers == handlers


@pytest.fixture
def kept():
    records = []
    sink = logger.add(lambda message: records.append(message.record), level="DEBUG")
    yield records
    logger.remove(sink)


def init(**options):
    lighttrace.init(**{"service": "checkout", "team": "payments", "exporter": "none", "logs": True, **options})


def said(record):
    return {name: record["extra"].get(name) for name in NAMES}


def test_records_say_which_span_and_whose(kept):
    init()
    logger.info("before")
    with lighttrace.span("work", team="fraud") as span:
        logger.bind(order=7).info("inside")
    context = span.get_span_context()
    assert said(kept[0]) == {"trace_id": "", "span_id": "", "service": "checkout", "team": "payments"}
    assert said(kept[1]) == {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "service": "checkout",
        "team": "fraud",
    }
    assert kept[1]["extra"]["order"] == 7


def test_what_the_program_bound_goes_first(kept):
    init()
    with logger.contextualize(service="contextual"):
        logger.bind(team="bound").patch(lambda record: record["extra"].update(span_id="patched")).info("hello")
    assert said(kept[0]) == {"trace_id": "", "span_id": "patched", "service": "contextual", "team": "bound"}


@pytest.mark.parametrize("first", ["init", "configure"])
def test_patcher_of_the_programs_own_runs_too(kept, first):
    if first == "init":
        init()
    logger.configure(patcher=lambda record: record["extra"].update(mine=True, team="mine"))
    try:
        if first == "configure":
            init()
        logger.info("hello")
        assert kept[0]["extra"]["mine"] and kept[0]["extra"]["team"] == "mine"
        assert kept[0]["extra"]["service"] == "checkout"
        lighttrace.shutdown()
        logger.info("hello")
        assert kept[1]["extra"] == {"mine": True, "team": "mine"}
    finally:
        lighttrace.shutdown()
        logger._core.patcher = None


def test_undo_is_exact():
    before = dict(vars(type(logger)))
    init()
    assert logger._core.patcher is not None
    lighttrace.shutdown()
    assert logger._core.patcher is None
    assert dict(vars(type(logger))) == before


def test_only_when_asked_for(kept):
    lighttrace.init(service="checkout", exporter="none")
    logger.info("hello")
    assert kept[0]["extra"] == {}


def test_intercepted_standard_logging_goes_round_once(kept):
    """The handler from loguru's documentation, which sends the standard library's records to loguru."""

    class InterceptHandler(logging.Handler):
        def emit(self, record):
            logger.opt(depth=6, exception=record.exc_info).log(record.levelname, record.getMessage())

    init()
    log = logging.getLogger("loguru shop")
    handler = InterceptHandler()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    with lighttrace.span("work", team="fraud"):
        log.info("hello")
    log.removeHandler(handler)
    assert [(record["message"], record["extra"]["team"]) for record in kept] == [("hello", "fraud")]


@pytest.mark.contained
def test_what_fails_in_it_never_reaches_the_program(kept, monkeypatch, contained):
    monkeypatch.setattr(ours, "fill", lambda extra: 1 / 0)
    init()
    logger.info("hello")
    assert kept[0]["message"] == "hello"
    assert contained


def test_patcher_by_hand_needs_no_tracing():
    record = {"extra": {}}
    add_to_record(record)
    assert record["extra"] == dict.fromkeys(NAMES, "")
