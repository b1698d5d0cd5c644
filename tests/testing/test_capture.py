"""The test kit, tested: what it captures, what it expects, and what it does not let pass."""

import asyncio
import subprocess
import sys
import threading
from importlib.util import find_spec

import pytest
from opentelemetry import trace

import lighttrace
from lighttrace.testing import capture
from lighttrace.testing.gaps import declare, declared
from lighttrace.tracing.context import current

plain = {"resolver": None, "patch": False}


def test_spans_are_taken_in_the_order_in_which_they_ended():
    with capture(service="checkout", team="payments", **plain) as spans:
        with lighttrace.span("outer"), lighttrace.span("inner", sku="A-1"):
            pass
        inner, outer = spans.take(2)
    assert (inner.name, outer.name) == ("inner", "outer")
    assert (inner.service, inner.team, inner.attributes["sku"]) == ("checkout", "payments", "A-1")
    assert inner.parent_id == outer.span_id
    assert inner.traceparent == f"00-{outer.trace_id}-{inner.span_id}-03"


def test_take_waits_for_spans_of_other_threads():
    with capture(**plain) as spans:
        go = threading.Event()

        def work():
            go.wait(5)
            with lighttrace.span("late"):
                pass

        thread = threading.Thread(target=work)
        thread.start()
        timer = threading.Timer(0.05, go.set)
        timer.start()
        assert spans.take(deadline=5)[0].name == "late"
        thread.join()
        timer.join()


@pytest.mark.parametrize("made", [0, 2])
def test_take_names_what_it_found_instead(made):
    with capture(**plain) as spans:
        for _ in range(made):
            with lighttrace.span("extra"):
                pass
        with pytest.raises(AssertionError, match=rf"(?s)1 spans expected, and there are {made}: .*{'extra' if made else 'none'}"):
            spans.take(1, deadline=0.01)


def test_expect_finds_by_what_a_span_says():
    with capture(**plain) as spans:
        with lighttrace.span("parent", team="fraud"), lighttrace.span("child", amount=3):
            pass
        with pytest.raises(ValueError), lighttrace.span("failed"):
            raise ValueError("why")
        parent = spans.expect(name="parent", kind="internal", team="fraud", parent=None, status="unset")
        spans.expect(name="child", parent=parent, attributes={"amount": lambda amount: amount > 2, "team": ..., "absent": None})
        failed = spans.expect(status="error", message=str)
        assert [event.attributes["exception.message"] for event in failed.exceptions] == ["why"]
        assert spans.waiting == []


def test_expect_names_the_closest_and_what_differs():
    with capture(**plain) as spans:
        with lighttrace.span("reserve", sku="A-1"):
            pass
        with lighttrace.span("other"):
            pass
        with pytest.raises(AssertionError, match=r"closest is <internal span 'reserve'.*team is 'tests-team', not 'fraud'"):
            spans.expect(name="reserve", team="fraud", attributes={"sku": "A-1"}, deadline=0.01)
        with pytest.raises(AssertionError, match=r"attribute sku is 'A-1', not 'B'"):
            spans.expect(name="reserve", attributes={"sku": "B"}, deadline=0.01)
        spans.clear()
        with pytest.raises(AssertionError, match="no span came"):
            spans.expect(name="reserve", deadline=0.01)


def test_span_that_is_still_open_fails_the_test():
    left = []
    with pytest.raises(AssertionError, match="1 spans were started and have not ended: <Span 'open'"), capture(**plain) as spans:
        spans.check_ended = lambda check=spans.check_ended: check(0.01)
        left.append(trace.get_tracer("kit").start_span("open"))
    left[0].end()


def test_context_that_was_left_behind_fails_the_test():
    before = current.get()
    try:
        with pytest.raises(AssertionError, match="a context was left behind"), capture(**plain):
            scope = lighttrace.span("left")
            scope.__enter__()
    finally:
        current.set(before)


def test_span_that_nobody_took_fails_a_strict_test():
    with pytest.raises(AssertionError, match="spans that nobody took"), capture(strict=True, **plain), lighttrace.span("x"):
        pass
    with capture(**plain), lighttrace.span("x"):
        pass


