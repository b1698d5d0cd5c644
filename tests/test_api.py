"""The public face: `import lighttrace` and what it names."""

import inspect
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.util._once import Once

import lighttrace
from lighttrace import runtime
from lighttrace.export.memory import MemoryExporter

ROOT = str(Path(lighttrace.__file__).resolve().parent.parent)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    def clear() -> None:
        lighttrace.shutdown()
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE = Once()

    clear()
    yield
    clear()


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": ROOT, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_everything_that_is_named_is_there() -> None:
    for name in lighttrace.__all__:
        assert getattr(lighttrace, name) is not None
    assert set(lighttrace.__all__) <= set(dir(lighttrace)) | set(lighttrace._LAZY)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        lighttrace.nonsense  # the access is the subject


def test_every_public_function_says_what_it_does() -> None:
    for name in lighttrace.__all__:
        value = getattr(lighttrace, name)
        if inspect.isroutine(value) or inspect.isclass(value):
            assert value.__doc__, name


def test_importing_it_brings_nothing_heavy() -> None:
    heavy = {
        "ssl",
        "urllib3",
        "requests",
        "grpc",
        "google.protobuf",
        "opentelemetry",
        "wrapt",
        "asyncio",
        "logging",
        "lighttrace.runtime",
    }
    done = python("import sys; before = set(sys.modules); import lighttrace; print(*sorted(set(sys.modules) - before))")
    assert not heavy & set(done.stdout.split())


def test_init_brings_neither_exporters_nor_the_sdk() -> None:
    heavy = {"ssl", "urllib3", "requests", "grpc", "google.protobuf", "opentelemetry.sdk", "wrapt", "http.client"}
    done = python("import sys, lighttrace; lighttrace.init(service='checkout'); print(*sys.modules)")
    assert not heavy & set(done.stdout.split())
    assert done.stderr == ""


def test_init_many_times_is_once() -> None:
    lighttrace.init(service="one", exporter="none")
    first = runtime.active()
    for number in range(100):
        lighttrace.init(service=f"again {number}", exporter="none")
    assert runtime.active() is first
    assert first is not None and first.config.service == "one"


def test_a_hundred_cycles_leave_nothing() -> None:
    threads = threading.active_count()
    vars_before = dict(vars(threading.Thread))
    finders = list(sys.meta_path)
    for _ in range(100):
        lighttrace.init(service="cycle", exporter="none")
        with lighttrace.span("work"):
            pass
        lighttrace.shutdown()
    assert threading.active_count() <= threads
    assert dict(vars(threading.Thread)) == vars_before
    assert sys.meta_path == finders
    assert trace._TRACER_PROVIDER is None


def test_before_init_and_after_shutdown_everything_is_a_no_op() -> None:
    for _ in range(2):
        assert lighttrace.flush()
        lighttrace.shutdown()
        with lighttrace.span("nothing", team="x", a=1) as span, lighttrace.team("y"), lighttrace.detached():
            assert not span.is_recording()
            span.set_attribute("a", 1)
        lighttrace.init(exporter="none")
        lighttrace.shutdown()


def test_disabled_by_opentelemetrys_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    lighttrace.init(service="off")
    assert runtime.active() is None
    with lighttrace.span("nothing") as span:
        assert not span.is_recording()


def test_nothing_wrong_with_the_configuration_raises(caplog: pytest.LogCaptureFixture) -> None:
    lighttrace.init(
        service="checkout", exporter="none", sampler="nonsense", nonsense=1, queue_size="many", attribute_count_limit=-5
    )
    with lighttrace.span("works") as span:
        assert span.is_recording()
    assert caplog.records
    assert all(record.name == "lighttrace" and record.levelno <= logging.WARNING for record in caplog.records)


def test_spans_carry_service_and_team() -> None:
    lighttrace.init(service="checkout", team="payments", exporter="none")
    with lighttrace.span("work") as span:
        assert span.team == "payments"
        assert span.resource.attributes["service.name"] == "checkout"
        assert span.resource.attributes["team"] == "payments"
        assert span.resource.attributes["service.owner.name"] == "payments"
    assert isinstance(span, lighttrace.Span)


def test_spans_that_no_processor_sees_reach_the_exporter() -> None:
    lighttrace.init(service="checkout", exporter="memory")
    active = runtime.active()
    assert active is not None
    with lighttrace.span("work"):
        pass
    assert lighttrace.flush(5)
    assert "work" in [span.name for span in _exported(active)]


def _exported(active: Any) -> list[Any]:
    """What the memory exporter holds."""
    exporter = active.queue._sender.exporter
    assert isinstance(exporter, MemoryExporter)
    return exporter.spans


EXPORTER = """
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
class Mine(SpanExporter):
    def export(self, spans):
        print(*[f"{type(span).__name__}:{span.name}:{span.resource.attributes['service.name']}" for span in spans])
        return SpanExportResult.SUCCESS
"""


def test_an_exporter_behind_opentelemetrys_entry_point_is_used(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(EXPORTER)
    metadata = tmp_path / "mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[opentelemetry_traces_exporter]\nmine = mine:Mine\n")
    code = """
import lighttrace
lighttrace.init(service="checkout")
with lighttrace.span("work"): pass
"""
    done = python(code, OTEL_TRACES_EXPORTER="mine", PYTHONPATH=os.pathsep.join([ROOT, str(tmp_path)]))
    assert done.stdout.strip() == "Span:work:checkout"
    assert done.stderr == ""


# -- processes ------------------------------------------------------------------------------------------------------


def _tell(pipe: Any) -> None:
    with lighttrace.span("child") as span:
        context = span.get_span_context()
        pipe.send(
            (span.resource.attributes["service.instance.id"] if span.is_recording() else None, context.trace_id, context.span_id)
        )
    pipe.close()


def in_process(context: Any) -> tuple[str | None, int, int]:
    read, write = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(write,))
    process.start()
    write.close()
    try:
        assert read.poll(30)
        told: tuple[str | None, int, int] = read.recv()
    finally:
        process.join(30)
    assert process.exitcode == 0
    return told


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_each_forked_worker_is_an_instance_of_its_own() -> None:
    lighttrace.init(service="checkout", exporter="none")
    active = runtime.active()
    assert active is not None
    mine = active.pipeline.resource["service.instance.id"]
    context = multiprocessing.get_context("fork")
    one, two = in_process(context), in_process(context)
    assert len({mine, one[0], two[0]}) == 3
    assert len({one[1], two[1]}) == len({one[2], two[2]}) == 2
    assert active.pipeline.resource["service.instance.id"] == mine


def test_a_forked_worker_goes_on_in_the_trace_that_started_it() -> None:
    lighttrace.init(service="checkout", exporter="none")
    with lighttrace.span("parent") as parent:
        _, trace_id, span_id = in_process(multiprocessing.get_context("fork"))
    assert trace_id == parent.get_span_context().trace_id
    assert span_id != parent.get_span_context().span_id
