"""What holds in every test: nothing fails inside LightTrace unseen, and nothing of it is left behind.

A failure that LightTrace contained is no failure for a program, and is one for a test. A test that breaks something on
purpose is marked `contained`; it finds what was contained in the fixture of the same name.
"""

import functools
import inspect
import os
import sys
import threading
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# A developer's own settings are not what is tested. Before the first import of lighttrace.
for _variable in [name for name in os.environ if name.startswith(("LIGHTTRACE_", "OTEL_"))]:
    del os.environ[_variable]

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace

import lighttrace
from lighttrace import guard

_PLUGIN = "lighttrace.testing.plugin"
_REGISTERED = any(found.value == _PLUGIN for found in entry_points(group="pytest11"))

pytest_plugins = ["tests.servers"]
if not _REGISTERED and find_spec("lighttrace.testing") is not None:  # from a checkout that is not installed
    pytest_plugins.append(_PLUGIN)

THREADS_DEADLINE_S = 5.0


def pytest_configure() -> None:
    """The tests' own subject: the installed wheel where that was asked for."""
    here = Path(__file__).resolve().parent.parent / "lighttrace"
    if os.environ.get("REQUIRE_INSTALLED_WHEEL") == "1" and Path(lighttrace.__file__).resolve().parent == here:
        raise pytest.UsageError(f"the installed lighttrace was to be tested, and {here} was imported")


@pytest.fixture(autouse=True)
def contained(request: pytest.FixtureRequest) -> Iterator[list[tuple[str, str]]]:
    """What guard contained during the test, as (site, error). Unless the test is marked `contained`, none is expected."""
    seen: list[tuple[str, str]] = []
    expected = request.node.get_closest_marker("contained") is not None
    first: list[BaseException] = []

    def collect(site: str, error: BaseException) -> None:
        seen.append((site, f"{type(error).__name__}: {error}"))
        if not expected and not first:
            first.append(error)  # with its traceback; of an expected one nothing is kept alive

    before, guard.sink = guard.sink, collect
    try:
        yield seen
    finally:
        guard.sink = before
        for site in list(guard.sites.values()):  # one test's broken adapter must not be switched off in the next
            site.failures, site.enabled, site.last_error = 0, True, None
        guard._last_logged.clear()
    if first:
        sites = ", ".join(dict.fromkeys(site for site, _ in seen))
        raise AssertionError(f"{len(seen)} failures were contained, at {sites}; the first is above") from first[0]


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """No span stays current, no runtime stays switched on, no thread of ours goes on."""
    threads = set(threading.enumerate())
    runtime = _runtime()
    context = otel_context.get_current()
    _check_task_too(request.node)
    yield
    left = []
    span = trace.get_current_span()
    if span is not trace.get_current_span(context):
        left.append(f"a current span: {span!r}")
    if _runtime() is not runtime:
        left.append("tracing, still switched on: call lighttrace.shutdown()")
        lighttrace.shutdown()
    if otel_context.get_current() is not context:
        otel_context.attach(context)  # so that one test fails, and not all after it
    new = _threads_left(threads, allowed=1 if runtime is not None else 0)
    if new:
        left.append(f"threads: {', '.join(new)}")
    if left:
        pytest.fail("the test left behind " + "; ".join(left), pytrace=False)


def _runtime() -> Any:
    module = sys.modules.get("lighttrace.runtime")
    return module.active() if module is not None else None


def _threads_left(before: set[threading.Thread], allowed: int) -> list[str]:
    """Names of our threads that were started since and do not end in time. The worker may stay while tracing is on."""
    deadline = time.monotonic() + THREADS_DEADLINE_S
    while True:
        new = [
            thread for thread in threading.enumerate() if thread not in before and thread.name.lower().startswith("lighttrace")
        ]
        if len(new) <= allowed:
            return []
        if time.monotonic() > deadline:
            return [thread.name for thread in new]
        new[0].join(0.05)


def _check_task_too(item: Any) -> None:
    """A coroutine test runs in a context of its own, that only it can see: look at its end."""
    function = getattr(item, "obj", None)
    if not inspect.iscoroutinefunction(function):
        return

    @functools.wraps(function)
    async def checked(*args: Any, **kwargs: Any) -> Any:
        before = trace.get_current_span()
        result = await function(*args, **kwargs)
        after = trace.get_current_span()
        assert after is before, f"the test left behind a current span: {after!r}"
        return result

    item.obj = checked
