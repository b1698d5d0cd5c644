"""A `RequestPatch` decides every call as an `HttpClientPatch` does, in fewer steps."""

import re
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import propagate as otel_propagate
from opentelemetry import trace
from opentelemetry.context import attach, create_key, detach, set_value
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lighttrace import guard
from lighttrace.instrument.carriers import Headers
from lighttrace.instrument.http_client import HttpClientPatch
from lighttrace.instrument.http_request import RequestPatch
from lighttrace.instrument.resends import note
from lighttrace.testing import capture
from lighttrace.testing.capture import Capture
from lighttrace.tracing.context import read_current

KINDS = HttpClientPatch, RequestPatch
URL = "http://shop.internal/items?token=s3cret"


class Request:
    """What the made-up library sends."""

    def __init__(self, method: str = "GET", url: str = URL) -> None:
        self.method, self.url = method, url
        self.headers = {"accept": "*/*"}


class Library:
    """A module with a client in it, patched by one kind of patch, and what its calls looked like from inside."""

    def __init__(self, kind: type[HttpClientPatch]) -> None:
        self.seen: list[dict[str, str]] = []
        self.answer: Callable[[Request], Any] = lambda request: types.SimpleNamespace(status=200, headers={"x-kept": "1"})
        seen, library = self.seen, self

        class Client:
            def send(self, request: Request, **options: Any) -> Any:
                seen.append(dict(request.headers))
                return library.answer(request), options

        module: Any = types.ModuleType("made_up_client")
        module.Client = Client
        sys.modules["made_up_client"] = module
        self.client: Any = Client()
        self.patch = kind(
            "made_up_client:Client.send",
            lambda client, request, **options: (request.method, request.url, request.headers, Headers),
            lambda result: result[0].status,
            read_headers=lambda result: result[0].headers,
            read_attempt=lambda client, request, **options: request,
        )
        self.patch.bind("made_up_client")
        self.patch.apply()

    def close(self) -> None:
        self.patch.undo()
        sys.modules.pop("made_up_client", None)
        guard.sites.pop(self.patch.site.name, None)


@pytest.fixture
def libraries() -> Iterator[Callable[[type[HttpClientPatch]], Library]]:
    made: list[Library] = []

    def make(kind: type[HttpClientPatch]) -> Library:
        made.append(Library(kind))
        return made[-1]

    yield make
    for library in made:
        library.close()


def plain(library: Library) -> Any:
    return library.client.send(Request())[1]


def with_options(library: Library) -> Any:
    return library.client.send(Request(), timeout=5, stream=True)[1]


def by_name(library: Library) -> Any:
    return library.client.send(request=Request())[1]


def below_a_span(library: Library) -> Any:
    with trace.get_tracer("mine").start_as_current_span("work"):
        return plain(library)


def below_a_span_that_the_api_was_asked_for(library: Library) -> Any:
    with trace.get_tracer("mine").start_as_current_span("work"):
        assert trace.get_current_span().is_recording() == trace.get_current_span().get_span_context().trace_flags.sampled
        return plain(library)


def below_a_call(library: Library) -> Any:
    with trace.get_tracer("mine").start_as_current_span("call", kind=SpanKind.CLIENT):
        return plain(library)


def inside_a_call(library: Library) -> Any:
    once = iter([1])
    answer = library.answer

    def again(request: Request) -> Any:
        if next(once, None):
            library.client.send(Request("POST"))
        return answer(request)

    library.answer = again
    return plain(library)


def below_another_process(library: Library) -> Any:
    remote = SpanContext(0xA, 0xB, True, TraceFlags(1))
    with trace.use_span(NonRecordingSpan(remote)):
        return plain(library)


def beside_another_value(library: Library) -> Any:
    token = attach(set_value(create_key("mine"), 1))
    try:
        return plain(library)
    finally:
        detach(token)


def with_another_propagator(library: Library) -> Any:
    before = otel_propagate.get_global_textmap()
    otel_propagate.set_global_textmap(TraceContextTextMapPropagator())
    try:
        return plain(library)
    finally:
        otel_propagate.set_global_textmap(before)


def attempts_that_are_noted(library: Library) -> Any:
    first, second = Request(), Request()
    note(second, first)
    library.client.send(first)
    return library.client.send(second)[1]


def failing(library: Library) -> Any:
    def answer(request: Request) -> Any:
        raise ConnectionError(f"no route to {request.url}")

    library.answer = answer
    with pytest.raises(ConnectionError):
        plain(library)


