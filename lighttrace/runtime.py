"""Putting the house together: what `lighttrace.init()` does, and how it is all taken down again.

Here alone the pieces meet: configuration, ownership, the pipeline, the queue, the provider and the integrations.
"""

import atexit
import os
import sys
import time
from typing import Any

from lighttrace import exits, forks, guard

_active: "Runtime | None" = None
_last: Any = None  # the provider of the runtime before, whose tracers programs still hold
_generation = 0


class Runtime:
    """Tracing, switched on."""

    def __init__(self, config: Any) -> None:
        from lighttrace import export
        from lighttrace.ownership import Resolver
        from lighttrace.tracing.limits import Limits
        from lighttrace.tracing.owner import owner
        from lighttrace.tracing.pipeline import Pipeline
        from lighttrace.tracing.provider import TracerProvider
        from lighttrace.tracing.sampling import named

        self.config = config
        self.resolver = Resolver(config)
        self.queue = export.build(config)
        self.keeper: Any = None
        put = self.queue.put
        if config.keep or config.keep_ratio < 1:  # else everything is kept, and nobody has to decide
            from lighttrace.tracing import keeping

            self.keeper = keeping.build(config, put)
            put = self.keeper.put
        team = config.team or self.resolver.default_team
        self.pipeline = Pipeline(
            resource=self._resource(team),
            sampler=named(config.sampler, config.sampler_arg) if isinstance(config.sampler, str) else config.sampler,
            limits=Limits(
                config.attribute_count_limit,
                config.attribute_length_limit,
                config.event_count_limit,
                config.link_count_limit,
                config.event_attribute_count_limit,
                config.link_attribute_count_limit,
            ),
            put=put,
            default_owner=owner(team, "service"),
            resolver=self.resolver,
        )
        self.provider = TracerProvider(self.pipeline, flush=self.queue.flush, shutdown=self._stop)
        self.team = team

    def _resource(self, team: str | None) -> dict[str, Any]:
        from lighttrace import semconv

        # One id per worker process, not per master: it is made anew in every child.
        resource = {**self.config.resource, semconv.SERVICE_INSTANCE_ID: _uuid()}
        if team is not None:
            resource[semconv.TEAM] = team
            resource.setdefault(semconv.SERVICE_OWNER_NAME, team)
            contact, url = self.resolver.contact(team)
            if contact:
                resource.setdefault(semconv.SERVICE_OWNER_CONTACT, contact)
            if url:
                resource.setdefault(semconv.SERVICE_OWNER_URL, url)
        contacts = self.resolver.contacts()
        if contacts:
            resource.setdefault(semconv.TEAM_CONTACTS, contacts)
        return resource

    def start(self) -> None:
        """Become the program's tracer provider, set the engine's state and patch."""
        from lighttrace.instrument import contrib, engine, otel, propagate
        from lighttrace.instrument.imports import when_imported
        from lighttrace.instrument.registry import registry
        from lighttrace.integrations import TRIGGERS
        from lighttrace.logs import wiring
        from lighttrace.propagation import composite

        config = self.config
        propagate.use(composite(config.propagators), fast=set(config.propagators) == {"tracecontext", "baggage"})
        when_imported("gevent.monkey", forks.watch_gevent)
        when_imported("eventlet", forks.watch_eventlet, around=forks.MakeWay)
        # When somebody imports the module that holds the global propagator: importing it costs 20 ms.
        when_imported("opentelemetry.propagate", propagate.watch)
        engine.configure(config, self.provider, self.resolver)
        otel.start(self.provider, config)
        contrib.start()
        for module in _WRITERS_OF_BAGGAGE:
            when_imported(module, _watch_baggage)
        registry.enable(TRIGGERS, config.integrations_disabled)
        wiring.start(config, self.pipeline)

    def in_child(self) -> None:
        """A forked child is another instance of the service."""
        from lighttrace.instrument.otel import with_program_resource
        from lighttrace.logs import wiring

        wiring.in_child()
        if self.keeper is not None:
            self.keeper.in_child()
        self.pipeline.set_resource(with_program_resource(self._resource(self.team)))
        exits.in_child(self.pipeline)

    def stats(self) -> dict[str, Any]:
        """Spans exported, dropped by reason (not kept among them) and queued or waiting: together, all that have ended."""
        return self.queue.stats() if self.keeper is None else dict(self.keeper.books(self.queue.stats))

    def busy(self) -> bool:
        """Whether a process that ended now would lose a span."""
        from lighttrace.tracing.context import read_current, span_of

        span = span_of(read_current())
        return bool(self.stats()["queued"] or (span is not None and span.is_recording()))

    def leave(self, timeout: float | None) -> None:
        """The process is about to end: send what there is. What others flush and stop is theirs, as without us."""
        exits.end_open(self.pipeline)
        self._stop(timeout)

    def _stop(self, timeout: float | None) -> bool:
        timeout = self.config.exit_timeout_s if timeout is None else timeout
        if self.keeper is None:
            return self.queue.shutdown(timeout)
        self.keeper.close()
        done = self.queue.shutdown(timeout)
        if self.keeper.dropped:
            from lighttrace.export import report

            guard.call(guard.site("export.report"), report.write, self.config.service, self.stats())
        return done


