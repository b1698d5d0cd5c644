"""What every HTTP server framework has to pass, on real servers and over real sockets.

The subclass builds one application with the framework's own means. Its routes:

| route | handler |
|---|---|
| `/items/{id}` | `item(id)` |
| `/nested/things/{id}` | `item(id)`, reached through a router or blueprint with the prefix `/nested` |
| `/mounted/things/{id}` | `item(id)`, in an application mounted at `/mounted` |
| `/async/{id}` | `item(id)`, from a coroutine |
| `/boom` | `boom()` |
| `/status/{code}` | an answer with that status |
| `/stream` | a stream of `pieces()` |
| `/broken-stream` | a stream of `broken_pieces()` |
| `/endless` | a stream of `endless_pieces()` |
| `/pool` | `item` in a thread of `concurrent.futures` |
| `/background` | an answer, then `background()` by the framework's own means |
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

import lighttrace
from lighttrace import semconv
from lighttrace.instrument import engine
from lighttrace.integrations.concurrent_futures import INTEGRATION as POOLS
from lighttrace.testing.capture import wait_until
from lighttrace.testing.kits.integration import IntegrationKit
from lighttrace.testing.servers import Answer, Site
from lighttrace.testing.spans import CapturedSpan

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CALLER}-01"

MALFORMED = {
    "empty": "",
    "words": "hello",
    "zero trace": f"00-{'0' * 32}-{CALLER}-01",
    "zero span": f"00-{TRACE}-{'0' * 16}-01",
    "version ff": f"ff-{TRACE}-{CALLER}-01",
    "upper case": PARENT.upper(),
    "too long": PARENT + "-00",
    "cut": PARENT[:-1],
    "absurd": "0" * 6000,
    "no ASCII": "00-\xff\xfe",
}


class Boom(Exception):
    """What the handler of `/boom` raises."""


def item(number: Any) -> str:
    """The work of a handler: one span, and the answer."""
    with lighttrace.span("child"):
        return f"item {number}"


def boom() -> str:
    """A handler with a bug."""
    with lighttrace.span("child"):
        pass
    raise Boom("secret of the handler")


def pieces() -> Iterator[bytes]:
    """A body that is made while it is sent, with a span for each piece."""
    for piece in (b"one", b"two", b"three"):
        with lighttrace.span("piece"):
            pass
        yield piece


def broken_pieces() -> Iterator[bytes]:
    """A body that breaks on the way."""
    yield b"one"
    raise Boom("in the middle")


def endless_pieces() -> Iterator[bytes]:
    """A body that goes on until its client has gone."""
    yield from itertools.repeat(b"x" * 1024)


_background_work: list[None] = []  # one for each that was done


def background() -> None:
    """Work that the framework does after the answer."""
    with lighttrace.span("background"):
        pass
    _background_work.append(None)


class Owners:
    """Owners of code, for tests: what `item` is called from is the team risk's."""

    has_rules = False
    default_team = None

    def team_for_function(self, function: Any) -> tuple[str, str] | None:
        return "risk", "codeowners"

    def team_for_code(self, *args: Any) -> None:
        return None

    team_for_span = peer = failing_frame_of = failing_frame = team_for_code


