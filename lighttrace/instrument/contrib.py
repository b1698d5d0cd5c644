"""OpenTelemetry's own instrumentations beside ours: whichever the program asked for by name traces the library alone.

A contrib instrumentation that is switched on makes our integration of that library step aside before it patches, and
switched off again, makes it come back. Its spans are ours all the same: it gets its tracer from our provider.
"""

from collections.abc import Iterator
from typing import Any

from lighttrace.instrument import imports
from lighttrace.instrument.call import disguise
from lighttrace.instrument.patching import Patch
from lighttrace.instrument.registry import foreign_instrumentation, registry

_PREFIX = "opentelemetry.instrumentation."
_ALSO = {"fastapi": ("starlette",)}  # a FastAPI application is a Starlette application, whose call ours patches too


def _integrations(module: str) -> Iterator[str]:
    """The names of our integrations for what that contrib module traces."""
    if module.startswith(_PREFIX):
        name = module[len(_PREFIX) :].partition(".")[0]
        yield name
        yield from _ALSO.get(name, ())


class _InstrumentPatch(Patch):
    """`BaseInstrumentor.instrument` and `uninstrument`."""

    def wrap(self, original: Any) -> Any:
        def wrapper(instrumentor: Any, *args: Any, **kwargs: Any) -> Any:
            names = list(_integrations(type(instrumentor).__module__)) if self.site.enabled else []
            for name in names:
                # Before: contrib must wrap the library's own functions, not ours.
                registry.yield_to(name, f"opentelemetry-instrumentation-{names[0]} traces it")
            try:
                return original(instrumentor, *args, **kwargs)
            finally:
                if not getattr(instrumentor, "is_instrumented_by_opentelemetry", False):
                    for name in names:
                        registry.resume(name)

        return disguise(wrapper, original)


class _InstrumentAppPatch(Patch):
    """`FlaskInstrumentor.instrument_app` and its kind: contrib on one application only, which is nearly always all there is."""

    def wrap(self, original: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if self.site.enabled:
                names = list(_integrations(self.module))
                for name in names:
                    registry.yield_to(name, f"opentelemetry-instrumentation-{names[0]} traces it")
            return original(*args, **kwargs)

        return disguise(wrapper, original)


_PATCHES: tuple[Patch, ...] = (
    _InstrumentPatch("opentelemetry.instrumentation.instrumentor:BaseInstrumentor.instrument"),
    _InstrumentPatch("opentelemetry.instrumentation.instrumentor:BaseInstrumentor.uninstrument"),
    _InstrumentAppPatch("opentelemetry.instrumentation.fastapi:FastAPIInstrumentor.instrument_app"),
    _InstrumentAppPatch("opentelemetry.instrumentation.flask:FlaskInstrumentor.instrument_app"),
    _InstrumentAppPatch("opentelemetry.instrumentation.starlette:StarletteInstrumentor.instrument_app"),
)
for _patch in _PATCHES:
    _patch.bind("opentelemetry.instrumentation")


def start() -> None:
    """Step aside for what is switched on from now on; what is already, `registry` sees by itself."""
    for name, others in _ALSO.items():
        reason = foreign_instrumentation(name)
        if reason is not None:
            for other in others:
                registry.yield_to(other, reason)
    for patch in _PATCHES:
        imports.when_imported(patch.module, _hook_of(patch))


def stop() -> None:
    """Undo `start`."""
    registry.yielded.clear()
    for patch in _PATCHES:
        imports.forget(patch.module, _hook_of(patch))
        patch.undo()


_hooks: dict[str, Any] = {}


def _hook_of(patch: Patch) -> Any:
    return _hooks.setdefault(patch.target, lambda module: patch.apply())