def answering(status: int) -> Callable[[Library], Any]:
    def answered(library: Library) -> Any:
        library.answer = lambda request: types.SimpleNamespace(status=status, headers={})
        return [plain(library) for _ in range(3)]

    answered.__name__ = f"answering_{status}"
    return answered


def headers_of_the_caller_s_own(library: Library) -> Any:
    request = Request()
    request.headers["traceparent"] = "00-0000000000000000000000000000000a-000000000000000b-01"
    library.client.send(request)
    return request.headers


def the_same_request_twice(library: Library) -> Any:
    request = Request()
    library.client.send(request)
    library.client.send(request)
    return request.headers


def unusual_methods(library: Library) -> Any:
    library.client.send(Request("get"))
    library.client.send(Request("BREW"))


def switched_off(library: Library) -> Any:
    library.patch.site.enabled = False
    try:
        return with_options(library)
    finally:
        library.patch.site.enabled = True


CALLS = [
    plain, with_options, by_name, below_a_span, below_a_span_that_the_api_was_asked_for, below_a_call, inside_a_call, below_another_process, beside_another_value,
    with_another_propagator, attempts_that_are_noted, failing, answering(200), answering(404), answering(500),
    headers_of_the_caller_s_own, the_same_request_twice, unusual_methods, switched_off,
]  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "not sampled": {"sampler": "always_off"},
    "headers": {"capture_request_headers": ("accept",), "capture_response_headers": ("x-kept",)},
    "inside": {"baggage_hosts": ("*.internal",)},
}


def told(spans: Capture, library: Library, call: Callable[[Library], Any]) -> str:
    """All that a program, the other side, or a backend can tell of a call."""
    plain(library)  # the first one is not as all others: it looks for its tracer
    library.seen.clear()
    spans.clear()
    result = call(library)
    assert not read_current()
    found: list[Any] = [result, library.seen]
    for span in spans.waiting:
        found.append(
            (span.name, span.kind, span.status, span.message, span.attributes, span.trace_id, span.span_id, span.parent_id)
        )
        found.append(
            [(event.name, event.attributes["exception.type"], event.attributes["exception.message"]) for event in span.events]
        )
    spans.clear()
    numbers: dict[str, int] = {}  # ids are others each time: by the order in which they turn up
    return re.sub(r"\b(?:[0-9a-f]{32}|[0-9a-f]{16})\b", lambda each: str(numbers.setdefault(each[0], len(numbers))), repr(found))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_every_call_is_what_the_general_patch_makes_of_it(
    call: Callable[[Library], Any], options: str, libraries: Callable[[type[HttpClientPatch]], Library]
) -> None:
    found = []
    for kind in KINDS:
        with capture(patch=False, **OPTIONS[options]) as spans:
            found.append(told(spans, libraries(kind), call))
    assert found[0] == found[1]
    if options != "not sampled" and call is not switched_off:
        assert "http.request.method" in found[1], "nothing was traced"


@pytest.mark.contained
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", ["read_request", "read_status", "_read_target"])
def test_what_breaks_is_contained_and_leaves_nothing_open(
    adapter: str, kind: type[HttpClientPatch], libraries: Callable[[type[HttpClientPatch]], Library]
) -> None:
    library = libraries(kind)

    def broken(*_: Any) -> Any:
        raise ValueError(adapter)

    setattr(library.patch, adapter, broken)
    with capture(patch=False, contained=True) as spans:
        assert with_options(library) == {"timeout": 5, "stream": True}
        assert not read_current()
        spans.check_ended()
        assert [str(error) for _, error in spans.failures] == [adapter]


@pytest.mark.contained
@pytest.mark.parametrize("kind", KINDS)
def test_headers_that_cannot_be_added_cost_the_trace_nothing_but_them(
    kind: type[HttpClientPatch], libraries: Callable[[type[HttpClientPatch]], Library]
) -> None:
    library = libraries(kind)
    request = Request()

    class Frozen(dict[str, str]):
        def __setitem__(self, name: str, value: str) -> None:
            raise TypeError("frozen")

    request.headers = Frozen()
    with capture(patch=False, contained=True) as spans:
        library.client.send(request)
        assert not read_current()
        (span,) = spans.take()
        assert (span.name, span.attributes["http.response.status_code"]) == ("GET", 200)
        assert library.seen == [{}]


def test_a_coroutine_function_goes_the_general_way() -> None:
    async def send(self: Any, request: Any) -> None:
        """Nothing is sent."""

    patch = RequestPatch("nowhere:send", lambda client, request: None, lambda result: 200)
    guard.sites.pop(patch.site.name, None)
    assert patch.wrap(send).__code__ is HttpClientPatch.wrap(patch, send).__code__
