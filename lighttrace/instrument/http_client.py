"""HTTP client calls as spans: name, attributes, status, propagation and ownership, for every library at once.

An adapter says how one library spells method, URL and headers of a request, and the status of a response:

    HttpClientPatch(
        "requests:Session.send",
        read_request=lambda session, request, **_: (request.method, request.url, request.headers, StoredHeaders),
        read_status=lambda response: response.status_code,
    )

`read_request` has the signature of what it stands before and gives four things: the method, the URL as a string (or as
a value that `str` makes the URL of, where that costs much and comparing does not), the request's own headers (with
`headers_argument`, the caller's mapping), and the form of `lighttrace.instrument.carriers` that fits them. It may give None
for "not a request of ours". For a method that sends a request object, `http_request` does the same in fewer steps.
"""

from collections.abc import Callable
from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.trace import SpanKind

from lighttrace import guard, semconv
from lighttrace.instrument import propagate, redaction, resends
from lighttrace.instrument.call import around, around_named, enough
from lighttrace.instrument.carriers import Headers, copy_of, noted_call
from lighttrace.instrument.engine import Scope, keep, scope_of, state
from lighttrace.instrument.heads import LATE, HeadPatch, LateHeaders
from lighttrace.instrument.hosts import host_of
from lighttrace.instrument.http_span import answer, capture, other_method, redact
from lighttrace.instrument.patching import Patch
from lighttrace.instrument.resends import noted
from lighttrace.tracing import errors
from lighttrace.tracing.context import (
    SPAN_KEY,
    SUPPRESS_HTTP_KEY,
    SUPPRESS_KEY,
    bare,
    detach,
    read_current,
    reset_current,
    set_current,
)
from lighttrace.tracing.shared import NOTHING_OWN, Shared
from lighttrace.tracing.span import ERROR, Span

Request = tuple[str, str, Any, type[Headers]]

CLIENT = SpanKind.CLIENT
_put = dict.__setitem__

METHOD, ADDRESS, PORT, URL = semconv.HTTP_REQUEST_METHOD, semconv.SERVER_ADDRESS, semconv.SERVER_PORT, semconv.URL_FULL


