"""The tracer provider: OpenTelemetry's way to tracers, processors, flushing and shutting down, over our own pipeline."""

import sys
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import NoOpTracer
from opentelemetry.trace import TracerProvider as ApiTracerProvider

from lighttrace import guard
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.trace import Tracer as ApiTracer


class TracerProvider(ApiTracerProvider):
    """Behind `opentelemetry.trace.get_tracer_provider()` once `lighttrace.init()` has run.

    Takes what the SDK's provider takes: `add_span_processor` with any `SpanProcessor`, `force_flush`, `shutdown`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        flush: "Callable[[float], bool] | None" = None,
        shutdown: "Callable[[float | None], bool] | None" = None,
        enabled: bool = True,
    ) -> None:
        self.pipeline = pipeline
        self._flush = flush
        self._shutdown = shutdown
        self._enabled = enabled
        self._tracers: dict[Any, Tracer] = {}
        self._borrowed: list[Any] = []
        self._noop = NoOpTracer()
        self._site = guard.site("tracing.processors")

    @property  # type: ignore[misc]  # `__class__` is what isinstance asks after the type itself
    def __class__(self) -> Any:
        """The SDK's `TracerProvider` once the SDK is loaded, so that code which checks for it goes on to `add_span_processor`."""
        sdk = sys.modules.get("opentelemetry.sdk.trace")
        return getattr(sdk, "TracerProvider", None) or type(self)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: "Mapping[str, Any] | None" = None,
    ) -> "ApiTracer":
        """The tracer of that instrumentation scope; the same one for the same arguments."""
        if not self._enabled:
            return self._noop
        try:
            key = (
                instrumenting_module_name,
                instrumenting_library_version,
                schema_url,
                tuple(sorted(attributes.items())) if attributes else None,
            )
            tracer = self._tracers.get(key)
            if tracer is None:
                tracer = Tracer(
                    self.pipeline, instrumenting_module_name or "", instrumenting_library_version, schema_url, attributes
                )
                # setdefault, so that two threads asking at once get the same tracer.
                tracer = self._tracers.setdefault(key, tracer)
            return tracer
        except TypeError:  # attributes that cannot be hashed or compared
            return Tracer(self.pipeline, instrumenting_module_name or "", instrumenting_library_version, schema_url, attributes)

    def add_span_processor(self, span_processor: Any) -> None:
        """Tell `span_processor` of every span from now on, in the order of registration."""
        self.pipeline.add_processor(span_processor)

    def borrow_span_processor(self, span_processor: Any) -> None:
        """The same for a processor of somebody else's provider, who shuts it down: `shutdown` here leaves it alone."""
        self._borrowed.append(span_processor)
        self.pipeline.add_processor(span_processor)

    def take_over(self, before: "TracerProvider") -> None:
        """Have the tracers that an earlier provider of ours gave out make their spans here: programs keep tracers for good."""
        for key, tracer in before._tracers.items():
            tracer.move_to(self.pipeline)
            self._tracers.setdefault(key, tracer)

    @property
    def resource(self) -> Any:
        """The resource, as an object of opentelemetry-sdk."""
        return self.pipeline.sdk_resource()

    @property
    def sampler(self) -> Any:
        """The sampler in use."""
        return self.pipeline.sampler

    @property
    def id_generator(self) -> Any:
        """The program's own id generator, or None for ours."""
        return self.pipeline.id_generator

    @property
    def _active_span_processor(self) -> Any:
        """What instrumentations written for the SDK look into for the processors in place, and put theirs in front of."""
        return _ActiveProcessor(self)

    @property
    def _resource(self) -> Any:
        return self.pipeline.sdk_resource()

    @_resource.setter
    def _resource(self, resource: Any) -> None:
        self.pipeline.set_resource(resource.attributes)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export everything that has ended. False if that took longer than `timeout_millis`."""
        import time

        deadline = time.monotonic() + timeout_millis / 1000
        done = True
        for processor in self.pipeline.processors:
            try:
                left = max(0, int((deadline - time.monotonic()) * 1000))
                # A processor that gives nothing back (many are written so) has flushed.
                done = processor.force_flush(left) is not False and done
            except Exception as error:
                self._site.failed(error)
                done = False
        if self._flush is not None:
            done = self._flush(max(0.0, deadline - time.monotonic())) and done
        return done

    def shutdown(self, timeout: float | None = None) -> None:
        """Flush, stop the processors and the exporter. Spans made afterwards go nowhere, and are counted."""
        for processor in self.pipeline.processors:
            if any(processor is borrowed for borrowed in self._borrowed):
                continue
            try:
                processor.shutdown()
            except Exception as error:
                self._site.failed(error)
        if self._shutdown is not None:
            self._shutdown(timeout)


class _ActiveProcessor:
    """The SDK's `SynchronousMultiSpanProcessor`, as far as programs reach into it."""

    __slots__ = ("_provider",)

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    @property
    def _span_processors(self) -> tuple[Any, ...]:
        return self._provider.pipeline.processors

    @_span_processors.setter
    def _span_processors(self, processors: Any) -> None:
        self._provider.pipeline.processors = tuple(processors)

    def add_span_processor(self, span_processor: Any) -> None:
        self._provider.add_span_processor(span_processor)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._provider.force_flush(timeout_millis)
