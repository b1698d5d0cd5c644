"""The same as `http_client`, in fewer steps, for the shape that most client libraries have: a method that sends a request object.

A call costs ten times as much for each step as in a loop, because what runs once per request has left the caches by then.
So everything that nearly all calls are is written into one function here, with the target's own parameters: a call below a
span of ours, or the first of a trace, with W3C's headers, by hand. Whatever else a call may be goes through `HttpClientPatch`,
which decides the same.
"""

from collections.abc import Callable
from typing import Any

from lighttrace import guard, semconv
from lighttrace.instrument import propagate
from lighttrace.instrument.call import disguise, is_coroutine
from lighttrace.instrument.engine import state
from lighttrace.instrument.heads import LATE
from lighttrace.instrument.http_client import CLIENT, HttpClientPatch
from lighttrace.instrument.http_span import answer, capture
from lighttrace.instrument.resends import noted
from lighttrace.tracing.context import bare, read_current, reset_current, set_current
from lighttrace.tracing.shared import NOTHING_OWN
from lighttrace.tracing.span import ERROR


class RequestPatch(HttpClientPatch):
    """Trace the calls of one method with (self, request, **options), a coroutine function or not.

    `read_request` is given (self, request), always gives all four, and everything else is as with an `HttpClientPatch`.
    """

    def wrap(self, original: Callable[..., Any]) -> Any:
        if is_coroutine(original):
            return super().wrap(original)
        site, scope, targets, heads = self.site, self.scope, self._targets, self.heads

        def wrapper(self_: Any, request: Any, **options: Any) -> Any:
            if not site.enabled:
                return original(self_, request, **options)
            call = None
            span: Any = None
            try:
                context = read_current()
                tracer = scope.tracer
                if (
                    tracer is None
                    or (context and (type(context) not in bare or context._kind is CLIENT))
                    or noted
                    or state.client_request_headers
                    or propagate.textmap is not None
                    or (propagate.watched is not None and propagate.watched[propagate.place] is not propagate.own)
                ):
                    call = self._begin((self_, request), {})
                else:
                    read_request = self.read_request
                    method, url, headers, form = read_request(self_, request)  # type: ignore[misc]  # never None here
                    try:
                        name, shared, internal = targets[method, url]
                    except KeyError:
                        name, shared, internal = self._read_target(method, url)
                    root = not context and tracer.pipeline.keeps_roots
                    if root:
                        span = tracer.start_root(name, CLIENT, NOTHING_OWN, shared)
                    else:
                        span = tracer.start(name, CLIENT, NOTHING_OWN, context, None, shared)
                    call = form()
                    call._headers = headers
                    call.span = span
                    span._call = call
                    call.token = set_current(span)
                    if root:
                        # As `inject` does, without a step into it.
                        team = span._owner.team
                        try:
                            text = state.caller[team] if internal else None
                        except KeyError:
                            text = propagate.caller_of(team)
                        parent = f"00-{span._root.to_bytes(16, 'big').hex()}-{span._span_id.to_bytes(8, 'big').hex()}-03"
                        call.added = call.carry(parent, None, text)
                    else:
                        call.added = propagate.inject(span, None, call, internal)
            except Exception as error:
                site.failed(error)
                # The span, if there is one by now, is still this call's: it must be ended and taken off the context.
                if call is not None:
                    call.added = ()
                elif span is not None:
                    span.end()
            if call is None:
                return original(self_, request, **options)
            try:
                response = original(self_, request, **options) if options else original(self_, request)
            except BaseException as error:
                self._fail(call, error)
                raise
            try:
                reset_current(call.token)
            except (ValueError, RuntimeError):
                guard.count("context.detached_elsewhere")
            span = call.span
            try:
                del span._call
                added = call.added
                if added:
                    call.withdraw(added)
                    if added is LATE and heads is not None:
                        heads.missed()
                if not span._end:  # else it is not sampled, or was ended already
                    read_status = self.read_status
                    status = read_status(response)
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
