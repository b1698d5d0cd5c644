"""`RequestPatch` and `LateRequestPatch` decide every call as an `HttpClientPatch` does, in fewer steps."""

import contextlib
import re
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from opentelemetry import propagate as otel_propagate
from opentelemetry import trace
from opentelemetry.context import attach, create_key, detach, set_value
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState
from requests.structures import CaseInsensitiveDict

from lighttrace import guard
from lighttrace.instrument.carriers import RawHeaders, StoredHeaders
from lighttrace.instrument.heads import HeadPatch, LateHeaders
from lighttrace.instrument.http_client import HttpClientPatch
from lighttrace.instrument.http_request import RequestPatch
from lighttrace.instrument.late_request import LateRequestPatch
from lighttrace.instrument.resends import note
from lighttrace.testing import capture
from lighttrace.testing.capture import Capture
from lighttrace.tracing.context import read_current, span_of

URL = "http://shop.internal/items?token=s3cret"


class Response(NamedTuple):
    status_code: Any = 200
    headers: dict[str, str] = {"x-kept": "1"}  # nobody changes it


class Library:
    """A module with a client in it, patched by one kind of patch, and what its calls looked like from inside."""

    fast: type[HttpClientPatch]
    follows = False  # whether the next attempt has the headers of the one before

    def __init__(self, kind: type[HttpClientPatch]) -> None:
        self.seen: list[dict[str, str]] = []
        self.options: list[dict[str, Any]] = []
        self.answer: Callable[[Any], Any] = lambda request: Response()
        library = self

        class Client:
            _mounts: dict[str, Any] = {}  # as httpx has it
            _transport = Transport()

            def send(self, request: Any, **options: Any) -> Any:
                library.options.append(options)
                library.seen.append(library.sent(request))
                return library.answer(request)

        module: Any = types.ModuleType("made_up_client")
        module.Client, module.write_headers = Client, write_headers
        self.module = sys.modules["made_up_client"] = module
        self.client: Any = Client()
        self.patches = self.made(kind)
        self.patch = self.patches[0]
        for patch in self.patches:
            patch.bind("made_up_client")
            patch.apply()

    def request(self, method: str = "GET", url: str = URL) -> Any:
        """What the library sends."""
        raise NotImplementedError

    def sent(self, request: Any) -> dict[str, str]:
        """The headers that go out."""
        raise NotImplementedError

    def made(self, kind: type[HttpClientPatch]) -> list[Any]:
        """The patches, that of the calls first."""
        raise NotImplementedError

    def close(self) -> None:
        for patch in self.patches:
            patch.undo()
            guard.sites.pop(patch.site.name, None)
        sys.modules.pop("made_up_client", None)


def usual(kind: type[HttpClientPatch], form: Callable[[], type[Any]], url: Callable[[Any], Any], **more: Any) -> Any:
    return kind(
        "made_up_client:Client.send",
        lambda client, request, **options: (request.method, url(request), request.headers, form()),
        lambda result: result.status_code,
        read_headers=lambda result: result.headers,
        read_attempt=lambda client, request, **options: request,
        **more,
    )


class Stored(Library):
    """In the shape of requests."""

    fast = RequestPatch
    follows = True

    def request(self, method: str = "GET", url: str = URL) -> Any:
        return Request(method, url, CaseInsensitiveDict({"accept": "*/*"}))

    def sent(self, request: Any) -> dict[str, str]:
        return dict(request.headers)

    def made(self, kind: type[HttpClientPatch]) -> list[Any]:
        more: dict[str, Any] = {"stored": CaseInsensitiveDict} if kind is RequestPatch else {}
        return [usual(kind, lambda: StoredHeaders, lambda request: request.url, **more)]


class Late(Library):
    """In the shape of httpx, over h11."""

    fast = LateRequestPatch
    writes_heads = True

    def request(self, method: str = "GET", url: str = URL) -> Any:
        return Request(method, Url(Reference(url)), httpx.Headers({"host": "shop.internal", "accept": "*/*"}))

    def sent(self, request: Any) -> dict[str, str]:
        if not self.writes_heads:
            return dict(request.headers)
        lines = [b"GET / HTTP/1.1\r\n"]
        self.module.write_headers(Items(request.headers), lines.append)
        assert lines.pop() == b"\r\n"
        return dict(line.split(": ", 1) for line in b"".join(lines[1:]).decode().splitlines())

    def made(self, kind: type[HttpClientPatch]) -> list[Any]:
        heads = HeadPatch("made_up_client:write_headers")
        more: dict[str, Any] = {"transports": frozenset({Transport})} if kind is LateRequestPatch else {}
        form = lambda: LateHeaders if heads.ready else RawHeaders  # noqa: E731
        return [usual(kind, form, lambda request: request.url._uri_reference, heads=heads, **more), heads]


