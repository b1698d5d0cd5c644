"""Log records over OTLP: to a real receiver, decoded by opentelemetry-proto."""

import logging
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

import lighttrace
from lighttrace import guard
from lighttrace.logs import OtlpHandler
from lighttrace.testing.peer import Peer
from tests.logs.receiver import LogReceiver

ROOT = str(Path(lighttrace.__file__).resolve().parent.parent)


@pytest.fixture
def receiver():
    with LogReceiver() as running:
        yield running


@pytest.fixture(autouse=True)
def off():
    level = logging.root.level
    yield
    lighttrace.shutdown()
    logging.root.setLevel(level)


def init(receiver, **options):
    given = {"service": "checkout", "team": "payments", "endpoint": receiver.endpoint, "logs": "otlp", "disable": "sqlite3"}
    lighttrace.init(**{**given, **options})
    logging.root.setLevel(logging.INFO)


def test_records_arrive_with_span_team_and_resource(receiver):
    init(receiver, version="1.2", headers={"x-key": "secret"})
    log = logging.getLogger("shop.orders")
    with lighttrace.span("work", team="fraud") as span:
        log.warning("paid %s", "A-1", extra={"order": 7, "odd": object, "nested": {"a": 1}})
    assert lighttrace.flush()
    ((name, resource, record, attributes),) = receiver.wait_for(1)
    context = span.get_span_context()
    assert name == "shop.orders"
    assert (record.trace_id.hex(), record.span_id.hex()) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert record.body.string_value == "paid A-1"
    assert (record.severity_text, record.severity_number) == ("WARN", 13)
    assert abs(record.time_unix_nano / 1e9 - time.time()) < 60
    assert (resource["service.name"], resource["team"], resource["service.version"]) == ("checkout", "payments", "1.2")
    assert resource["service.instance.id"]
    assert (attributes["team"], attributes["order"]) == ("fraud", 7)
    assert attributes["odd"].startswith("<class") or "object" in attributes["odd"]
    assert attributes["code.file.path"] == __file__
    assert attributes["code.function.name"] == "test_records_arrive_with_span_team_and_resource"
    assert not {"trace_id", "span_id", "service"} & attributes.keys()
    assert receiver.headers[0]["x-key"] == "secret"


def test_exception_is_told(receiver):
    init(receiver)
    try:
        raise LookupError("gone")
    except LookupError:
        logging.getLogger("shop").exception("failed")
    assert lighttrace.flush()
    (_, _, record, attributes) = receiver.wait_for(1)[0]
    assert record.severity_number == 17
    assert (attributes["exception.type"], attributes["exception.message"]) == ("LookupError", "gone")
    assert "raise LookupError" in attributes["exception.stacktrace"]
    assert not record.trace_id


def test_secrets_in_an_exception_stay_here_as_they_do_on_spans(receiver):
    init(receiver)
    secret = "hunter2"
    try:
        raise LookupError(f"password={secret} at https://bob:{secret}@h/")
    except LookupError:
        logging.getLogger("shop").exception("failed")
    assert lighttrace.flush()
    (_, _, _, attributes) = receiver.wait_for(1)[0]
    assert attributes["exception.message"] == "password=REDACTED at https://REDACTED:REDACTED@h/"
    assert "LookupError: password=REDACTED" in attributes["exception.stacktrace"]
    assert f"password={secret}" not in attributes["exception.stacktrace"]


def test_levels_filters_and_loggers_are_obeyed_and_propagation_does_not_matter(receiver):
    init(receiver)
    log = logging.getLogger("shop.quiet")
    log.propagate = False
    log.debug("below the level")
    log.addFilter(keep := lambda record: record.getMessage() != "filtered")
    log.error("filtered")
    log.error("kept")
    log.removeFilter(keep)
    log.propagate = True
    assert lighttrace.flush()
    assert [record.body.string_value for _, _, record, _ in receiver.wait_for(1)] == ["kept"]


def test_basic_config_of_the_program_works_as_ever():
    code = (
        "import logging, lighttrace; lighttrace.init(service='a', logs='otlp', endpoint='http://127.0.0.1:1', exit_timeout=0.1)\n"
        "logging.basicConfig(format='%(message)s'); logging.warning('hello')"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LIGHTTRACE_"))}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**environment, "PYTHONPATH": ROOT},
    )
    assert done.stderr.splitlines()[0] == "hello"
    assert time.monotonic() - began < 10


class Posting(logging.Handler):
    """A handler that posts every record over HTTP, and logs that it did."""

    def __init__(self, url):
        super().__init__()
        self.url = url
        self.posted = []
        self.busy = False

    def emit(self, record):
        self.posted.append((record.name, record.getMessage()))
        if not self.busy:
            self.busy = True
            try:
                requests.post(self.url, data=record.getMessage(), timeout=5)
                logging.getLogger("posting").info("posted")
            finally:
                self.busy = False