def test_failure_inside_fails_the_test_unless_it_is_the_subject():
    class Broken:
        def on_start(self, span, parent_context=None):
            raise LookupError("broken on purpose")

        on_end = on_start

    def run(**options):
        with capture(**options, **plain) as spans:
            spans.provider.add_span_processor(Broken())
            with lighttrace.span("x"):
                pass
            return spans.failures

    with pytest.raises(AssertionError, match=r"failures inside LightTrace, the first in tracing\.processors"):
        run()
    assert {site for site, _ in run(contained=True)} == {"tracing.processors"}


def test_test_that_fails_on_its_own_keeps_its_own_failure():
    with pytest.raises(ZeroDivisionError), capture(strict=True, **plain), lighttrace.span("x"):
        _ = 1 / 0


def test_everything_is_as_before_afterwards():
    from opentelemetry import propagate

    from lighttrace.instrument.engine import state

    names = type(state).__slots__
    before = [getattr(state, name) for name in names], trace._TRACER_PROVIDER, propagate.get_global_textmap(), dict(sys.modules)
    with capture(service="other", exclude=("/x",), propagators="b3", resolver=None):
        pass
    after = [getattr(state, name) for name in names], trace._TRACER_PROVIDER, propagate.get_global_textmap(), before[3]
    assert after == before


def test_integrations_look_for_their_tracer_again_afterwards():
    from lighttrace.instrument.engine import Scope

    scope = Scope("kept", covers=False)
    for _ in range(2):
        with capture(**plain):
            assert scope.find() is scope.tracer is not None
        assert scope.tracer is None
        assert scope.find() is None  # tracing is off


def test_tracer_that_a_module_kept_is_captured_every_time():
    for _ in range(2):
        with capture(**plain) as spans:
            with KEPT.start_as_current_span("kept"):
                pass
            spans.expect(name="kept")


KEPT = trace.get_tracer(__name__)


def test_wrong_option_is_told():
    with pytest.raises(ValueError, match="sampl"), capture(samplr="always_off", **plain):
        pass


def test_libraries_are_patched_meanwhile(tmp_path):
    import sqlite3

    before = sqlite3.connect
    with capture(resolver=None) as spans:
        connection = sqlite3.connect(tmp_path / "x.db")
        connection.execute("select 1")
        connection.close()
        spans.expect(name="select", kind="client")
    assert sqlite3.connect is before


def test_fixture_is_ready_made(spans):
    with lighttrace.span("x"):
        pass
    spans.expect(name="x", service="tests", team=...)


async def test_fixture_captures_tasks(spans):
    async def work(number):
        with lighttrace.span(f"task {number}"):
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(10)))
    assert len(spans.take(10)) == 10


def test_gap_is_taken_out_and_listed():
    class Kit:
        def test_one(self):
            raise AssertionError

    class TestLibrary(Kit):
        pass

    declare(TestLibrary, {"test_one": "why"})
    try:
        assert TestLibrary.test_one is None
        assert declared["TestLibrary.test_one"] == "why"
        with pytest.raises(TypeError, match="has no such test"):
            declare(TestLibrary, {"test_two": "why"})
    finally:
        del declared["TestLibrary.test_one"]


PROGRAM = """
import pytest, lighttrace
from lighttrace.testing.gaps import declare

class TestX:
    test_gap = lambda self: None
    @pytest.mark.parametrize("number", range(8))
    def test_one(self, spans, number):
        with lighttrace.span("x", number=number):
            pass
        assert spans.take()[0].attributes["number"] == number

declare(TestX, {"test_gap": "the reason"})
"""


@pytest.mark.parametrize("workers", [0, 2] if find_spec("xdist") is not None else [0])
def test_plugin_works_in_a_run_of_its_own(tmp_path, workers):
    (tmp_path / "test_program.py").write_text(PROGRAM)
    (tmp_path / "conftest.py").write_text(
        "import importlib.metadata\n"
        "if not any(e.value == 'lighttrace.testing.plugin' for e in importlib.metadata.entry_points(group='pytest11')):\n"
        "    pytest_plugins = ['lighttrace.testing.plugin']\n"
    )
    options = ["-n", str(workers)] if workers else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), *options, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout
    assert "TestX.test_gap: the reason" in done.stdout