class Request:
    def __init__(self, method: str, url: Any, headers: Any) -> None:
        self.method, self.url, self.headers = method, url, headers


class Reference(NamedTuple):
    text: str

    def __str__(self) -> str:
        return self.text


class Url:
    def __init__(self, reference: Reference) -> None:
        self._uri_reference = reference

    def __str__(self) -> str:
        return str(self._uri_reference)


class Transport:
    _pool = types.SimpleNamespace(_http2=False)


class Items:
    """Of a head, as h11 has them."""

    def __init__(self, headers: Any) -> None:
        self._full_items = list(headers._list)


def write_headers(headers: Any, write: Callable[[bytes], None]) -> None:
    for name, _, value in headers._full_items:
        write(b"%s: %s\r\n" % (name, value))
    write(b"\r\n")


def plain(library: Library) -> Any:
    return library.client.send(library.request()), library.options[-1]


def with_options(library: Library) -> Any:
    return library.client.send(library.request(), timeout=5, stream=True), library.options[-1]


def by_name(library: Library) -> Any:
    return library.client.send(request=library.request(), stream=True), library.options[-1]


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

    def again(request: Any) -> Any:
        if next(once, None):
            library.client.send(library.request("POST"))
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
    first, second = library.request(), library.request()
    note(second, first)
    return library.client.send(first), library.client.send(second)


def attempts_below_one_that_has_ended(library: Library) -> Any:
    answer = library.answer
    more = iter("ab")

    def again(request: Any) -> Any:
        for each in more:  # as where a redirect is followed inside, with the headers of the request before
            span_of(read_current()).end()
            following = library.request("POST", URL + each)
            if library.follows:
                following.headers = request.headers.copy()
            return library.client.send(following)
        return answer(request)

    library.answer = again
    return plain(library)


def failing(library: Library) -> Any:
    def answer(request: Any) -> Any:
        raise ConnectionError(f"no route to {request.url}")

    library.answer = answer
    with pytest.raises(ConnectionError):
        plain(library)


def answering(status: int) -> Callable[[Library], Any]:
    def answered(library: Library) -> Any:
        library.answer = lambda request: Response(status)
        return [plain(library) for _ in range(3)]

    answered.__name__ = f"answering_{status}"
    return answered


def headers_of_the_caller_s_own(*names: str) -> Callable[[Library], Any]:
    def call(library: Library) -> Any:
        request = library.request()
        values = {"traceparent": "00-0000000000000000000000000000000a-000000000000000b-01", "baggage": "mine=1"}
        request.headers.update({name: values[name] for name in names})
        library.client.send(request)
        return dict(request.headers)

    call.__name__ = f"with_{'_and_'.join(names)}_of_the_caller_s_own"
    return call


def headers_that_are_taken_out_meanwhile(library: Library) -> Any:
    def answer(request: Any) -> Any:
        for name in ("traceparent", "baggage"):
            request.headers.pop(name, None)
            break
        return Response()

    library.answer = answer
    request = library.request()
    library.client.send(request)
    return dict(request.headers)


def strangers(library: Library) -> Any:
    request = library.request(url="https://api.example.com/charge")
    return library.client.send(request), dict(request.headers)


def the_same_request_twice(library: Library) -> Any:
    request = library.request()
    library.client.send(request)
    library.client.send(request)
    return dict(request.headers)


def unusual_methods(library: Library) -> Any:
    library.client.send(library.request("get"))
    library.client.send(library.request("BREW"))


def ended_by_the_program(library: Library) -> Any:
    def answer(request: Any) -> Any:
        span_of(read_current()).end()
        return Response(500)

    library.answer = answer
    return plain(library)


def switched_off(library: Library) -> Any:
    library.patch.site.enabled = False
    try:
        return with_options(library)
    finally:
        library.patch.site.enabled = True


Libraries = Callable[[type[Library], type[HttpClientPatch]], Library]


