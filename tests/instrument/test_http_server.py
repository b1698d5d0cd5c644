"""What a caller's requests share: the same spans come of it as where each has all of its own."""

import asyncio
import contextlib
import functools
import gc
import http
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import fastapi
import flask
import pytest
from opentelemetry import baggage
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route, Router
from werkzeug.test import EnvironBuilder

import lighttrace
from lighttrace import semconv
from lighttrace.instrument import engine, wsgi
from lighttrace.testing import capture
from lighttrace.testing.kits.http_server import Owners
from lighttrace.tracing.shared import NOTHING_OWN, Shared

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WHO = f"{semconv.CALLER_SERVICE}=shop"


class BoomError(Exception):
    """What a handler of these raises."""


def act(what: str) -> int:
    """What a handler does to its request's span, and the status that it answers with."""
    span: Any = lighttrace.current_span()
    if what == "set":
        span.set_attribute("order", 5)
        span.set_attribute("share", 0.5)
    elif what == "route":
        span.set_attribute(semconv.HTTP_ROUTE, "/of/its/own")
    elif what == "status":
        span.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, 299)
    elif what == "status of its own":
        span.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, "fine")
    elif what == "name":
        span.update_name("checkout")
    elif what == "team":
        span.set_team("fraud")
    elif what == "read":
        assert span.attributes[semconv.URL_PATH].startswith("/")
        assert span.attributes[semconv.HTTP_REQUEST_METHOD]
    elif what == "raise":
        raise BoomError("no")
    elif what.isdigit():
        return int(what)
    return 200


def before_the_route(path: str) -> None:
    """What a middleware does."""
    if path == "/do/mine":
        lighttrace.current_span().set_team("mine")


def broken() -> Iterator[bytes]:
    """A stream that breaks on the way."""
    yield b"one"
    raise BoomError("in the middle")


def flask_application() -> flask.Flask:
    app = flask.Flask(__name__)
    app.logger.disabled = True
    methods = ["GET", "POST", "BREW"]
    app.add_url_rule("/do/<what>", "do", lambda what: ("done", act(what)), methods=methods)
    app.add_url_rule("/other/<what>", "other", lambda what: ("done", act(what)), methods=methods)
    app.add_url_rule("/stream", "stream", lambda: flask.Response(iter([b"one", b"two"])))
    app.add_url_rule("/broken", "broken", lambda: flask.Response(broken()))
    inner = app.wsgi_app

    def twice(environ: Any, start: Any) -> Any:
        """Says that all is well, and then otherwise, as PEP 3333 allows as long as nothing has been sent."""
        again = environ["PATH_INFO"] == "/do/again"
        before_the_route(environ["PATH_INFO"])

        def begin(status: str, headers: Any, exc_info: Any = None) -> Any:
            written = start(status, headers)
            if again:
                try:
                    raise BoomError
                except BoomError as error:
                    start("404 NOT FOUND", headers, (BoomError, error, None))
            return written

        return inner(environ, begin)

    app.wsgi_app = twice  # type: ignore[method-assign]
    return app


def ask_flask(app: Any, method: str, path: str, headers: dict[str, str], address: str, root: str) -> None:
    given = {"REMOTE_ADDR": address, "SCRIPT_NAME": root}
    environ = EnvironBuilder(path, method=method, headers=headers, environ_overrides=given).get_environ()
    body = app(environ, lambda status, headers, exc_info=None: None)
    with contextlib.suppress(BoomError):
        b"".join(body)
    if hasattr(body, "close"):
        body.close()


def starlette_application() -> Starlette:
    async def do(request: Request) -> Response:
        return Response("done", act(request.path_params["what"]))

    async def stream(request: Request) -> Response:
        return StreamingResponse(iter([b"one", b"two"]))

    async def break_off(request: Request) -> Response:
        return StreamingResponse(broken())

    class Before:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            before_the_route(scope["path"])
            await self.app(scope, receive, send)

    methods = ["GET", "POST", "BREW"]
    routes = [Route(f"/{name}/{{what}}", do, methods=methods) for name in ("do", "other")]
    further = Router(routes=[Route("/further/do/{what}", do)])
    routes += [Route("/stream", stream), Route("/broken", break_off), Route("/further/{rest:path}", further)]
    return Starlette(routes=[*routes, Mount("/in/{tenant}", routes=list(routes))], middleware=[Middleware(Before)])


