"""What is fed with bytes from strangers: each target takes any bytes and raises nothing.

A target that is meant to refuse its input with an exception of a kind that callers expect, catches exactly that one. Used by
`test_targets.py` with hypothesis, and for as long as one likes by `run_atheris.py`.
"""

import os
import tempfile
from collections.abc import Callable
from typing import Any

from opentelemetry.context.context import Context

from lighttrace import config
from lighttrace.analysis import decode
from lighttrace.analysis.verdict import verdict
from lighttrace.export.protobuf import any_value, varint
from lighttrace.instrument import propagate, redaction, sql
from lighttrace.instrument.hosts import host_of
from lighttrace.ownership.codeowners import CodeOwners
from lighttrace.propagation import baggage, composite, parse_traceparent, parse_tracestate
from lighttrace.terminal import Row, render_trace
from lighttrace.tracing.values import exportable

Target = Callable[[bytes], object]
TARGETS: dict[str, Target] = {}

_FORMATS = {name: composite((name,)) for name in ("tracecontext", "baggage", "b3", "b3multi", "jaeger", "ottrace")}
_HEADERS = (
    "traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags",
    "uber-trace-id", "uberctx-a", "ot-tracer-traceid", "ot-tracer-spanid", "ot-tracer-sampled", "ot-baggage-a",
)  # fmt: skip


def target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


class _Getter:
    """Reads a dictionary of lists, as servers hand headers over."""

    def get(self, carrier: dict[str, list[str]], key: str) -> list[str] | None:
        return carrier.get(key)

    def keys(self, carrier: dict[str, list[str]]) -> list[str]:
        return list(carrier)


@target
def headers_by_hand(data: bytes) -> object:
    parts = data.decode("latin-1").split("\n")
    parent, states, members = parts[0], parts[1:3], parts[3:6]
    parse_traceparent(parent)
    parse_tracestate(states)
    parsed = baggage.parse(members)
    # What was read can be written, within the W3C's limits, and is read back as the same.
    text = baggage.format(parsed)
    assert len(text) <= 8192
    assert baggage.parse(text) == {key: parsed[key] for key in baggage.parse(text)}
    return propagate.extract(Context(), parent, states, members)


@target
def headers_of_every_format(data: bytes) -> object:
    lines = data.decode("latin-1").split("\n")
    carrier: dict[str, list[str]] = {}
    for name, value in zip(_HEADERS, lines, strict=False):
        if value:
            carrier[name] = value.split("\t")
    for propagator in _FORMATS.values():
        made = propagator.extract(carrier, context=Context(), getter=_Getter())  # type: ignore[arg-type]  # reads lists
        propagator.inject({}, context=made)
    return carrier


@target
def urls(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    redaction.query(text)
    return redaction.url(text), host_of(text)


@target
def statements(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    summary, shown = sql.describe(text, keep_literals=False)
    assert len(summary) <= 255
    return sql.describe(text, keep_literals=True, system="mysql"), shown


def _value(data: bytes, depth: int = 0) -> Any:
    """Any value, as the bytes have it."""
    if not data:
        return None
    kind, rest = data[0] % 12, data[1:]
    if kind < 4 or depth > 14:
        return (rest, rest.decode("utf-8", "surrogateescape"), int.from_bytes(rest[:40], "big"), bytearray(rest))[kind % 4]
    half = len(rest) // 2
    left, right = _value(rest[:half], depth + 1), _value(rest[half:], depth + 1)
    return {
        4: [left, right], 5: (left, right), 6: {str(left): right}, 7: {1: left, None: right}, 8: float(len(rest)),
        9: complex(len(rest)), 10: iter([left]), 11: type(left),
    }[kind]  # fmt: skip


@target
def attribute_values(data: bytes) -> object:
    value = exportable(_value(data), 100 if data[:1] < b"\x80" else None)
    varint(len(data))
    return any_value(value)


@target
def configuration_files(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "lighttrace.toml"), "wb") as file:
            file.write(data)
        return config.load(environ={}, directory=folder)


@target
def environment_variables(data: bytes) -> object:
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    settings = [setting for setting in config.SETTINGS + config.OTLP_SETTINGS if setting.variable]
    variables = {str(setting.variable): line for setting, line in zip(settings, lines, strict=False)}
    variables |= dict(zip(("OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_PROPAGATORS"), lines, strict=False))
    return config.load(environ=variables, directory=os.sep)


@target
def codeowners(data: bytes) -> object:
    text, _, path = data.decode("utf-8", "replace").rpartition("\n")
    return CodeOwners(text, "CODEOWNERS").find(path.strip("/") or "a")


def _judge(spans: Any) -> object:
    by_trace: dict[str, list[Any]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    found = []
    for trace in by_trace.values():
        found.append(verdict(trace).to_json())
        render_trace(
            [Row(span.span_id, span.parent_id, span.name, span.service, span.team, span.start_ns, span.end_ns) for span in trace]
        )
    return found


@target
def otlp_json(data: bytes) -> object:
    try:
        spans = decode.from_json_line(data.decode("utf-8", "replace"))
    except ValueError:  # how a line that is no OTLP is refused
        return None
    return _judge(spans)


@target
def otlp_protobuf(data: bytes) -> object:
    try:
        spans = decode.from_protobuf(data)
    except ValueError:  # how bytes that are no OTLP are refused
        return None
    return _judge(spans)
