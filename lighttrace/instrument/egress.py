"""Our baggage where the program sends and receives it by itself: OpenTelemetry's `inject` and `extract`, by hand or by contrib.

There no host is given. What is known is the span that the call is made under: where that is a client span which names
its host, and the host is one of ours, our members go along, rewritten for this hop. Everywhere else they stay here, and
only what the program put into its baggage itself leaves. Patched when the program imports OpenTelemetry's propagators.
"""

from collections.abc import Callable
from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.trace import SpanKind

from lighttrace import semconv
from lighttrace.instrument import imports, propagate
from lighttrace.instrument.call import disguise
from lighttrace.instrument.hosts import host_of, is_internal, split_authority
from lighttrace.instrument.patching import Patch
from lighttrace.propagation import baggage
from lighttrace.tracing.context import SPAN_KEY, now
from lighttrace.tracing.span import Span

_OUTGOING = (SpanKind.CLIENT, SpanKind.PRODUCER)
_URLS = (semconv.URL_FULL, *semconv.OLD_NAMES[semconv.URL_FULL])
_HOSTS = (semconv.SERVER_ADDRESS, semconv.OLD_NAMES[semconv.SERVER_ADDRESS][0])


def leaves_for_one_of_us(context: Context) -> bool:
    """Whether the current span is a call of a host that may read our baggage. Every host that it names must be one."""
    span = context.get(SPAN_KEY)
    if type(span) is not Span or span._kind not in _OUTGOING or span._end:
        return False
    attributes = span._attributes
    told = [host_of(url).internal for key in _URLS if isinstance(url := attributes.get(key), str)]
    told += [is_internal(split_authority(name, 0)[0]) for key in _HOSTS if isinstance(name := attributes.get(key), str)]
    return bool(told) and all(told)


def outgoing(context: Context | None) -> Context:
    """The context to inject in the place of `context`."""
    if context is None:
        context = now()
    members = baggage.get_all(context)
    if context.get(baggage.ALLOWED_KEY) or baggage.foreign(members) is members:
        return context  # nothing of ours is on its way, and nothing is added: what is sent is what the program wrote
    if leaves_for_one_of_us(context):
        span: Any = context[SPAN_KEY]
        return propagate.for_propagator(context, span._owner.team, internal=True)
    return baggage.without_ours(context)


class _Patch(Patch):
    def __init__(self, target: str, replace: Callable[..., Any]) -> None:
        super().__init__(target)
        self.replace = replace

    def wrap(self, original: Any) -> Any:
        replace, site = self.replace, self.site

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return replace(site, original, *args, **kwargs) if site.enabled else original(*args, **kwargs)

        return disguise(wrapper, original)

    def hook(self, module: Any) -> None:
        self.apply()


def _inject(site: Any, original: Any, carrier: Any, context: Any = None, *args: Any, **kwargs: Any) -> Any:
    try:
        context = outgoing(context)
    except Exception as error:
        site.failed(error)
    return original(carrier, context, *args, **kwargs)


def _inject_method(site: Any, original: Any, self: Any, carrier: Any, context: Any = None, *args: Any, **kwargs: Any) -> Any:
    try:
        context = outgoing(context)
    except Exception as error:
        site.failed(error)
    return original(self, carrier, context, *args, **kwargs)


def _extract(site: Any, original: Any, *args: Any, **kwargs: Any) -> Any:
    made = original(*args, **kwargs)
    try:
        return propagate.believed(made)
    except Exception as error:
        site.failed(error)
        return made


_PATCHES = (
    _Patch("opentelemetry.propagate:inject", _inject),
    _Patch("opentelemetry.propagate:extract", _extract),
    # Also by itself, and inside a composite that the program made: the one propagator that everybody has.
    _Patch("opentelemetry.baggage.propagation:W3CBaggagePropagator.inject", _inject_method),
)
for _patch in _PATCHES:
    _patch.bind("opentelemetry")

_started = False


def start() -> bool:
    """Watch over baggage from now on; False if that is done already."""
    global _started
    if _started:
        return False
    _started = True
    for patch in _PATCHES:
        imports.when_imported(patch.module, patch.hook)
    return True


def stop() -> None:
    """Undo `start`."""
    global _started
    _started = False
    for patch in reversed(_PATCHES):
        imports.forget(patch.module, patch.hook)
        patch.undo()