def ask_starlette(app: Any, method: str, path: str, headers: dict[str, str], address: str, root: str) -> None:
    async def receive() -> Any:
        await asyncio.Event().wait()  # the client says nothing more, and stays

    async def send(message: Any) -> None:
        pass

    path, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": root + path, "query_string": query.encode(), "root_path": root, "scheme": "http",
        "http_version": "1.1", "server": ("kit", 80), "client": (address, 5000) if address else None,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    try:
        asyncio.run(app(scope, receive, send))
    except BaseException as error:
        if "BoomError" not in repr(error):  # by itself, or in a group
            raise


AGENT = {"User-Agent": "kit/1", "Host": "shop:8000"}
REQUESTS: list[tuple[str, str, dict[str, str], str, str]] = [
    ("GET", "/do/nothing", AGENT, "10.0.0.1", ""),
    ("GET", "/do/nothing?page=2", AGENT, "10.0.0.1", ""),
    ("GET", "/do/nothing?token=planted", AGENT, "10.0.0.1", ""),
    ("POST", "/do/nothing", AGENT, "10.0.0.1", ""),
    ("BREW", "/do/nothing", AGENT, "10.0.0.1", ""),
    ("GET", "/other/nothing", AGENT, "10.0.0.1", ""),
    ("GET", "/do/nothing", AGENT, "10.0.0.2", ""),
    ("GET", "/do/nothing", AGENT, "", ""),
    ("GET", "/do/nothing", {**AGENT, "User-Agent": "other"}, "10.0.0.1", ""),
    ("GET", "/do/nothing", {**AGENT, "User-Agent": "x" * 4000}, "10.0.0.1", ""),
    ("GET", "/do/again", {**AGENT, "User-Agent": "x" * 4000}, "10.0.0.1", ""),
    ("GET", "/do/nothing", {"Host": "shop:8000"}, "10.0.0.1", ""),
    ("GET", "/do/nothing", AGENT, "x" * 4000, ""),
    ("GET", "/do/nothing", AGENT, "10.0.0.1", "/behind"),
    ("GET", "/do/nothing", AGENT, "10.0.0.1", "/elsewhere/"),
    ("GET", "/do/nothing", {**AGENT, "traceparent": PARENT}, "10.0.0.1", ""),
    ("GET", "/do/nothing", {**AGENT, "traceparent": PARENT, "baggage": WHO}, "x" * 4000, ""),
    ("GET", "/do/nothing", {**AGENT, "traceparent": PARENT, "tracestate": "a=b"}, "10.0.0.1", ""),
    ("GET", "/do/nothing?a=b", {**AGENT, "traceparent": PARENT[:-1] + "0"}, "10.0.0.1", ""),
    ("GET", "/do/nothing", {**AGENT, "baggage": "user=alice"}, "x" * 4000, ""),
    ("GET", "/nowhere", AGENT, "10.0.0.1", ""),
    ("GET", "/in/acme/do/nothing", AGENT, "10.0.0.1", ""),
    ("GET", "/in/acme/do/nothing", AGENT, "10.0.0.1", "/behind"),
    ("GET", "/stream", AGENT, "10.0.0.1", ""),
    ("GET", "/broken", AGENT, "10.0.0.1", ""),
    ("GET", "/further/do/nothing", AGENT, "10.0.0.1", ""),
    *(
        ("GET", f"/do/{what}", AGENT, "10.0.0.1", "")
        for what in "set route status name team mine read raise again 201 204 404 418 500 503".split()
    ),
    ("GET", "/do/status of its own", AGENT, "10.0.0.1", ""),
]


