"""Programs that set opentelemetry-sdk up by themselves, unchanged and on our pipeline.

Such a program makes a `TracerProvider`, gives it processors, a sampler and a resource, and makes it the global one. That
provider is *adopted*: it stays the program's and stays global, but its tracers hand out our spans, its processors see
every span of the process, and what it was told (sampler, id generator, resource, limits) holds for all of them. Undone,
it is the stock SDK again.

The SDK is patched at its public methods, and only once the program has imported it.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import trace as api

from lighttrace import guard, semconv
from lighttrace.instrument import imports
from lighttrace.instrument.call import disguise
from lighttrace.instrument.engine import state
from lighttrace.instrument.patching import Patch
from lighttrace.tracing import manual
from lighttrace.tracing.limits import Limits
from lighttrace.tracing.owner import owner
from lighttrace.tracing.provider import TracerProvider

SDK = "opentelemetry.sdk.trace"
_site = guard.site("otel.adopt")


class _Adoption:
    """Our provider, the configuration behind it, and the program's provider once there is one."""

    __slots__ = ("config", "ours", "theirs")

    def __init__(self) -> None:
        self.ours: TracerProvider | None = None
        self.config: Any = None
        self.theirs: Any = None


_adoption = _Adoption()


class _MethodPatch(Patch):
    """`replace(original, self, ...)` in the place of a method, function or static method of OpenTelemetry's."""

    def __init__(self, target: str, replace: Callable[..., Any]) -> None:
        super().__init__(target)
        self.replace = replace

    def wrap(self, original: Any) -> Any:
        replace, site = self.replace, self.site

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if not site.enabled or _adoption.ours is None:
                return original(*args, **kwargs)
            return replace(original, *args, **kwargs)

        return disguise(wrapper, original)

    def hook(self, module: Any) -> None:
        self.apply()


def _get_tracer(original: Any, provider: Any, *args: Any, **kwargs: Any) -> Any:
    ours = _adoption.ours
    if ours is None or provider is not _adoption.theirs:
        return original(provider, *args, **kwargs)
    return ours.get_tracer(*args, **kwargs)


def _start_span(original: Any, tracer: Any, *args: Any, **kwargs: Any) -> Any:
    """A tracer that the program got before its provider was adopted: known by the processors that it shares with it."""
    ours, theirs = _adoption.ours, _adoption.theirs
    if ours is None or theirs is None or tracer.span_processor is not theirs._active_span_processor:
        return original(tracer, *args, **kwargs)
    scope = tracer._instrumentation_scope
    return ours.get_tracer(scope.name, scope.version, scope.schema_url, scope.attributes).start_span(*args, **kwargs)


def _add_span_processor(original: Any, provider: Any, *args: Any, **kwargs: Any) -> Any:
    result = original(provider, *args, **kwargs)
    if provider is _adoption.theirs:
        # Theirs knows it too: a later shutdown() or force_flush() of their provider is about all of their processors.
        guard.call(_site, _borrow_processors, provider)
    return result


def _force_flush(original: Any, provider: Any, timeout_millis: int = 30_000) -> Any:
    ours = _adoption.ours
    if ours is None or provider is not _adoption.theirs:
        return original(provider, timeout_millis)
    return ours.force_flush(timeout_millis)


def _set_tracer_provider(original: Any, tracer_provider: Any, *args: Any, **kwargs: Any) -> Any:
    """The program's own provider, set while ours is the global one, is adopted instead of refused."""
    if api._TRACER_PROVIDER is not _adoption.ours or not _is_sdk(tracer_provider):
        return original(tracer_provider, *args, **kwargs)
    adopt(tracer_provider)
    return None


