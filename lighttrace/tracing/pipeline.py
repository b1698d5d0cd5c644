"""What all tracers of one provider share: the limits, the sampler, who is told of a span, and where it goes when it ends."""

from time import time_ns
from typing import TYPE_CHECKING, Any

from lighttrace import guard
from lighttrace.tracing.limits import Limits
from lighttrace.tracing.owner import NOBODY, Owner
from lighttrace.tracing.sampling import ALL, NativeSampler, named, native
from lighttrace.tracing.shared import MIXED
from lighttrace.tracing.values import SCALARS, exportable, is_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lighttrace.tracing.span import Span


_DECIDING = frozenset({"native", "id_generator", "processors", "rules"})


def forget(span: "Span") -> None:
    """The end of the line for spans that nobody wants exported."""


class Pipeline:
    """Shared by every tracer of a provider, and changed only when the program sets itself up."""

    # Slots, because spans read them: the interpreter finds a slot by its place, and what is in a dict by its name.
    __slots__ = (
        "_sdk_resource",
        "_site",
        "default_owner",
        "direct",
        "foreign_sampler",
        "id_generator",
        "keeps_below",
        "keeps_roots",
        "limits",
        "native",
        "processors",
        "put",
        "queue",
        "resolver",
        "resource",
        "rules",
        "tell_exception",
    )

    direct: bool  # nobody needs to be asked when a span starts below another
    keeps_roots: bool  # nor when a trace begins
    queue: Any  # where spans go straight: what `put` is a method of, if that is a queue and nobody is told before it; else None
    keeps_below: int | None  # nor then, but only traces are kept whose ids, as far as they decide, are below that

    def __init__(
        self,
        resource: "Mapping[str, Any] | None" = None,
        sampler: Any = None,
        limits: Limits | None = None,
        put: "Callable[[Span], Any]" = forget,
        default_owner: Owner = NOBODY,
        resolver: Any = None,
        id_generator: Any = None,
    ) -> None:
        self.native: NativeSampler | None = None
        self.rules = None
        self.id_generator = id_generator
        self.processors: tuple[Any, ...] = ()
        self.resource: dict[str, Any] = dict(resource or {})
        self.limits = limits or Limits()
        self.put = put
        self.default_owner = default_owner
        self.resolver = resolver  # lighttrace.ownership.Resolver, or None
        self.rules = resolver if resolver is not None and resolver.has_rules else None
        self.foreign_sampler: Any = None
        self.set_sampler(sampler if sampler is not None else named("parentbased_always_on"))
        # Is told of each exception that LightTrace records, and says whether it need not stand on the span.
        self.tell_exception: Callable[[Span, Mapping[str, Any]], bool] | None = None
        self._sdk_resource: Any = None
        self._site = guard.site("tracing.processors")

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name in ("put", "processors"):
            owner = getattr(getattr(self, "put", None), "__self__", None)
            self.queue = owner if hasattr(owner, "attend") and not self.processors else None
        if name in _DECIDING and hasattr(self, "processors"):  # else it is being made, and they are to come
            native = self.native
            self.direct = native is not None and self.id_generator is None and not self.processors and self.rules is None
            self.keeps_roots = native is not None and self.direct and native.bound >= ALL
            self.keeps_below = native.bound if native is not None and self.direct and native.bound < ALL else None

    def set_sampler(self, sampler: Any) -> None:
        """Use that sampler from now on."""
        sampler = native(sampler)
        self.native = sampler if isinstance(sampler, NativeSampler) else None
        self.foreign_sampler = None if self.native is not None else sampler

    @property
    def sampler(self) -> Any:
        """The sampler in use."""
        return self.native or self.foreign_sampler

    def add_processor(self, processor: Any) -> None:
        """Tell `processor` (a `SpanProcessor` of opentelemetry-sdk) of every span from now on."""
        self.processors = (*self.processors, processor)

    def started(self, span: "Span", context: Any) -> None:
        """Tell the processors that a span has started."""
        for processor in self.processors:
            try:
                processor.on_start(span, parent_context=context)
            except Exception as error:
                self._site.failed(error)

    def ending(self, span: "Span", end_time: int | None) -> None:
        """End a span that does not go straight into a queue: before the eyes of third-party processors, where there are any."""
        processors = self.processors
        if processors:
            self._tell_ending(span)
        now = time_ns() if end_time is None else end_time
        start = span._start
        span._end = now if now > start else (start or 1)
        if processors:
            self._tell_ended(span)
        self.put(span)

    def _tell_ending(self, span: "Span") -> None:
        for processor in self.processors:
            hook = getattr(processor, "_on_ending", None)
            if hook is not None:
                try:
                    hook(span)
                except Exception as error:
                    self._site.failed(error)

    def _tell_ended(self, span: "Span") -> None:
        for processor in self.processors:
            try:
                processor.on_end(span)
            except Exception as error:
                self._site.failed(error)
        self._settle(span)

    def _settle(self, span: "Span") -> None:
        """Make sure that the exporter can read what processors wrote into the span behind its back, as many do."""
        attributes = span._attributes
        if not is_plain(attributes.values()):
            span._shared = MIXED
            for key, value in attributes.items():
                if type(value) not in SCALARS:
                    attributes[key] = exportable(value, self.limits.attribute_length)
        if type(span._status) is not int:
            status: Any = span._status
            span._status = status.status_code.value
            if status.description is not None:
                span.rare().message = status.description

    def record_only(self) -> "Pipeline":
        """The same for spans that are recorded for processors and not sampled: nothing is exported."""
        return _RecordOnly(self)

    def set_resource(self, resource: "Mapping[str, Any]") -> None:
        """Replace the resource attributes of every span to come."""
        self.resource = dict(resource)
        self._sdk_resource = None

    def sdk_resource(self) -> Any:
        """The resource as an object of opentelemetry-sdk, for processors written for it."""
        made = self._sdk_resource
        if made is None:
            from opentelemetry.sdk.resources import Resource

            made = self._sdk_resource = Resource(self.resource)
        return made


class _RecordOnly(Pipeline):
    """A pipeline's twin whose spans end in nothing. A resource, a limit or a processor that one is given holds for both."""

    __slots__ = ("_whole",)

    def __init__(self, whole: Pipeline) -> None:
        object.__setattr__(self, "_whole", whole)
        object.__setattr__(self, "put", forget)
        object.__setattr__(self, "queue", None)

    def __getattr__(self, name: str) -> Any:  # its own slots are empty
        return getattr(self._whole, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("put", "queue"):
            raise TypeError("spans that are not sampled are never exported")
        setattr(self._whole, name, value)