@pytest.fixture(params=[(flask_application, ask_flask), (starlette_application, ask_starlette)], ids=["flask", "starlette"])
def ask(request: pytest.FixtureRequest) -> Callable[..., None]:
    make, way = request.param
    app = make()
    return lambda *asked: way(app, *asked)


def seen(span: Any) -> Any:
    return (
        span.name, span.kind, span.parent_id, span.trace_state, span.team, span.team_source, span.status, span.message,
        span.attributes, [(event.name, event.attributes[semconv.EXCEPTION_MESSAGE]) for event in span.events],
    )  # fmt: skip


def spans_of(ask: Callable[..., None], asked: list[Any], **options: Any) -> list[Any]:
    with capture(resolver=Owners(), **options) as spans, said_once(spans):
        for each in asked:
            ask(*each)
        return [seen(span) for span in spans.everything]


@contextlib.contextmanager
def said_once(spans: Any) -> Iterator[list[Any]]:
    """No span says what it shares once more by itself; gives them as they were when they ended."""
    pipeline = spans.provider.pipeline
    put, ended = pipeline.put, []

    def check(span: Any) -> None:
        twice = span._shared.attributes.keys() & span.said().keys()
        ended.append((span._shared, span._own, span._path, span._query, twice))
        put(span)

    pipeline.put = check
    try:
        yield ended
    finally:
        pipeline.put = put
    assert not [twice for *_, twice in ended if twice]