@pytest.mark.parametrize("status", [200, 400])
def test_no_record_makes_another_whatever_the_handlers_do(receiver, status):
    """A handler on the root that posts, libraries that log about it, and a backend that refuses: it ends all the same."""
    receiver.status = status
    with Peer() as peer:
        handler = Posting(peer.url + "/logs")
        init(receiver)
        logging.root.addHandler(handler)
        logging.root.setLevel(logging.DEBUG)
        try:
            logging.getLogger("shop").info("hello")
            for _ in range(5):
                lighttrace.flush()
            lighttrace.shutdown()
        finally:
            logging.root.removeHandler(handler)
    exported = [(name, record.body.string_value) for name, _, record, _ in receiver.records]
    assert ("shop", "hello") in exported
    assert ("posting", "posted") in exported
    assert not [name for name, _ in exported if name.startswith(("lighttrace", "opentelemetry"))]
    # urllib3 tells of the handler's own post, and of no export: there are as many lines as posts.
    assert len(exported) < 20, exported
    assert not [text for _, text in exported if "/v1/logs" in text or "/v1/traces" in text]
    assert len(handler.posted) < 40, handler.posted


def test_exporting_makes_no_spans(receiver):
    from lighttrace import runtime

    init(receiver)
    active = runtime.active()
    seen = []
    active.provider.pipeline.put, put = (lambda span: (seen.append(span._name), put(span))), active.provider.pipeline.put
    logging.getLogger("shop").info("hello")
    assert lighttrace.flush()
    receiver.wait_for(1)
    assert seen == []


def _child(endpoint):
    logging.getLogger("shop").warning("child")
    lighttrace.flush()
    os._exit(0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_child_is_another_instance_and_sends_only_its_own(receiver):
    init(receiver)
    logging.getLogger("shop").warning("parent")
    process = multiprocessing.get_context("fork").Process(target=_child, args=(receiver.endpoint,))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert lighttrace.flush()
    told = receiver.wait_for(2)
    assert sorted(record.body.string_value for _, _, record, _ in told) == ["child", "parent"]
    assert len({resource["service.instance.id"] for _, resource, _, _ in told}) == 2


def test_what_is_left_is_sent_at_shutdown(receiver):
    init(receiver)
    logging.getLogger("shop").warning("last words")
    lighttrace.shutdown()
    assert [record.body.string_value for _, _, record, _ in receiver.records] == ["last words"]


def test_hanging_backend_keeps_nobody_waiting():
    with Peer() as peer:
        lighttrace.init(service="a", exporter="otlp", endpoint=peer.url + "/slow", logs="otlp", timeout=1, exit_timeout=0.5)
        logging.getLogger("shop").warning("hello")
        began = time.monotonic()
        lighttrace.flush(0.2)
        lighttrace.shutdown()
        assert time.monotonic() - began < 3
        peer.release()


def test_loguru_is_exported_through_the_handler(receiver):
    from loguru import logger

    init(receiver)
    sink = logger.add(OtlpHandler(), format="{message}")
    with lighttrace.span("work", team="fraud") as span:
        logger.info("from loguru")
    logger.remove(sink)
    assert lighttrace.flush()
    (_, _, record, _) = receiver.wait_for(1)[0]
    assert record.body.string_value == "from loguru"
    assert record.span_id.hex() == f"{span.get_span_context().span_id:016x}"


def test_handler_without_export_does_nothing():
    OtlpHandler().handle(logging.makeLogRecord({"msg": "hello"}))


@pytest.mark.contained
def test_what_fails_in_it_never_reaches_the_program(receiver, contained):
    class Hostile:
        def __str__(self):
            raise RuntimeError("no")

        __repr__ = __str__

    init(receiver)
    handler = logging.NullHandler()
    log = logging.getLogger("shop")
    log.addHandler(handler)
    log.propagate = False
    log.warning(Hostile())
    log.warning("%d", "x", extra={"odd": Hostile()})
    log.propagate = True
    log.removeHandler(handler)
    assert lighttrace.flush()
    assert len(receiver.wait_for(2)) == 2
    assert not contained


@pytest.mark.contained
def test_broken_exporter_is_told_once(monkeypatch, contained, receiver):
    from lighttrace.logs import otlp

    monkeypatch.setattr(otlp, "make_exporter", lambda config: 1 / 0)
    init(receiver)
    logging.getLogger("shop").warning("hello")
    assert contained[0][0] == "logs.otlp"
    guard.sites["logs.otlp"].failures = 0


def test_variables_of_opentelemetry_for_logs_go_first(receiver, monkeypatch):
    with LogReceiver() as other:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", other.endpoint + "/v1/logs")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-traces=1")
        init(receiver)
        logging.getLogger("shop").warning("hello")
        assert lighttrace.flush()
        other.wait_for(1)
        assert "x-traces" not in other.headers[0]
    assert not receiver.records


@pytest.mark.slow
def test_grpc_is_spoken_where_it_is_configured():
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc

    got = []

    class Service(logs_service_pb2_grpc.LogsServiceServicer):
        def Export(self, request, context):
            got.append((request, dict(context.invocation_metadata())))
            return logs_service_pb2.ExportLogsServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        lighttrace.init(
            service="checkout",
            team="payments",
            endpoint=f"http://127.0.0.1:{port}",
            protocol="grpc",
            logs="otlp",
            headers="x-key=1",
        )
        logging.getLogger("shop").warning("hello")
        assert lighttrace.flush(10)
        (request, metadata) = got[0]
    finally:
        lighttrace.shutdown()
        server.stop(0).wait()
    assert request.resource_logs[0].scope_logs[0].log_records[0].body.string_value == "hello"
    assert metadata["x-key"] == "1"