_WRITERS_OF_BAGGAGE = ("opentelemetry.propagate", "opentelemetry.baggage.propagation")


def _watch_baggage(module: Any) -> None:
    """The program may write headers by itself from now on; what of ours leaves in them is `egress`'s affair."""
    from lighttrace.instrument import egress

    egress.start()


def _uuid() -> str:
    """A random UUID (version 4), without importing uuid, which asks for the platform."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def init(service: str | None = None, team: str | None = None, **options: Any) -> None:
    """See `lighttrace.init`."""
    global _active, _generation, _last
    if _active is not None:
        guard.count("init.again")
        return
    from lighttrace.config import load

    config = load(service=service, team=team, **options)
    for warning in config.warnings:
        guard.log(f"config.{warning}", warning)
    if not config.enabled:
        return
    runtime = Runtime(config)
    if _last is not None:
        runtime.provider.take_over(_last)
    runtime.start()
    if forks.watch_uwsgi():
        from lighttrace.export import preload

        preload(config)
    exits.watch(runtime.leave, runtime.busy)
    _active, _last = runtime, runtime.provider
    if not _generation:
        atexit.register(_at_exit)
        forks.after_in_child(_in_child)
    _generation += 1


def _at_exit() -> None:
    if _active is not None:
        guard.call(guard.site("exits.leave"), exits.end_open, _active.pipeline)
    shutdown()
    exits.keep_interrupt()


def _in_child() -> None:
    if _active is not None:
        try:
            _active.in_child()
        except Exception as error:
            guard.site("runtime.fork").failed(error)


def active() -> Runtime | None:
    """What is switched on, or None."""
    return _active


def flush(timeout: float = 5.0) -> bool:
    """See `lighttrace.flush`."""
    if _active is None:
        return True
    from lighttrace.logs import wiring

    deadline = time.monotonic() + timeout
    wait = wiring.flush()
    done = _active.provider.force_flush(int(timeout * 1000))
    return wait(max(0.0, deadline - time.monotonic())) and done


def shutdown(timeout: float | None = None) -> None:
    """See `lighttrace.shutdown`."""
    global _active
    runtime, _active = _active, None
    if runtime is None:
        return
    try:
        from lighttrace.instrument import contrib, imports, otel
        from lighttrace.instrument.engine import state
        from lighttrace.instrument.registry import registry
        from lighttrace.logs import wiring

        deadline = time.monotonic() + (runtime.config.exit_timeout_s if timeout is None else timeout)
        runtime.pipeline.tell_exception = None
        wait = wiring.stop()
        registry.disable()
        for module in _WRITERS_OF_BAGGAGE:
            imports.forget(module, _watch_baggage)
        egress = sys.modules.get("lighttrace.instrument.egress")
        if egress is not None:
            egress.stop()
        contrib.stop()
        otel.stop()
        state.provider = None
        state.resolver = None
        runtime.provider.shutdown(timeout)
        wait(max(0.1, deadline - time.monotonic()))
    except Exception as error:
        guard.site("runtime.shutdown").failed(error)
    finally:
        exits.unwatch()  # last: a signal that comes while spans are being sent waits for them, too