# `_set_tracer_provider` is private (read in opentelemetry-api 1.27 to 1.45): the public function before it is imported
# by name into programs and frameworks, and all of them come through here.
_ALWAYS = (_MethodPatch("opentelemetry.trace:_set_tracer_provider", _set_tracer_provider),)
_WITH_SDK = (
    _MethodPatch(f"{SDK}:TracerProvider.get_tracer", _get_tracer),
    _MethodPatch(f"{SDK}:TracerProvider.add_span_processor", _add_span_processor),
    _MethodPatch(f"{SDK}:TracerProvider.force_flush", _force_flush),
    _MethodPatch(f"{SDK}:Tracer.start_span", _start_span),
)
for _patch in (*_ALWAYS, *_WITH_SDK):
    _patch.bind("opentelemetry")


def start(ours: TracerProvider, config: Any) -> None:
    """Make ours the program's tracer provider. One of opentelemetry-sdk's that is there already is adopted."""
    _adoption.ours, _adoption.config = ours, config
    manual.use(ours)
    for patch in (*_ALWAYS, *_WITH_SDK):
        imports.when_imported(patch.module, patch.hook)
    before = api._TRACER_PROVIDER
    if before is None:
        api.set_tracer_provider(ours)
    elif _is_sdk(before):
        adopt(before)
    else:
        # Nothing public replaces a provider. Spans that the program makes through the one it had are its own affair.
        guard.log(
            "otel.foreign_provider",
            f"{type(before).__module__}.{type(before).__qualname__} was the tracer provider; it is replaced",
        )
        api._TRACER_PROVIDER = ours


def stop() -> None:
    """Undo `start`: the program's own provider, if it has one, works by itself again."""
    ours, theirs = _adoption.ours, _adoption.theirs
    _adoption.ours = _adoption.theirs = _adoption.config = None
    _left_out.clear()
    manual.use(None)
    for patch in reversed((*_ALWAYS, *_WITH_SDK)):
        imports.forget(patch.module, patch.hook)
        patch.undo()
    if theirs is None and ours is not None and api._TRACER_PROVIDER is ours:
        # So that a later init() is heard; spans made meanwhile go to OpenTelemetry's no-op tracer.
        api._TRACER_PROVIDER = None
        api._TRACER_PROVIDER_SET_ONCE = type(api._TRACER_PROVIDER_SET_ONCE)()


def adopt(theirs: Any) -> None:
    """Let the program's provider run on our pipeline, and make it the global one."""
    ours = _adoption.ours
    if ours is None:
        return
    _adoption.theirs = theirs
    api._TRACER_PROVIDER = theirs
    for step in (_borrow_processors, _take_sampler, _take_ids, _take_limits):
        guard.call(_site, step, theirs)
    guard.call(_site, lambda: ours.pipeline.set_resource(with_program_resource(ours.pipeline.resource)))


