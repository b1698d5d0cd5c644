"""The same as `http_request` for clients whose headers of ours are added by a `HeadPatch`: httpx.

It knows httpx by private names, read in 0.23 to 0.28 (httpcore 0.15 to 1.0), as its headers are known in `carriers`: nothing
public says whether a request will go over HTTP/1.1, and the text of a URL costs 60 steps, where a tuple that `str` makes
the same text of lies behind it. Where one of them is missing, calls go the general way.
"""

from collections.abc import Callable
from typing import Any

from lighttrace import guard, semconv
from lighttrace.instrument import propagate
from lighttrace.instrument.call import disguise, is_coroutine
from lighttrace.instrument.engine import state
from lighttrace.instrument.heads import LATE, HeadPatch, LateHeaders
from lighttrace.instrument.http_client import CLIENT, HttpClientPatch
from lighttrace.instrument.http_request import NAMED
from lighttrace.instrument.http_span import answer, capture
from lighttrace.instrument.resends import noted
from lighttrace.tracing.context import bare, read_current, reset_current, set_current
from lighttrace.tracing.shared import NOTHING_OWN
from lighttrace.tracing.span import ERROR


class LateRequestPatch(HttpClientPatch):
    """Trace the calls of one method of a client with (self, request, **options), a coroutine function or not.

    A client sends by way of `heads` where its transport is of one of the types in `transports`, speaks HTTP/1.1, and has no
    others beside it. All others go the general way, for which the adapters are: those of `HttpClientPatch`.
    """

    def __init__(
        self,
        target: str,
        read_request: Callable[..., Any],
        read_status: Callable[[Any], int],
        heads: HeadPatch,
        transports: frozenset[Any],
        **more: Any,
    ) -> None:
        super().__init__(target, read_request, read_status, heads=heads, **more)
        self._late = heads, transports

    def wrap(self, original: Callable[..., Any]) -> Any:
        any_call = super().wrap(original)
        if is_coroutine(original):
            return any_call
        site, scope, targets, (heads, transports) = self.site, self.scope, self._targets, self._late

        # What cannot be given by its name is not compared with the name of every option: that is two comparisons for each.
        def wrapper(self_: Any, request: Any = NAMED, /, **options: Any) -> Any:
            if request is NAMED:
                return any_call(self_, **options)
            send = original
            span: Any = None
            token: Any = None
            try:
                context = read_current()
                tracer = scope.tracer
                try:
                    transport = self_._transport
                    late = heads.ready and type(transport) in transports and not self_._mounts and not transport._pool._http2
                    url = request.url._uri_reference
                except AttributeError:
                    late = False
                if (
                    not late
                    or not site.enabled
                    or tracer is None
                    or (context and (type(context) not in bare or context._kind is CLIENT))
                    or noted
                    or state.client_request_headers
                    or propagate.watched[propagate.place] is not propagate.plain
                ):
                    send = any_call
                else:
                    method = request.method
                    try:
                        name, shared, internal = targets[method, url]
                    except KeyError:
                        name, shared, internal = self._read_target(method, url)
                    if not context and tracer.pipeline.keeps_roots:
                        span = tracer.start_root(name, CLIENT, NOTHING_OWN, shared)
                        token = set_current(span)
                        # As `inject` and `carry` do, without a step into them.
                        team = span._owner.team
                        try:
                            text = state.caller[team] if internal else None
                        except KeyError:
                            text = propagate.caller_of(team)
                        parent = f"00-{span._root.to_bytes(16, 'big').hex()}-{span._span_id.to_bytes(8, 'big').hex()}-03"
                        lines = f"traceparent: {parent}\r\n" if text is None else f"traceparent: {parent}\r\nbaggage: {text}\r\n"
                        span._head = lines, request.headers._list
                    else:
                        span = tracer.start(name, CLIENT, NOTHING_OWN, context, None, shared)
                        token = set_current(span)
                        call = LateHeaders()
                        call.span = span
                        call._headers = request.headers
                        propagate.inject(span, None, call, internal)
            except Exception as error:
                site.failed(error)
                # The span, if there is one by now, is still this call's: it must be ended and taken off the context.
                if token is not None:
                    span._head = None
                elif span is not None:
                    span.end()
                    span = None
            if span is None:
                return send(self_, request, **options)
            try:
                response = original(self_, request, **options) if options else original(self_, request)
            except BaseException as error:
                call = LateHeaders()
                call.span, call.token, call.added = span, token, LATE
                self._fail(call, error)
                raise
            try:
                reset_current(token)
            except (ValueError, RuntimeError):
                guard.count("context.detached_elsewhere")
            try:
                if span._head:
                    heads.missed()
                span._head = span._call = None
                if not span._end:  # else it is not sampled, or was ended already
                    status = response.status_code
                    try:
                        span._shared = span._shared.further[status]
                    except KeyError:
                        answer(span, status)
                    if status >= 400:
                        span._status = ERROR
                    if state.client_response_headers and self.read_headers is not None:
                        capture(span, semconv.HTTP_RESPONSE_HEADER, state.client_response_headers, self.read_headers(response))
                    span.end()
            except Exception as error:
                site.failed(error)
                span.end()
            return response

        return disguise(wrapper, original)
