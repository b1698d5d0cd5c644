"""The same as `http_client`, in fewer steps, for clients in the shape of requests: a method that sends a request object.

A call costs ten times as much for each step as in a loop, because what runs once per request has left the caches by then.
So everything that nearly all calls are is written into one function here, adapter and headers included: a call below a span
of ours, or the first of a trace, with W3C's headers, by hand. Whatever else a call may be goes the general way, which
decides the same. `late_request` is this for headers that go another way.
"""

from collections.abc import Callable
from typing import Any

from lighttrace import guard, semconv
from lighttrace.instrument import propagate
from lighttrace.instrument.call import disguise, is_coroutine
from lighttrace.instrument.carriers import BAGGAGE, BOTH, PARENT, TRACEPARENT, StoredHeaders
from lighttrace.instrument.engine import state
from lighttrace.instrument.http_client import CLIENT, HttpClientPatch
from lighttrace.instrument.http_span import answer, capture
from lighttrace.instrument.resends import noted
from lighttrace.tracing.context import bare, read_current, reset_current, set_current
from lighttrace.tracing.shared import NOTHING_OWN
from lighttrace.tracing.span import ERROR

NAMED: Any = object()
"""In the request's place where it was given by its name."""


class RequestPatch(HttpClientPatch):
    """Trace the calls of one method with (self, request, **options), a coroutine function or not.

    A request has `method`, `url` and `headers`, a response `status_code`. Where its headers are of the type `stored`, which
    keeps them as `requests.structures.CaseInsensitiveDict` does, no adapter is asked; `read_request` is for all others.
    """

    def __init__(
        self, target: str, read_request: Callable[..., Any], read_status: Callable[[Any], int], *, stored: Any, **more: Any
    ) -> None:
        super().__init__(target, read_request, read_status, **more)
        self._stored = stored

    def wrap(self, original: Callable[..., Any]) -> Any:
        any_call = super().wrap(original)
        if is_coroutine(original):
            return any_call
        site, scope, targets, stored = self.site, self.scope, self._targets, self._stored

        # What cannot be given by its name is not compared with the name of every option: that is two comparisons for each.
        def wrapper(self_: Any, request: Any = NAMED, /, **options: Any) -> Any:
            if request is NAMED:
                return any_call(self_, **options)
            send = original
            span: Any = None
            token: Any = None
            added: tuple[str, ...] = ()
            try:
                context = read_current()
                tracer = scope.tracer
                if (
                    not site.enabled
                    or tracer is None
                    or (context and (type(context) not in bare or context._kind is CLIENT))
                    or noted
                    or state.client_request_headers
                    or propagate.watched[propagate.place] is not propagate.plain
                    or type(headers := request.headers) is not stored
                    or TRACEPARENT in (store := headers._store)
                    or BAGGAGE in store
                ):
                    send = any_call
                else:
                    try:
                        name, shared, internal = targets[request.method, request.url]
                    except KeyError:
                        name, shared, internal = self._read_target(request.method, request.url)
                    if not context and tracer.pipeline.keeps_roots:
                        span = tracer.start_root(name, CLIENT, NOTHING_OWN, shared)
                        token = set_current(span)
                        # As `inject` does, without a step into it.
                        team = span._owner.team
                        try:
                            text = state.caller[team] if internal else None
                        except KeyError:
                            text = propagate.caller_of(team)
                        parent = f"00-{span._root.to_bytes(16, 'big').hex()}-{span._span_id.to_bytes(8, 'big').hex()}-03"
                        store[TRACEPARENT] = TRACEPARENT, parent
                        if text is None:
                            added = PARENT
                        else:
                            store[BAGGAGE] = BAGGAGE, text
                            added = BOTH
                    else:
                        span = tracer.start(name, CLIENT, NOTHING_OWN, context, None, shared)
                        token = set_current(span)
                        carrier = StoredHeaders()
                        carrier._headers = headers
                        added = propagate.inject(span, None, carrier, internal)
                    span._call = StoredHeaders, headers, added
            except Exception as error:
                site.failed(error)
                # The span, if there is one by now, is still this call's: it must be ended and taken off the context.
                if span is not None and token is None:
                    span.end()
                    span = None
            if span is None:
                return send(self_, request, **options)
            try:
                response = original(self_, request, **options)
            except BaseException as error:
                call = StoredHeaders()
                call._headers, call.span, call.token, call.added = headers, span, token, added
                self._fail(call, error)
                raise
            try:
                reset_current(token)
            except (ValueError, RuntimeError):
                guard.count("context.detached_elsewhere")
            try:
                span._call = None
                if added is BOTH:
                    try:
                        del store[TRACEPARENT], store[BAGGAGE]
                    except KeyError:  # the program took one of them out
                        store.pop(BAGGAGE, None)
                elif added:
                    for each in added:
                        store.pop(each, None)
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