@pytest.fixture
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Once called, a request shares with none but itself."""

    def forbid() -> None:
        monkeypatch.setattr(engine.Patient, "has_room", lambda self: False)
        monkeypatch.setattr(Shared, "with_more", lambda self, what, attributes: None)

    return forbid


OPTIONS: list[dict[str, Any]] = [
    {},
    {"sampler": "traceidratio", "sampler_arg": "1.0"},
    {"server_response_headers": ("content-length",), "server_request_headers": ("user-agent",)},
    {"propagators": ("b3multi",)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["usual", "ratio", "headers", "b3"])
def test_what_is_shared_says_the_same(ask: Any, nothing_shared: Any, options: dict[str, Any]) -> None:
    asked = [each for each in REQUESTS for _ in range(3)] + REQUESTS
    with capture(resolver=Owners(), **options) as spans, said_once(spans):
        for each in asked:
            ask(*each)
        together = [seen(span) for span in spans.everything]
        assert engine.state.routes, "nothing was shared"
    nothing_shared()
    assert together == [span for each in asked for span in spans_of(ask, [each], **options)]


def test_requests_that_are_alike_hold_nothing_of_their_own_but_path_and_query(ask: Any) -> None:
    with capture() as spans, said_once(spans) as ended:
        for _ in range(3):
            ask("GET", "/do/nothing?a=b", AGENT, "10.0.0.1", "")
            ask("GET", "/do/404", AGENT, "10.0.0.1", "")
            ask("GET", "/nowhere", AGENT, "10.0.0.1", "")
    for kind in range(3):
        assert len({id(shared) for shared, *_ in ended[kind::3]}) == 1
    assert [each[1:4] for each in ended[:3]] == [
        (NOTHING_OWN, "/do/nothing", "a=b"),
        (NOTHING_OWN, "/do/404", None),
        (NOTHING_OWN, "/nowhere", None),
    ]


def test_beyond_what_may_be_kept_spans_say_the_same_and_memory_stays_bounded(ask: Any) -> None:
    asked = [
        ("GET", path, AGENT, f"10.0.{number}.1", "") for number in range(20) for path in ("/do/nothing", "/further/do/nothing")
    ]
    expected = spans_of(ask, asked)
    with capture(resolver=Owners()) as spans:
        engine.state.callers.most = engine.state.routes.most = 4
        for each in asked:
            ask(*each)
        assert (len(engine.state.callers), len(engine.state.routes)) == (4, 4)
        for each in asked:  # by now it is worth keeping others
            ask(*each)
        assert 0 < len(engine.state.callers) <= 4 >= len(engine.state.routes) > 0
        assert [seen(span) for span in spans.everything] == expected * 2
    with capture() as spans, said_once(spans):
        engine.state.routes.most = 1  # of two routes of a request, only one is kept
        for _ in range(3):
            ask("GET", "/further/do/nothing", AGENT, "10.0.0.1", "")


def test_what_the_program_says_before_there_is_a_route_stays(ask: Any) -> None:
    class Meddling(Owners):
        def team_for_function(self, function: Any) -> tuple[str, str] | None:
            lighttrace.current_span().set_attribute("asked", "who owns it")
            return super().team_for_function(function)

    with capture(resolver=Meddling()) as spans, said_once(spans):
        for _ in range(3):
            ask("GET", "/do/nothing", AGENT, "10.0.0.1", "")
            ask("GET", "/do/mine", AGENT, "10.0.0.1", "")
        found = [(span.team, span.attributes.get("asked")) for span in spans.take(6)]
    assert found == [("risk", "who owns it"), ("mine", None), *[("risk", None), ("mine", None)] * 2]


@pytest.mark.parametrize("options", OPTIONS, ids=["usual", "ratio", "headers", "b3"])
@pytest.mark.parametrize(
    "headers", [{}, {"traceparent": PARENT}, {"traceparent": PARENT, "tracestate": "a=b"}, {"baggage": "a=b"}]
)
def test_path_query_and_address_are_said_whoever_calls(ask: Any, headers: dict[str, str], options: dict[str, Any]) -> None:
    with capture(**options) as spans, said_once(spans):
        for address in ("10.0.0.1", "10." + "0" * 1024):
            ask("GET", "/do/nothing?a=b", {**AGENT, **headers}, address, "/behind/")
            span = spans.take()[0]
            assert span.name.startswith("GET /behind/do/")
            assert span.attributes[semconv.URL_PATH].endswith("/do/nothing")
            assert (span.attributes[semconv.URL_QUERY], span.attributes[semconv.CLIENT_ADDRESS]) == ("a=b", address)


def test_a_stream_runs_in_all_of_the_requests_context() -> None:
    app = flask.Flask(__name__)

    def pieces() -> Iterator[str]:
        yield str(baggage.get_baggage("user"))

    app.add_url_rule("/", "pieces", lambda: flask.Response(pieces()))
    environ = EnvironBuilder("/", headers={"baggage": "user=alice"}).get_environ()
    with capture() as spans:
        body = app(environ, lambda status, headers, exc_info=None: None)
        assert b"".join(body) == b"alice"
        body.close()
        spans.take()


def test_a_request_that_failed_ends_with_its_last_byte() -> None:
    """The exception comes up to us later, and what the framework still does is not the request's."""
    sent = []

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body"})
        sent.append(time.time_ns())
        while time.time_ns() == sent[0]:
            pass
        raise BoomError("no")

    application = Starlette()
    application.middleware_stack = fail
    with capture() as spans, said_once(spans):
        ask_starlette(application, "GET", "/", AGENT, "10.0.0.1", "")
        span = spans.take()[0]
    assert span.end_ns <= sent[0]
    assert (span.status, span.attributes[semconv.ERROR_TYPE]) == ("error", f"{__name__}.BoomError")


def test_equal_routes_of_two_applications_belong_to_their_own_handlers() -> None:
    class ByName(Owners):
        def team_for_function(self, function: Any) -> tuple[str, str] | None:
            return function.__name__, "codeowners"

    def checked(handler: Any) -> Any:
        @functools.wraps(handler)
        async def check(request: Request) -> Response:
            return await handler(request)  # type: ignore[no-any-return]  # a response

        return check

    @checked
    async def risk(request: Request) -> Response:
        return Response("risk")

    @checked
    async def fraud(request: Request) -> Response:
        return Response("fraud")

    applications = [Starlette(routes=[Route("/do/{what}", handler)]) for handler in (risk, fraud)]
    with capture(resolver=ByName()) as spans, said_once(spans):
        for app in applications * 2:
            ask_starlette(app, "GET", "/do/nothing", AGENT, "10.0.0.1", "")
        assert [span.team for span in spans.take(4)] == ["risk", "fraud"] * 2


