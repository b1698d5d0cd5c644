"""How spans leave: the bounded queue, its worker, the OTLP encoder and the exporters.

What an exporter needs (ssl, http.client, grpc) is imported when the first batch leaves, on the worker's thread.
"""

from typing import TYPE_CHECKING, Any

from lighttrace import forks, guard

if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import WeakSet

    from lighttrace.config import Config
    from lighttrace.export.exporter import Exporter
    from lighttrace.export.queue import SpanQueue

_queues: "WeakSet[SpanQueue] | None" = None


def build(config: "Config") -> "SpanQueue":
    """The queue that the configuration asks for, with its exporters, which are made when the first batch leaves."""
    from lighttrace.export.queue import SpanQueue

    queue = SpanQueue(
        lambda: make_exporter(config),
        size=config.queue_size,
        most_bytes=config.queue_bytes,
        batch_size=config.batch_size,
        delay=config.schedule_delay_s,
        export_timeout=config.export_timeout_s,
        exit_timeout=config.exit_timeout_s,
        report=lambda books: _report(config.service, books),
    )
    global _queues
    if _queues is None:
        import weakref

        _queues = weakref.WeakSet()
        forks.after_in_child(_in_child)  # once: what is registered stays for good
        forks.around_greenlets(_pause, _resume)
    _queues.add(queue)
    return queue


def _report(service: str, books: dict[str, Any]) -> None:
    from lighttrace.export import report  # with the first spans that are dropped

    report.write(service, books)


def _in_child() -> None:
    for queue in list(_queues or ()):
        queue.in_child()


def _pause() -> "Callable[[], object]":
    waits = [queue.pause() for queue in list(_queues or ())]
    return lambda: [wait() for wait in waits]


def _resume() -> None:
    for queue in list(_queues or ()):
        queue.resume()


def preload(config: "Config") -> None:
    """Import now what the worker would import: where it is not told of a fork, it cannot wait for it with that."""
    import lighttrace.export.quiet

    if "otlp" in config.exporters and config.otlp.protocol != "grpc":  # gRPC must not be there before a fork
        import lighttrace.export.http  # noqa: F401


def make_exporter(config: "Config") -> "Exporter":
    """The exporter, or all of them behind one, that `config.exporters` names."""
    from lighttrace.export.memory import UnusableExporter

    made: list[Exporter] = []
    for name in config.exporters:
        try:
            try:
                made.append(_make(name, config))
            except RuntimeError:  # gevent patched the locks of the import that was just going on: the next one has its own
                made.append(_make(name, config))
        except Exception as error:
            guard.log(f"exporter.{name}", f"the exporter {name!r} cannot be used: {error}")
            guard.count(f"exporter.failed.{name}")
    if len(made) == 1:
        return made[0]
    if not made:
        return UnusableExporter()
    from lighttrace.export.several import SeveralExporters

    return SeveralExporters(made)


def _make(name: str, config: "Config") -> Any:
    if name == "otlp":
        if config.otlp.protocol == "grpc":
            from lighttrace.export.grpc import GrpcExporter

            return GrpcExporter(config.otlp)
        from lighttrace.export.http import HttpExporter

        return HttpExporter(config.otlp)
    if name == "console":
        from lighttrace.export.console import ConsoleExporter

        return ConsoleExporter()
    if name == "file":
        from lighttrace.export.file import FileExporter

        return FileExporter(config.file_path or "traces.jsonl")
    if name == "memory":
        from lighttrace.export.memory import MemoryExporter

        return MemoryExporter()
    if name == "none":
        from lighttrace.export.memory import NoExporter

        return NoExporter()
    from lighttrace.export.foreign import load

    return load(name)
