"""The least that keeps what LightTrace promises of one call: the floor for a tracer that may be left on in any program.

Other than `bare.py` it asks what must be asked (is tracing on, is something current, is the trace sampled, are headers to be
captured, is another format spoken, has the caller set a parent, does the request go over HTTP/1.1, has the span been ended
already), looks its target up, and contains its own failures. But it is written for one library and for the call that the benchmark
makes, in as few steps as Python has for it: what is any different goes untraced, or without headers. Its two functions ask the same
one by one, though they could share it: what a step into a function costs is what is to be measured.
"""

from collections.abc import Callable
from typing import Any

from bare import BAGGAGE, parent_of
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from lighttrace import guard
from lighttrace.instrument import propagate
from lighttrace.instrument.carriers import are_new, lower_name
from lighttrace.instrument.engine import state
from lighttrace.instrument.http_span import answer
from lighttrace.tracing.context import read_current, reset_current, set_current
from lighttrace.tracing.shared import NOTHING_OWN, Shared
from lighttrace.tracing.span import ERROR

CLIENT = SpanKind.CLIENT


def instrument(library: str) -> None:
    """Replace the functions of a library that LightTrace's integration wraps."""
    {"httpx": _httpx, "requests": _requests}[library](trace.get_tracer("asking"))


def _known(targets: dict[Any, tuple[str, Shared]], key: Any, url: Any) -> tuple[str, Shared]:
    made = targets[key] = "GET", Shared({"http.request.method": "GET", "server.address": "127.0.0.1", "server.port": 8000, "url.full": str(url)})  # fmt: skip
    return made


def _finish(site: guard.Site, span: Any, token: Any, status: int) -> None:
    try:
        reset_current(token)
        if not span._end:
            try:
                span._shared = span._shared.further[status]
            except KeyError:
                answer(span, status)
            if status >= 400:
                span._status = ERROR
            span.end()
    except Exception as error:
        site.failed(error)


def _httpx(tracer: Any) -> None:
    import httpx
    from h11 import _writers

    client: Any = httpx.Client
    writers: Any = _writers
    send, write = client._send_single_request, writers.write_headers
    targets: dict[Any, tuple[str, Shared]] = {}
    site = guard.site("asking")

    def traced(self: Any, request: Any) -> Any:
        span: Any = None
        try:
            transport = self._transport
            if (
                site.enabled
                and not read_current()
                and tracer.pipeline.keeps_roots
                and not state.client_request_headers
                and propagate.watched[propagate.place] is propagate.plain
                and request.method == "GET"
                and type(transport) is httpx.HTTPTransport
                and not self._mounts
                and not transport._pool._http2
            ):
                key = request.method, request.url._uri_reference
                try:
                    name, shared = targets[key]
                except KeyError:
                    name, shared = _known(targets, key, request.url)
                span = tracer.start_root(name, CLIENT, NOTHING_OWN, shared)
                text = state.caller.get(span._owner.team, BAGGAGE)
                span._head = f"traceparent: {parent_of(span)}\r\nbaggage: {text}\r\n".encode()
                token = set_current(span)
        except Exception as error:
            site.failed(error)
        if span is None:
            return send(self, request)
        try:
            response = send(self, request)
        except BaseException:
            reset_current(token)
            span.end()
            raise
        span._head = None
        _finish(site, span, token, response.status_code)
        return response

    def write_head(headers: Any, add: Callable[[bytes], None]) -> None:
        write(headers, add)
        try:
            head = getattr(read_current(), "_head", None)
            if head is not None and are_new(map(lower_name, headers._full_items)):
                add.__self__.insert(-1, head)  # type: ignore[attr-defined]  # it is `append`
        except Exception as error:
            site.failed(error)

    client._send_single_request, writers.write_headers = traced, write_head


def _requests(tracer: Any) -> None:
    import requests
    from requests.structures import CaseInsensitiveDict

    session: Any = requests.Session
    send = session.send
    targets: dict[Any, tuple[str, Shared]] = {}
    site = guard.site("asking")

    def traced(self: Any, request: Any, /, **options: Any) -> Any:
        span: Any = None
        try:
            headers = request.headers
            if (
                site.enabled
                and not read_current()
                and tracer.pipeline.keeps_roots
                and not state.client_request_headers
                and propagate.watched[propagate.place] is propagate.plain
                and request.method == "GET"
                and type(headers) is CaseInsensitiveDict
                and "traceparent" not in (store := headers._store)
                and "baggage" not in store
            ):
                key = request.method, request.url
                try:
                    name, shared = targets[key]
                except KeyError:
                    name, shared = _known(targets, key, request.url)
                span = tracer.start_root(name, CLIENT, NOTHING_OWN, shared)
                store["traceparent"] = "traceparent", parent_of(span)
                store["baggage"] = "baggage", state.caller.get(span._owner.team, BAGGAGE)
                token = set_current(span)
        except Exception as error:
            site.failed(error)
        if span is None:
            return send(self, request, **options)
        try:
            response = send(self, request, **options)
        except BaseException:
            reset_current(token)
            del store["traceparent"], store["baggage"]
            span.end()
            raise
        del store["traceparent"], store["baggage"]
        _finish(site, span, token, response.status_code)
        return response

    session.send = traced