@pytest.fixture
def libraries() -> Iterator[Libraries]:
    made: list[Library] = []

    def make(shape: type[Library], kind: type[HttpClientPatch]) -> Library:
        if made:
            made.pop().close()
        made.append(shape(kind))
        return made[-1]

    yield make
    for library in made:
        library.close()


SHAPES = Stored, Late
CALLS = [
    plain, with_options, by_name, below_a_span, below_a_span_that_the_api_was_asked_for, below_a_call, inside_a_call, below_another_process, beside_another_value,
    with_another_propagator, attempts_that_are_noted, attempts_below_one_that_has_ended, failing, answering(200), answering(400), answering(404), answering(500),
    headers_of_the_caller_s_own("traceparent"), headers_of_the_caller_s_own("baggage"), headers_of_the_caller_s_own("traceparent", "baggage"),
    headers_that_are_taken_out_meanwhile, strangers, the_same_request_twice, unusual_methods, ended_by_the_program, switched_off,
]  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "not sampled": {"sampler": "always_off"},
    "headers": {"capture_request_headers": ("accept",), "capture_response_headers": ("x-kept",)},
    "inside": {"baggage_hosts": ("*.internal",)},
    "another format": {"propagators": ("b3",)},
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
@pytest.mark.parametrize("shape", SHAPES)
def test_every_call_is_what_the_general_patch_makes_of_it(
    shape: type[Library], call: Callable[[Library], Any], options: str, libraries: Libraries
) -> None:
    found = []
    for kind in (HttpClientPatch, shape.fast):
        with capture(patch=False, **OPTIONS[options]) as spans:
            found.append(told(spans, libraries(shape, kind), call))
    assert found[0] == found[1]
    if options != "not sampled" and call is not switched_off:
        assert "http.request.method" in found[1], "nothing was traced"


@pytest.mark.contained
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", ["_read_target", "status"])
def test_what_breaks_is_contained_and_leaves_nothing_open(step: str, shape: type[Library], libraries: Libraries) -> None:
    for kind in (HttpClientPatch, shape.fast):
        library = libraries(shape, kind)

        class BrokenError(Exception):
            """Raised by nobody else."""

        class Broken(Response):
            @property
            def status_code(self) -> int:
                raise BrokenError

        def broken(*_: Any, error: type[Exception] = BrokenError) -> Any:
            raise error

        answered: Any = Response()
        if step == "status":
            answered = Broken()
            library.answer = lambda request, answered=answered: answered
        else:
            setattr(library.patch, step, broken)
        with capture(patch=False, contained=True) as spans:
            assert with_options(library) == (answered, {"timeout": 5, "stream": True})
            assert not read_current()
            spans.check_ended()
            assert [type(error) for _, error in spans.failures] == [BrokenError]
            assert len(spans.waiting) == (step == "status")
            spans.clear()


@pytest.mark.contained
@pytest.mark.parametrize("kind", [HttpClientPatch, RequestPatch])
def test_headers_that_cannot_be_added_cost_the_trace_nothing_but_them(kind: type[HttpClientPatch], libraries: Libraries) -> None:
    library = libraries(Stored, kind)
    request = library.request()

    class Frozen(dict[str, str]):
        def __setitem__(self, name: str, value: str) -> None:
            raise TypeError("frozen")

    request.headers._store = Frozen()
    with capture(patch=False, contained=True) as spans:
        library.client.send(request)
        assert not read_current()
        (span,) = spans.take()
        assert (span.name, span.attributes["http.response.status_code"]) == ("GET", 200)
        assert library.seen == [{}]


@pytest.mark.parametrize("kind", [HttpClientPatch, LateRequestPatch])
def test_where_no_head_was_written_the_next_request_carries_its_headers_itself(
    kind: type[HttpClientPatch], libraries: Libraries
) -> None:
    library = libraries(Late, kind)
    assert isinstance(library, Late)
    before = guard.counters.get("propagation.head_missed", 0)
    with capture(patch=False) as spans:
        plain(library)  # the first one looks for its tracer
        plain(library)
        assert guard.counters.get("propagation.head_missed", 0) == before
        spans.clear()
        library.seen.clear()
        library.writes_heads = False
        plain(library)
        assert guard.counters["propagation.head_missed"] == before + 1
        plain(library)
        first, second = spans.take(2)
        assert "traceparent" not in library.seen[0]
        assert library.seen[1]["traceparent"].split("-")[1:3] == [second.trace_id, second.span_id]
        assert first.trace_id != second.trace_id


