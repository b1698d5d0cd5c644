"""No recursion, whatever handlers are installed: our own log lines, and what is logged while spans are sent."""

import logging

import pytest
import requests
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs import export as sdk

import lighttrace
from lighttrace import guard, runtime
from lighttrace.testing.capture import wait_until
from lighttrace.testing.peer import Peer, refused


class Posting(logging.Handler):
    """Posts every record over HTTP, in the thread that logged it."""

    def __init__(self, url):
        super().__init__(logging.WARNING)
        self.url = url

    def emit(self, record):
        requests.post(f"{self.url}/{record.name}", data=record.getMessage(), timeout=5)


@pytest.fixture
def ended():
    """The names of all spans that end while tracing is on."""
    names = []

    def watch():
        active = runtime.active()
        put = active.provider.pipeline.put
        active.provider.pipeline.put = lambda span: (names.append(span._name), put(span))

    yield names, watch
    lighttrace.shutdown()


def test_our_workers_lines_make_no_spans_in_a_handler_that_posts(ended):
    names, watch = ended
    guard._last_logged.clear()
    with Peer() as peer:
        handler = Posting(peer.url)
        logging.root.addHandler(handler)
        try:
            lighttrace.init(service="checkout", endpoint=refused(), exit_timeout=0.2)
            watch()
            with lighttrace.span("work"):
                pass
            lighttrace.flush(0.3)
            lighttrace.shutdown()
            wait_until(lambda: any(request.target == "/lighttrace" for request in peer.requests), "a line of ours")
        finally:
            logging.root.removeHandler(handler)
        posted = peer.take()
    assert names == ["work"]
    assert not [request for request in posted if request.header("traceparent")]


@pytest.mark.parametrize("mode", [True, "otlp"])
def test_handler_that_posts_is_traced_once_per_line_of_the_programs(ended, mode):
    names, watch = ended
    with Peer() as peer:
        handler = Posting(peer.url)
        logging.root.addHandler(handler)
        try:
            lighttrace.init(service="checkout", endpoint=peer.url, logs=mode, exporter="none" if mode is True else "otlp")
            watch()
            logging.getLogger("shop").warning("hello")
            lighttrace.flush()
        finally:
            logging.root.removeHandler(handler)
        lighttrace.shutdown()
        posted = [request for request in peer.take() if not request.target.startswith("/v1/")]
    assert names == ["POST"]
    assert [request.target for request in posted] == ["/shop"]


def test_exporting_handler_of_the_programs_own_hears_no_span_of_ours(ended):
    """opentelemetry-sdk's pipeline for logs, whose exporter posts with requests for each record, on the thread that logs."""
    names, watch = ended
    with Peer() as peer:

        class Exporter(getattr(sdk, "LogRecordExporter", None) or sdk.LogExporter):
            def export(self, batch):
                requests.post(peer.url + "/logs", timeout=5)
                return (getattr(sdk, "LogRecordExportResult", None) or sdk.LogExportResult).SUCCESS

            def shutdown(self):
                return

            def force_flush(self, timeout_millis=0):
                return True

        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(sdk.SimpleLogRecordProcessor(Exporter()))

        handler = LoggingHandler(logging.WARNING, provider)
        logging.root.addHandler(handler)
        try:
            lighttrace.init(service="checkout", endpoint=refused(), exit_timeout=0.2)
            watch()
            logging.getLogger("shop").warning("hello")
            with lighttrace.span("work"):
                pass
            lighttrace.flush(0.3)
            lighttrace.shutdown()
        finally:
            logging.root.removeHandler(handler)
        assert [request for request in peer.take() if request.target == "/logs"]
    assert names == ["work"]
