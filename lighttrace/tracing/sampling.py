"""The samplers that `OTEL_TRACES_SAMPLER` names, decided once per local root; any other sampler is asked per span.

All of them come down to a bound on the lower 64 bits of the trace id (OpenTelemetry specification,
`TraceIdRatioBased`) and whether a parent's decision goes first, so a local child never needs a decision of its own:
it would be the same.
"""

from typing import Any

from lighttrace import guard

LOW_BITS = (1 << 64) - 1
"""Of a trace id: those that decide (OpenTelemetry specification, `TraceIdRatioBased`)."""
ALL = 1 << 64


class NativeSampler:
    """`always_on`, `always_off`, `traceidratio`, and each of them below `parentbased_`."""

    __slots__ = ("bound", "name", "parent_based")

    def __init__(self, name: str, bound: int, parent_based: bool) -> None:
        self.name = name
        self.bound = bound
        self.parent_based = parent_based

    def samples(self, trace_id: int, parent_flags: int | None) -> bool:
        """Whether a local root is recorded; `parent_flags` are those of its parent in another process, or None."""
        if parent_flags is not None and self.parent_based:
            return parent_flags & 1 == 1
        return (trace_id & LOW_BITS) < self.bound

    def __repr__(self) -> str:
        return self.name


def named(name: str, argument: str | None = None) -> Any:
    """The sampler that `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` ask for, entry points included.

    What cannot be had is told in one log line, and everything is recorded: a wrong setting must not lose a trace.

    >>> named("traceidratio", "0.25").bound == 2 ** 62
    True
    """
    wanted = name.strip().lower()
    parent_based = wanted.startswith("parentbased_")
    base = wanted.removeprefix("parentbased_")
    if base == "always_on":
        return NativeSampler(wanted, ALL, parent_based)
    if base == "always_off":
        return NativeSampler(wanted, 0, parent_based)
    if base == "traceidratio":
        try:
            ratio = float(argument) if argument not in (None, "") else 1.0
            if not 0.0 <= ratio <= 1.0:
                raise ValueError(argument)
        except ValueError:
            guard.log("sampler", f"OTEL_TRACES_SAMPLER_ARG={argument!r} is not a number from 0 to 1; recording every trace")
            ratio = 1.0
        return NativeSampler(wanted, round(ratio * ALL), parent_based)
    try:
        from importlib.metadata import entry_points

        for entry in entry_points(group="opentelemetry_traces_sampler", name=name.strip()):
            return entry.load()(argument)
    except Exception as error:
        guard.log("sampler", f"the sampler {name!r} could not be loaded ({error}); recording every trace")
    else:
        guard.log("sampler", f"OTEL_TRACES_SAMPLER={name!r} is not known; recording every trace")
    return NativeSampler("parentbased_always_on", ALL, True)


def native(sampler: Any) -> Any:
    """Our own form of one of the SDK's built-in samplers, which decide the same; any other object as it is."""
    describe = getattr(sampler, "get_description", None)
    if describe is None or type(sampler).__module__ != "opentelemetry.sdk.trace.sampling":
        return sampler
    text = describe()
    if text == "AlwaysOnSampler":
        return NativeSampler("always_on", ALL, False)
    if text == "AlwaysOffSampler":
        return NativeSampler("always_off", 0, False)
    if text.startswith("TraceIdRatioBased{"):
        return NativeSampler("traceidratio", sampler.bound, False)
    usual = (
        ",remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler"
        ",localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}"
    )
    if text.startswith("ParentBased{root:") and text.endswith(usual):
        root = native(sampler._root)
        if isinstance(root, NativeSampler) and not root.parent_based:
            return NativeSampler("parentbased_" + root.name, root.bound, True)
    return sampler