@pytest.mark.parametrize(
    "change",
    [
        lambda client: setattr(client, "_mounts", {"all://": None}),
        lambda client: setattr(client, "_transport", type("Other", (Transport,), {})()),
        lambda client: setattr(client._transport, "_pool", types.SimpleNamespace(_http2=True)),
        lambda client: delattr(type(client), "_mounts"),
    ],
    ids=["mounts", "transport", "http2", "other names"],
)
def test_what_may_go_another_way_goes_the_general_one(change: Callable[[Any], None], libraries: Libraries) -> None:
    library = libraries(Late, LateRequestPatch)
    forms: list[Any] = []
    library.patch.read_request = lambda client, request: forms.append(1) or (request.method, URL, request.headers, RawHeaders)
    with capture(patch=False) as spans:
        plain(library)  # the first one looks for its tracer
        forms.clear()
        plain(library)
        assert not forms
        library.client._transport = Transport()
        change(library.client)
        plain(library)
        assert forms
        assert library.seen[-1]["traceparent"].split("-")[2] == spans.take(3)[-1].span_id


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", ["usual", "not sampled"])
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_holds_a_request_once_it_is_answered(
    fails: bool, options: str, shape: type[Library], libraries: Libraries
) -> None:
    for kind in (HttpClientPatch, shape.fast):
        with capture(patch=False, **OPTIONS[options]) as spans:
            library = libraries(shape, kind)
            plain(library)
            seen: list[Any] = []

            def answer(request: Any, seen: list[Any] = seen) -> Any:
                seen.append(span_of(read_current()))
                if fails:
                    raise ConnectionError
                return Response()

            library.answer = answer
            request = library.request()
            headers = weakref.ref(request.headers)
            with contextlib.suppress(ConnectionError):
                library.client.send(request)
            del request
            assert seen[0] is not None, "the span is still there"
            assert headers() is None
            assert getattr(seen[0], "_head", None) is None
            spans.clear()


@pytest.mark.parametrize("shape", SHAPES)
def test_attempts_below_one_that_has_ended_leave_nothing_on_it(shape: type[Library], libraries: Libraries) -> None:
    with capture(patch=False) as spans:
        library = libraries(shape, shape.fast)
        plain(library)
        held: list[Any] = []

        def answer(request: Any) -> Any:
            held.append(span_of(read_current()))
            if len(held) < 3:
                held[-1].end()
                library.client.send(library.request())
            return Response()

        library.answer = answer
        plain(library)
        assert len({id(span) for span in held}) == 3
        assert [span._call for span in held] == [None] * 3
        spans.clear()


@pytest.mark.parametrize("name", ["traceparent", "tracestate", "baggage"])
def test_headers_of_the_caller_s_own_are_not_written_twice(name: str, libraries: Libraries) -> None:
    library = libraries(Late, LateRequestPatch)
    remote = SpanContext(0xA << 64, 0xB, True, TraceFlags(1), TraceState([("vendor", "1")]))
    with capture(patch=False, baggage_hosts=("*.internal",)) as spans, trace.use_span(NonRecordingSpan(remote)):
        plain(library)
        request = library.request()
        request.headers[name] = "mine"
        library.client.send(request)
        spans.clear()
    usual, own = library.seen
    assert set(usual) == {"host", "accept", "traceparent", "tracestate", "baggage"}
    assert own[name] == "mine"
    assert set(own) == ({"host", "accept", "traceparent"} if name == "traceparent" else set(usual))


def test_what_else_is_written_meanwhile_is_left_alone(libraries: Libraries) -> None:
    library = libraries(Late, LateRequestPatch)
    lines: list[bytes] = []
    sent = library.sent

    def connect(request: Any) -> dict[str, str]:
        library.module.write_headers(Items(httpx.Headers({"host": "proxy.internal"})), lines.append)
        return sent(request)

    with capture(patch=False) as spans:
        plain(library)
        library.sent = connect  # type: ignore[method-assign]  # for this one
        plain(library)
        spans.clear()
    assert lines == [b"host: proxy.internal\r\n", b"\r\n"]
    assert "traceparent" in library.seen[-1]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_coroutine_function_goes_the_general_way(shape: type[Library], libraries: Libraries) -> None:
    async def send(self: Any, request: Any) -> None:
        """Nothing is sent."""

    patch = libraries(shape, shape.fast).patch
    assert patch.wrap(send).__code__ is HttpClientPatch.wrap(patch, send).__code__