def test_route_is_said_once_where_only_the_second_of_two_is_known() -> None:
    async def do(request: Request) -> Response:
        return Response("done")

    inner = Route("/further/do/{what}", do)
    outer = Route("/further/{rest:path}", Router(routes=[inner]))
    with capture() as spans, said_once(spans):
        engine.state.routes.most = 1
        for route, names in ((inner, 1), (outer, 3)):
            for _ in range(names):
                ask_starlette(Starlette(routes=[route]), "GET", "/further/do/nothing", AGENT, "10.0.0.1", "")
                (span,) = spans.take()
                assert span.name == "GET /further/do/{what}"
                assert span.attributes[semconv.HTTP_ROUTE] == "/further/do/{what}"


def test_route_is_said_once_where_only_that_of_an_application_inside_another_one_is_known() -> None:
    inner, outer = flask.Flask("inner"), flask.Flask("outer")
    inner.add_url_rule("/do/<what>", "do", lambda what: "done")
    outer.add_url_rule("/<path:rest>", "rest", lambda rest: inner)
    with capture() as spans, said_once(spans):
        engine.state.routes.most = 1
        for app in (inner, outer, outer, outer):
            ask_flask(app, "GET", "/do/nothing", AGENT, "10.0.0.1", "")
            (span,) = spans.take()
            assert span.name == "GET /do/<what>"
            assert span.attributes[semconv.HTTP_ROUTE] == "/do/<what>"


CALLERS: list[tuple[str, Any, str, Any]] = [
    ("method", "POST", semconv.HTTP_REQUEST_METHOD, "POST"),
    ("scheme", "https", semconv.URL_SCHEME, "https"),
    ("http_version", "2", semconv.NETWORK_PROTOCOL_VERSION, "2"),
    ("server", ("other", 81), semconv.SERVER_PORT, 81),
    ("server", ["other", 81], semconv.SERVER_ADDRESS, "other"),
    ("client", ("10.0.0.2", 5000), semconv.CLIENT_ADDRESS, "10.0.0.2"),
    ("headers", [(b"host", b"other")], semconv.SERVER_ADDRESS, "other"),
    ("headers", [(b"user-agent", b"other")], semconv.USER_AGENT_ORIGINAL, "other"),
]


@pytest.mark.parametrize(("key", "value", "attribute", "expected"), CALLERS, ids=[f"{key} {value}" for key, value, *_ in CALLERS])
def test_callers_that_differ_in_anything_are_told_apart(key: str, value: Any, attribute: str, expected: Any) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def no(message: Any = None) -> Any:
        pass

    application = Starlette()
    application.middleware_stack = answer
    usual = {
        "type": "http", "method": "GET", "path": "/", "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1",
        "server": ("kit", 80), "client": ("10.0.0.1", 5000), "headers": [],
    }  # fmt: skip
    with capture() as spans, said_once(spans):
        for scope in (usual, {**usual, key: value}) * 2:
            asyncio.run(application(dict(scope), no, no))
        found = [span.attributes.get(attribute) for span in spans.take(4)]
    assert found[1::2] == [expected] * 2
    assert expected not in found[0::2]


def test_routes_made_for_one_request_belong_to_their_own_handlers_and_are_not_kept() -> None:
    class ByDefault(Owners):
        def team_for_function(self, function: Any) -> tuple[str, str] | None:
            return function.__defaults__[0], "codeowners"

    handlers: list[Any] = []

    class Dynamic(Starlette):
        """Has another route for each request, of equal code."""

        def __init__(self) -> None:
            super().__init__()
            self.middleware_stack = self.answer

        async def answer(self, scope: Any, receive: Any, send: Any) -> None:
            async def handler(request: Request, team: str = f"team {len(handlers)}") -> Response:
                return Response(team)

            handlers.append(weakref.ref(handler))
            await Router(routes=[Route("/do/{what}", handler)])(scope, receive, send)

    application = Dynamic()
    with capture(resolver=ByDefault()) as spans, said_once(spans):
        for _ in range(50):
            ask_starlette(application, "GET", "/do/nothing", AGENT, "10.0.0.1", "")
            gc.collect()  # so that what comes next has the number of what was before
        assert [span.team for span in spans.take(50)] == [f"team {number}" for number in range(50)]
        assert not engine.state.routes
        assert not engine.state.matched
    assert {handler() for handler in handlers} == {None}