class HttpClientPatch(Patch):
    """Trace the calls of one function or method of an HTTP client library."""

    def __init__(
        self,
        target: str,
        read_request: Callable[..., Request | None],
        read_status: Callable[[Any], int],
        *,
        read_headers: Callable[[Any], Any] | None = None,
        headers_argument: str | None = None,
        read_attempt: Callable[..., Any] | None = None,
        heads: HeadPatch | None = None,
    ) -> None:
        """`headers_argument` names the argument with the headers where they are the caller's own: a copy goes on in their place.

        `read_attempt` gives the object that stands for this attempt, where a `FollowPatch` notes what stands for the next one.
        `heads` is where the headers of requests with `LateHeaders` are added.
        """
        super().__init__(target)
        self.heads = heads
        self.read_attempt = read_attempt
        self.headers_argument = headers_argument
        self.read_request = read_request
        self._enough = enough(read_request)
        self.read_status = read_status
        self.read_headers = read_headers
        self.scope: Scope = Scope("", covers=True)
        self._targets: dict[Any, Any] = {}  # method and URL: what is known before the call

    def bind(self, integration: str) -> None:
        super().bind(integration)
        self.scope = scope_of(integration)

    def apply(self) -> bool:
        self._targets.clear()
        return super().apply()

    def wrap(self, original: Any) -> Any:
        if self.headers_argument is None:
            return around(original, self._begin, self._finish, self._fail)
        return around_named(original, self.headers_argument, self._begin, self._finish, self._fail)

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Headers | None:
        site = self.site
        if not site.enabled:
            return None
        call = None
        span: Any = None
        try:
            context = read_current()
            previous = beside = None
            if context:
                if type(context) in bare:
                    parent = context
                else:
                    parent = context.get(SPAN_KEY)
                    if len(context) > 1 or parent is None:
                        beside = context
                        if context.get(SUPPRESS_KEY) or context.get(SUPPRESS_HTTP_KEY):
                            return None
                if type(parent) is Span and parent._kind is CLIENT and parent._tracer.covers:
                    if not parent._end:
                        return None  # a library under another one: the outer call has its span
                    previous = getattr(parent, "_call", None)
                    if previous is None and getattr(parent, "_head", None) is not None:
                        previous = LateHeaders, None, LATE
            tracer = self.scope.tracer or self.scope.find()
            if tracer is None:
                return None
            read_request = self.read_request
            request = read_request(*args) if len(args) == self._enough or not kwargs else read_request(*args, **kwargs)
            if request is None:
                return None
            method, url, headers, form = request
            if self.headers_argument is not None:
                headers = kwargs[self.headers_argument] = copy_of(headers)
            try:
                name, shared, internal = self._targets[method, url]
            except KeyError:
                name, shared, internal = self._read_target(method, url)
            root = not context and tracer.pipeline.keeps_roots
            span = (
                tracer.start_root(name, CLIENT, NOTHING_OWN, shared)
                if root
                else tracer.start(name, CLIENT, NOTHING_OWN, context, None, shared)
            )
            call = form()
            call._headers = headers
            call.span = span
            span._call = call
            if beside is None:
                call.token = set_current(span)
            else:
                made = Context(beside)
                _put(made, SPAN_KEY, span)
                call.token = set_current(made)
            if previous is not None:
                _follow(previous if type(previous) is not tuple else noted_call(parent, *previous), call)
            elif noted and self.read_attempt is not None:
                _count(resends.count(self.read_attempt(*args, **kwargs)), call)
            if state.client_request_headers:
                capture(span, semconv.HTTP_REQUEST_HEADER, state.client_request_headers, call)
            if root and propagate.watched[propagate.place] is propagate.plain:
                # As `inject` does, without a step into it.
                team = span._owner.team
                try:
                    text = state.caller[team] if internal else None
                except KeyError:
                    text = propagate.caller_of(team)
                parent = f"00-{span._root.to_bytes(16, 'big').hex()}-{span._span_id.to_bytes(8, 'big').hex()}-03"
                call.added = call.carry(parent, None, text)
            else:
                call.added = propagate.inject(span, beside, call, internal)
            return call
        except Exception as error:
            site.failed(error)
            # The span, if there is one by now, is still this call's: it must be ended and taken off the context.
            if call is not None:
                call.added = ()
            elif span is not None:
                span.end()
            return call

    def _read_target(self, method: Any, key: Any) -> tuple[str, Shared, bool]:
        """The name of the calls, the attributes that all of them have, and whether the other side is ours."""
        url = str(key)
        host = host_of(url)
        attributes: dict[str, Any] = {METHOD: method, ADDRESS: host.address, PORT: host.port, URL: redaction.url(url)}
        if host.peer is not None:
            attributes.update(host.peer)
        usual = type(method) is str and method in state.known_methods
        name = method if usual else other_method(method, attributes)
        known = name, Shared(attributes), host.internal
        if len(url) < 512:
            keep(self._targets, (method, key), known, 2048)
        return known

    def _finish(self, call: Headers, response: Any) -> None:
        span = call.span
        try:
            reset_current(call.token)
        except (ValueError, RuntimeError):
            guard.count("context.detached_elsewhere")
        try:
            span._call = None
            added = call.added
            if added is LATE:
                if span._head and self.heads is not None:
                    self.heads.missed()
                span._head = None
            elif added and self.headers_argument is None:
                call.withdraw(added)
            if span._end:  # or it is not sampled
                return
            read_status = self.read_status
            status = read_status(response)
            try:
                # Most calls of a target are answered alike: a span that waits with a dict of its own holds half as much again.
                span._shared = span._shared.further[status]
            except KeyError:
                answer(span, status)
            if status >= 400:
                span._status = ERROR
            if state.client_response_headers and self.read_headers is not None:
                capture(span, semconv.HTTP_RESPONSE_HEADER, state.client_response_headers, self.read_headers(response))
        except Exception as error:
            self.site.failed(error)
        span.end()

    def _fail(self, call: Headers, error: BaseException) -> None:
        detach(call.token)
        try:
            call.span._call = None
            if call.added is LATE:
                call.span._head = None
            elif call.added and self.headers_argument is None:
                call.withdraw(call.added)
        except Exception as ours:
            self.site.failed(ours)
        span = call.span
        if type(span) is Span and not span._end:
            errors.fail(span, error, redact(error))
            span.end()


def _follow(previous: Headers, call: Headers) -> None:
    """Make the next attempt a sibling of the one before, which is still current because its call has not returned."""
    previous.resent = getattr(previous, "resent", 0) + 1
    _count(previous.resent, call)
    span, before = call.span, previous.span
    if type(span) is Span and type(before) is Span:
        span._parent_id = before._parent_id
    # A request made from the one before has inherited its headers, ours among them.
    if previous.added is not LATE:
        call.withdraw(tuple(name for name in previous.added if call.get(name) == previous.get(name)))


def _count(resent: int, call: Headers) -> None:
    call.resent = resent
    span = call.span
    if resent and type(span) is Span:
        span.own()[semconv.HTTP_REQUEST_RESEND_COUNT] = resent