class HttpServerKit(IntegrationKit):
    """The subclass builds the application and says how its routes are spelled."""

    routes: ClassVar[dict[str, str]] = {}
    """The templates as the framework spells them: `/items/7`, `/nested/things/7`, `/mounted/things/7`, `/async/7`."""
    site: Site

    # -- what a subclass says ------------------------------------------------------------------------------------

    @classmethod
    def make_application(cls) -> Any:
        """The application with the routes above."""
        raise NotImplementedError

    @classmethod
    def serve(cls, application: Any) -> contextlib.AbstractContextManager[Site]:
        """Run it on a real server."""
        raise NotImplementedError

    def call_directly(self, error: BaseException) -> None:
        """Call an application whose handler raises `error` as a server would, in this thread, with the error coming out."""
        raise NotImplementedError

    # -- what it makes of that -----------------------------------------------------------------------------------

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls) -> Iterator[None]:
        with cls.serve(cls.make_application()) as cls.site:  # made before anything is patched
            yield

    def operations(self) -> dict[str, Callable[[], Any]]:
        paths = ["/items/7", "/nested/things/7", "/boom", "/status/404", "/stream", "/nowhere/at/all"]
        if self.supports("test_mounted_routes_name_the_span"):
            paths.append("/mounted/things/7")
        if self.supports("test_background_work_is_traced"):
            paths.append("/background")
        operations: dict[str, Callable[[], Any]] = {path: functools.partial(self._ask, path) for path in paths}
        operations["with headers"] = lambda: self.site.get(
            "/items/7?a=b", {"X-Kit": "1", "traceparent": PARENT, "baggage": "a=b"}
        )
        return operations

    def _ask(self, path: str) -> Answer:
        before = len(_background_work)
        answer = self.site.get(path)
        if path == "/background":  # else its span would be the next test's
            wait_until(lambda: len(_background_work) > before, "the work after the answer")
        self.spans.check_ended()
        return answer

    def raising(self, error: BaseException) -> None:
        self.call_directly(error)

    def server_span(self, **expected: Any) -> CapturedSpan:
        """The server's span; all others are forgotten."""
        span = self.spans.expect(kind="server", **expected)
        self.spans.check_ended()
        self.spans.clear()
        return span

    # -- context -------------------------------------------------------------------------------------------------

    def test_request_without_a_parent_starts_a_trace(self) -> None:
        answer = self.site.get("/items/7")
        assert (answer.status, answer.body) == (200, b"item 7")
        server = self.spans.expect(kind="server", parent=None)
        self.spans.expect(name="child", parent=server, trace_id=server.trace_id)

    def test_remote_parent_is_continued(self) -> None:
        self.site.get("/items/7", {"traceparent": PARENT, "tracestate": "vendor=1"})
        server = self.spans.expect(kind="server", trace_id=TRACE, parent_id=CALLER)
        assert server.trace_state == "vendor=1"
        self.spans.expect(name="child", parent=server, trace_id=TRACE)

    def test_unsampled_parent_is_obeyed(self) -> None:
        assert self.site.get("/items/7", {"traceparent": PARENT[:-1] + "0"}).status == 200
        self.spans.expect_none()

    @pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED)
    def test_malformed_parent_is_ignored(self, header: str) -> None:
        assert (
            self.site.get("/items/7", {"traceparent": header, "tracestate": "=,=;\xff", "baggage": "%zz=;;=,\xff"}).status == 200
        )
        assert self.server_span(parent=None).trace_id != TRACE

    def test_caller_is_named_from_the_baggage_and_owns_nothing(self) -> None:
        caller = f"{semconv.CALLER_SERVICE}=shop,{semconv.CALLER_TEAM}=web,team=intruder"
        self.site.get("/items/7", {"baggage": caller})
        told = {semconv.CALLER_SERVICE: "shop", semconv.CALLER_TEAM: "web"}
        self.spans.expect(kind="server", team="kit-team", attributes=told)
        self.spans.expect(name="child", team="kit-team", attributes=told)

    def test_edge_believes_nothing_of_the_callers_baggage(self) -> None:
        with self.tracing(edge=True, strict=True) as spans:
            self.site.get("/items/7", {"baggage": f"{semconv.CALLER_SERVICE}=shop"})
            assert not any(semconv.CALLER_SERVICE in span.attributes for span in spans.take(2))

    def raw(self, *headers: str) -> bytes:
        """Ask for `/items/7` with these header lines as they are, and give the answer."""
        lines = "".join(f"{line}\r\n" for line in headers)
        with self.site.connect(f"GET /items/7 HTTP/1.1\r\nHost: kit\r\nConnection: close\r\n{lines}\r\n") as connection:
            answer = b""
            while piece := connection.recv(4096):
                answer += piece
        return answer

    def test_two_parents_are_none(self) -> None:
        other = f"00-{TRACE[::-1]}-{CALLER}-01"
        answer = self.raw(f"traceparent: {other}", f"Traceparent: {PARENT}", "tracestate: a=1")
        assert answer.endswith(b"item 7")
        server = self.server_span(parent=None)
        assert server.trace_id not in {TRACE, TRACE[::-1]}
        assert not server.trace_state

    def test_several_baggage_headers_are_one(self) -> None:
        self.raw(
            f"baggage: {semconv.CALLER_SERVICE}=shop, a=b", "x-between: 1", f"Baggage: {semconv.TRANSACTION}=buy%20a%20pot;p=1"
        )
        told = {semconv.CALLER_SERVICE: "shop", semconv.TRANSACTION: "buy a pot"}
        self.spans.expect(kind="server", attributes=told)
        self.spans.expect(name="child", attributes=told)

    def test_what_the_caller_says_of_itself_is_on_every_span_and_no_more_of_it(self) -> None:
        """In streams, pools and background work too: exactly four keys, cut to 64 bytes, and none of them an owner."""
        told = {
            semconv.CALLER_SERVICE: "shop",
            semconv.CALLER_TEAM: "web",
            semconv.TRANSACTION: "x" * 64,
            semconv.CUSTOMER: "alice",
        }
        lies = ",".join(
            f"{key}=intruder" for key in (semconv.TEAM, semconv.TEAM_SOURCE, semconv.SERVICE_OWNER_NAME, "lighttrace.x")
        )
        sent = {**told, semconv.TRANSACTION: "x" * 500}
        headers = {
            "baggage": f"{lies},{','.join(f'{key}={value}' for key, value in sent.items())}",
            "tracestate": f"{semconv.TEAM}=intruder",
            "team": "intruder",
        }
        paths = {"/items/7": 2, "/stream": 4, "/pool": 2, "/boom": 2}
        if self.supports("test_background_work_is_traced"):
            paths["/background"] = 2
        POOLS.enable()
        try:
            with self.tracing(resolver=Owners(), strict=True) as spans:
                for path, count in paths.items():
                    self.site.get(path, headers)
                    for span in spans.take(count):
                        assert {key: span.attributes.get(key) for key in told} == told, f"{path}: {span}"
                        assert span.team == "risk", f"{path}: {span}"
                        assert "intruder" not in repr([vars(span), span.resource])
        finally:
            POOLS.disable()

    def test_other_formats_are_understood(self) -> None:
        with self.tracing(propagators=("b3multi",)) as spans:
            self.site.get(
                "/items/7", {"X-B3-TraceId": TRACE, "X-B3-SpanId": CALLER, "X-B3-Sampled": "1", "traceparent": PARENT[:40]}
            )
            spans.expect(kind="server", trace_id=TRACE, parent_id=CALLER)

    def test_interleaved_requests_keep_their_own_context(self) -> None:
        def ask(number: int) -> bytes:
            return self.site.get(f"/items/{number}", {"traceparent": f"00-{number + 1:032x}-{number + 1:016x}-01"}).body

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(ask, range(100))) == [b"item %d" % number for number in range(100)]
        spans = self.spans.take(200)
        for number in range(100):
            child, server = (span for span in spans if int(span.trace_id, 16) == number + 1)
            if child.kind == "server":
                child, server = server, child
            assert int(server.parent_id or "", 16) == number + 1
            assert child.parent_id == server.span_id
            assert server.attributes[semconv.URL_PATH] == f"/items/{number}"

    def test_threads_of_a_pool_keep_the_context(self) -> None:
        POOLS.enable()
        try:
            self.site.get("/pool")
        finally:
            POOLS.disable()
        server = self.spans.expect(kind="server")
        self.spans.expect(name="child", parent=server)

    def test_background_work_is_traced(self) -> None:
        assert self.site.get("/background").status == 200
        server = self.spans.expect(kind="server")
        background = self.spans.expect(name="background")
        # What goes on after the last byte is a trace of its own, linked to the request that asked for it.
        assert background.parent_id is None
        assert background.links == [f"{server.trace_id}-{server.span_id}"]

    # -- names and attributes ------------------------------------------------------------------------------------

    def _check_route(self, path: str, root: str = "") -> None:
        assert self.site.get(root + path).body == b"item 7"
        route = root + self.routes[path]
        server = self.server_span(name=f"GET {route}", attributes={semconv.HTTP_ROUTE: route, semconv.URL_PATH: root + path})
        assert server.status == "unset"

    def test_route_names_the_span(self) -> None:
        self._check_route("/items/7")

    def test_nested_routes_name_the_span(self) -> None:
        self._check_route("/nested/things/7")

    def test_mounted_routes_name_the_span(self) -> None:
        self._check_route("/mounted/things/7")

    def test_async_routes_name_the_span(self) -> None:
        self._check_route("/async/7")

    def test_unknown_paths_keep_names_few(self) -> None:
        for number in range(30):
            assert self.site.get(f"/nowhere/{number}/{os.urandom(4).hex()}").status == 404
        spans = self.spans.take(30)
        assert {span.name for span in spans} == {"GET"}
        assert {span.status for span in spans} == {"unset"}
        assert not any(semconv.HTTP_ROUTE in span.attributes for span in spans)

    def test_unknown_method_keeps_names_few(self) -> None:
        for method in ("BREW", "WHEN", "BREW"):
            self.site.request(method, "/items/7")
        for span in self.spans.take(3):
            assert span.name.split(" ")[0] == "HTTP"
            assert span.attributes[semconv.HTTP_REQUEST_METHOD] == "_OTHER"
            assert span.attributes[semconv.HTTP_REQUEST_METHOD_ORIGINAL] in {"BREW", "WHEN"}

    def test_span_says_what_was_asked_and_answered(self) -> None:
        self.site.get("/items/7?page=2&token=planted", {"User-Agent": "kit/1"})
        server = self.server_span()
        assert {key: value for key, value in server.attributes.items() if key != semconv.TEAM} == {
            semconv.HTTP_REQUEST_METHOD: "GET",
            semconv.URL_PATH: "/items/7",
            semconv.URL_QUERY: "page=2&token=REDACTED",
            semconv.URL_SCHEME: "http",
            semconv.HTTP_ROUTE: self.routes["/items/7"],
            semconv.SERVER_ADDRESS: self.site.host,
            semconv.SERVER_PORT: self.site.port,
            semconv.CLIENT_ADDRESS: "127.0.0.1",
            semconv.USER_AGENT_ORIGINAL: "kit/1",
            semconv.NETWORK_PROTOCOL_VERSION: "1.1",
            semconv.HTTP_RESPONSE_STATUS_CODE: 200,
        }

    def test_what_a_caller_says_at_length_is_not_kept(self) -> None:
        for agent in ("kit/1", "x" * 4000):
            self.site.get("/items/7", {"User-Agent": agent})
            assert self.server_span().attributes[semconv.USER_AGENT_ORIGINAL] == agent
        kept = repr(list(engine.state.callers))
        assert "kit/1" in kept
        assert "xxxx" not in kept, "anybody can send a long header, each time another, and fill the memory"

    def test_sampler_sees_what_it_needs(self) -> None:
        seen: list[dict[str, Any]] = []

        class Asked:
            def should_sample(self, context: Any, trace_id: int, name: str, kind: Any, attributes: Any, links: Any) -> Any:
                from opentelemetry.sdk.trace.sampling import Decision, SamplingResult

                seen.append(dict(attributes))
                return SamplingResult(Decision.DROP)

        with self.tracing(sampler=Asked(), strict=True):
            self.site.get("/items/7?a=b")
        assert {
            semconv.HTTP_REQUEST_METHOD, semconv.URL_PATH, semconv.URL_QUERY, semconv.URL_SCHEME, semconv.SERVER_ADDRESS,
            semconv.SERVER_PORT, semconv.CLIENT_ADDRESS, semconv.USER_AGENT_ORIGINAL,
        } <= seen[0].keys()  # fmt: skip

    def test_chosen_headers_are_captured_and_no_others(self) -> None:
        with self.tracing(capture_request_headers=("X-Kit",), capture_response_headers=("Content-Type",)) as spans:
            self.site.get("/items/7", {"X-Kit": "seen", "X-Other": "planted"})
            server = spans.expect(kind="server", attributes={"http.request.header.x-kit": ("seen",)})
        assert server.attributes["http.response.header.content-type"][0].startswith("text/")
        assert "planted" not in repr(vars(server))

    def test_request_belongs_to_the_owner_of_its_handler(self) -> None:
        with self.tracing(resolver=Owners(), strict=True) as spans:
            self.site.get("/items/7")
            spans.expect(kind="server", team="risk", team_source="codeowners")
            spans.expect(name="child", team="risk", team_source="parent")

    # -- outcomes ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("status", [200, 204, 302, 400, 404, 499, 500, 503])
    def test_status_of_the_answer_decides(self, status: int) -> None:
        assert self.site.get(f"/status/{status}").status == status
        server = self.server_span(attributes={semconv.HTTP_RESPONSE_STATUS_CODE: status})
        assert server.status == ("error" if status >= 500 else "unset")
        assert server.attributes.get(semconv.ERROR_TYPE) == (str(status) if status >= 500 else None)
        assert not server.events

    def test_uncaught_exception_is_recorded_once(self) -> None:
        answer = self.site.get("/boom")
        server = self.server_span(status="error", attributes={semconv.HTTP_RESPONSE_STATUS_CODE: 500})
        assert server.attributes[semconv.ERROR_TYPE] == f"{__name__}.Boom"
        assert [event.attributes[semconv.EXCEPTION_MESSAGE] for event in server.exceptions] == ["secret of the handler"]
        with self.disabled(), self.tracing():
            assert self.site.get("/boom") == answer

    # -- the body ------------------------------------------------------------------------------------------------

    def test_stream_ends_at_its_last_byte(self) -> None:
        assert self.site.get("/stream").body == b"onetwothree"
        server = self.spans.expect(kind="server", attributes={semconv.HTTP_RESPONSE_STATUS_CODE: 200})
        made = self.spans.take(3)
        assert {(span.name, span.parent_id) for span in made} == {("piece", server.span_id)}
        assert server.end_ns >= max(span.end_ns for span in made)

    def test_stream_that_breaks_is_an_error(self) -> None:
        with contextlib.suppress(Exception):  # how it breaks is the server's business
            self.site.get("/broken-stream")
        server = self.server_span(status="error")
        assert server.attributes[semconv.ERROR_TYPE] == f"{__name__}.Boom"

    def test_client_that_leaves_ends_the_span(self) -> None:
        connection = self.site.connect("GET /endless HTTP/1.1\r\nHost: kit\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.")
        connection.close()
        server = self.server_span()
        assert server.attributes[semconv.HTTP_RESPONSE_STATUS_CODE] == 200

    # -- what is left out ----------------------------------------------------------------------------------------

    def test_excluded_paths_are_not_traced(self) -> None:
        with self.tracing(exclude=("/items/*",), strict=True) as spans:
            assert self.site.get("/items/7").body == b"item 7"
            spans.expect(name="child", parent=None)
            spans.check_ended()