def test_a_route_is_heard_once_where_its_class_calls_its_base_class() -> None:
    app = fastapi.FastAPI()
    app.get("/do/{what}")(act)
    with capture() as spans, said_once(spans):
        for _ in range(3):
            ask_starlette(app, "GET", "/do/nothing", AGENT, "10.0.0.1", "")
        assert {span.name for span in spans.take(3)} == {"GET /do/{what}"}
        assert len(engine.state.routes) == 1


def test_only_a_body_that_is_being_computed_is_followed_step_by_step() -> None:
    app = flask_application()
    with capture() as spans:
        for path, kind in (("/do/nothing", wsgi.Body), ("/stream", wsgi.Stream)):
            body = app(EnvironBuilder(path).get_environ(), lambda status, headers, exc_info=None: None)
            assert type(body) is kind
            body.close()
        spans.take(2)


def test_status_that_was_sent_before_a_stream_broke_stays(ask: Any) -> None:
    with capture() as spans, said_once(spans):
        for _ in range(3):
            ask("GET", "/broken", AGENT, "10.0.0.1", "")
        for span in spans.take(3):
            assert (span.status, span.attributes[semconv.HTTP_RESPONSE_STATUS_CODE]) == ("error", 200)


@pytest.fixture
def started() -> Iterator[Any]:
    """Say a status to a WSGI application's `start_response`, several times, and give the span."""
    with capture() as spans, said_once(spans):
        app = flask.Flask(__name__)

        def ask(*statuses: tuple[str, Any]) -> Any:
            def answer(environ: Any, start: Any) -> Any:
                for status, error in statuses:
                    start(status, [], error)
                return []

            app.wsgi_app = answer  # type: ignore[method-assign]
            ask_flask(app, "GET", "/", AGENT, "10.0.0.1", "")
            return spans.take()[0]

        yield ask


def test_the_last_status_that_is_said_counts(started: Any) -> None:
    error = (BoomError, BoomError(), None)
    for _ in range(2):
        for code in range(200, 210):  # more than are shared
            assert started((f"{code} X", None)).attributes[semconv.HTTP_RESPONSE_STATUS_CODE] == code
        for first in (200, 209):
            for last in (200, 201, 209, 404):
                span = started((f"{first} X", None), (f"{last} Y", error))
                assert span.attributes[semconv.HTTP_RESPONSE_STATUS_CODE] == last
                assert span.status == "unset"
            span = started((f"{first} X", None), ("503 Y", error))
            assert (span.status, span.attributes[semconv.ERROR_TYPE]) == ("error", "503")
            assert started(("503 X", None), (f"{first} Y", error)).status == "unset"


@pytest.mark.parametrize(
    ("answer", "change", "expected"),
    [(http.HTTPStatus.NOT_FOUND, None, 404), (200, "fine", "fine"), (503, "fine", "fine"), (200, 503, 503), (503, None, 503)],
)
def test_status_may_be_of_the_standard_library_or_of_the_programs_own(answer: int, change: Any, expected: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": answer, "headers": []})
        if change is not None:
            lighttrace.current_span().set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, change)
        await send({"type": "http.response.body"})

    application = Starlette()
    application.middleware_stack = app
    with capture() as spans, said_once(spans):
        for _ in range(3):
            ask_starlette(application, "GET", "/", AGENT, "10.0.0.1", "")
        found = [span.attributes[semconv.HTTP_RESPONSE_STATUS_CODE] for span in spans.take(3)]
    assert found == [expected] * 3
    assert {type(each) for each in found} == {type(expected)}
