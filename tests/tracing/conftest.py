"""A provider of each test's own, whose ended spans are in a list."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace

from lighttrace.tracing import manual
from lighttrace.tracing.limits import Limits
from lighttrace.tracing.owner import NOBODY, Owner
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider
from lighttrace.tracing.span import Span
from lighttrace.tracing.tracer import Tracer


class Tracing:
    """A pipeline that ends in `spans`, its provider and a tracer."""

    def __init__(self, sampler: Any = None, limits: Limits | None = None, owner: Owner = NOBODY, **options: Any) -> None:
        self.spans: list[Span] = []
        self.pipeline = Pipeline({"service.name": "tests"}, sampler, limits, self.spans.append, owner, **options)
        self.provider = TracerProvider(self.pipeline)
        self.tracer: Tracer = self.provider.get_tracer("tests", "1.0")  # type: ignore[assignment]  # ours, since it is enabled

    def take(self) -> Span:
        """The one span that has ended."""
        (span,) = self.spans
        self.spans.clear()
        return span

    def named(self, name: str) -> Span:
        """The one span of that name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    """Tracing with the defaults, behind `lighttrace.span` and OpenTelemetry's global functions."""
    made = Tracing()
    before = trace._TRACER_PROVIDER
    trace._TRACER_PROVIDER = made.provider
    manual.use(made.provider)
    yield made
    manual.use(None)
    trace._TRACER_PROVIDER = before
