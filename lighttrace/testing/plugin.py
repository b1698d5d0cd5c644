"""The pytest plugin: the fixture `spans`, and the list of the gaps that integrations declare."""

from collections.abc import Iterator
from typing import Any

import pytest

from lighttrace.testing.capture import Capture, capture
from lighttrace.testing.gaps import declared


@pytest.fixture
def spans() -> Iterator[Capture]:
    """The spans of this test, from a provider of its own: see `lighttrace.testing.capture`.

        def test_checkout_is_traced(spans):
            shop.checkout("A-1")
            spans.expect(name="reserve stock", team="fraud")

    At the end it fails the test if a span is still open, or a context was left behind.
    """
    with capture() as captured:
        yield captured


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand a worker's list of gaps to the process that reports."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["lighttrace_gaps"] = sorted(declared.items())


class _Workers:
    """Hears of pytest-xdist's workers, where that is installed."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        declared.update(getattr(node, "workeroutput", {}).get("lighttrace_gaps", ()))


def pytest_configure(config: pytest.Config) -> None:
    """Listen to workers."""
    config.pluginmanager.register(_Workers(), "lighttrace-workers")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what integrations say they cannot do, and why."""
    if declared:
        terminalreporter.section("declared gaps of integrations", sep="-")
        for test, reason in sorted(declared.items()):
            terminalreporter.write_line(f"{test}: {reason}")