def with_program_resource(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Resource attributes, with those that the program gave its own provider.

    What LightTrace was told itself goes first; what it only guessed does not.
    """
    merged = dict(resource)
    theirs = _adoption.theirs
    if theirs is None:
        return merged
    for key, value in theirs.resource.attributes.items():
        if key == semconv.SERVICE_INSTANCE_ID or key.startswith("telemetry."):
            continue
        if key == semconv.SERVICE_NAME and (_told("service") or str(value).startswith("unknown_service")):
            continue
        if key in (semconv.TEAM, semconv.SERVICE_OWNER_NAME) and _told("team"):
            continue
        merged[key] = value
    if not _told("team") and (semconv.TEAM in merged or semconv.SERVICE_OWNER_NAME in merged):
        team = str(merged.get(semconv.TEAM) or merged[semconv.SERVICE_OWNER_NAME])
        merged.setdefault(semconv.TEAM, team)
        if _adoption.ours is not None:
            _adoption.ours.pipeline.default_owner = owner(team, "service")
    state.service = str(merged.get(semconv.SERVICE_NAME, state.service))
    state.caller.clear()
    return merged


def _told(field: str) -> bool:
    """Whether LightTrace's own configuration decides that field: not a default, nor a variable that the SDK reads too."""
    source = getattr(_adoption.config, "sources", {}).get(field, "default")
    return source != "default" and not source.startswith("OTEL_")


def _is_sdk(provider: Any) -> bool:
    """Whether it really is a provider of opentelemetry-sdk, or of a class made from it; ours only says so."""
    module = sys.modules.get(SDK)
    return module is not None and issubclass(type(provider), module.TracerProvider)


def _borrow_processors(theirs: Any) -> None:
    ours = _adoption.ours
    if ours is None:
        return
    several = theirs._active_span_processor
    for processor in getattr(several, "_span_processors", (several,)):
        if any(processor is known for known in (*ours.pipeline.processors, *_left_out)):
            continue
        if _exports_the_same(processor):
            _left_out.append(processor)
            guard.count("otel.second_exporter_left_out")
            guard.log(
                "otel.second_exporter",
                "the program's own OTLP exporter has the same destination as LightTrace's: spans are sent once, by LightTrace",
                level="info",
            )
            continue
        ours.borrow_span_processor(processor)


_left_out: list[Any] = []


def _exports_the_same(processor: Any) -> bool:
    """Whether a processor would send every span a second time to where we send it: a stock OTLP exporter, same host."""
    config = _adoption.config
    exporter = getattr(processor, "span_exporter", None)
    if exporter is None or "otlp" not in getattr(config, "exporters", ()):
        return False
    if not type(exporter).__module__.startswith("opentelemetry.exporter.otlp."):
        return False
    # Private (read in 1.27 to 1.45), and not the same in all versions: where it cannot be told, the exporter is kept, because
    # sending twice is better than not at all.
    headers = getattr(exporter, "_headers", None) or getattr(getattr(exporter, "_client", None), "_headers", None)
    if headers is None and not hasattr(exporter, "_headers"):
        return False
    have = {str(key).lower(): value for key, value in config.otlp.headers.items()}
    for key, value in headers.items() if isinstance(headers, Mapping) else headers or ():
        if key.lower() not in _OF_THE_FORMAT and have.get(key.lower()) != value:
            return False  # it can do what ours cannot: it may have a token
    return _place(str(exporter._endpoint)) == _place(config.otlp.endpoint)


_OF_THE_FORMAT = ("user-agent", "content-type", "content-encoding")


def _place(endpoint: str) -> tuple[str | None, int | None, str]:

    from urllib.parse import urlsplit

    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    host = "localhost" if parts.hostname in ("127.0.0.1", "::1") else parts.hostname
    # A collector's two ports, gRPC and HTTP, are one place.
    return host, 4318 if parts.port == 4317 else parts.port, parts.path.removesuffix("/v1/traces").rstrip("/")


def _take_sampler(theirs: Any) -> None:
    from opentelemetry.sdk.trace import sampling

    sampler = theirs.sampler
    # The SDK reads OTEL_TRACES_SAMPLER too. A sampler that says no more than that variable leaves ours in place.
    usual = getattr(sampling, "_get_from_env_or_default", lambda: sampling.DEFAULT_ON)()
    if _adoption.ours is not None and (type(sampler) is not type(usual) or sampler.get_description() != usual.get_description()):
        _adoption.ours.pipeline.set_sampler(sampler)


def _take_ids(theirs: Any) -> None:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    if _adoption.ours is not None and type(theirs.id_generator) is not RandomIdGenerator:
        _adoption.ours.pipeline.id_generator = theirs.id_generator


def _take_limits(theirs: Any) -> None:
    from opentelemetry.sdk.trace import SpanLimits

    given = theirs._span_limits
    if _adoption.ours is None or vars(given) == vars(SpanLimits()):
        return

    def most(value: int | None) -> int:
        return sys.maxsize if value is None else value

    _adoption.ours.pipeline.limits = Limits(
        most(given.max_span_attributes),
        given.max_span_attribute_length,
        most(given.max_events),
        most(given.max_links),
        most(given.max_event_attributes),
        most(given.max_link_attributes),
    )
