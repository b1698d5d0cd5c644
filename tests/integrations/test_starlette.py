"""Starlette on uvicorn."""

import asyncio
import dataclasses

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, Router, WebSocketRoute

import lighttrace
from lighttrace import semconv
from lighttrace.integrations.starlette import INTEGRATION
from lighttrace.testing.kits import HttpServerKit
from lighttrace.testing.kits import http_server as kit
from lighttrace.testing.servers import serve_asgi


def item(request):
    return PlainTextResponse(kit.item(request.path_params["number"]))


async def item_async(request):
    return PlainTextResponse(kit.item(request.path_params["number"]))


async def pool(request):
    return PlainTextResponse(await asyncio.get_running_loop().run_in_executor(None, kit.item, 7))


async def endless():
    for piece in kit.endless_pieces():
        yield piece
        await asyncio.sleep(0)  # as anything would that has something to wait for


ROUTES = [
    Route("/items/{number:int}", item),
    Mount("/nested", routes=[Route("/things/{number:int}", item)]),
    Mount("/mounted", app=Starlette(routes=[Route("/things/{number:int}", item)])),
    Route("/async/{number:int}", item_async),
    Route("/boom", lambda request: kit.boom()),
    Route("/status/{code:int}", lambda request: Response(status_code=request.path_params["code"])),
    Route("/stream", lambda request: StreamingResponse(kit.pieces())),
    Route("/broken-stream", lambda request: StreamingResponse(kit.broken_pieces())),
    Route("/endless", lambda request: StreamingResponse(endless())),
    Route("/pool", pool),
    Route("/background", lambda request: PlainTextResponse("ok", background=BackgroundTask(kit.background))),
]
PATHS = ("/items/7", "/nested/things/7", "/mounted/things/7", "/async/7")


def drive(app, scope, messages=()):
    """Speak ASGI with an application by hand, without an event loop of its own; what it sent."""
    waiting, sent = list(messages), []

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    coroutine = app(scope, receive, send)
    try:
        coroutine.send(None)
    except StopIteration:
        return sent
    finally:
        coroutine.close()
    raise AssertionError("it waits for something")


def http_scope(path="/", **more):
    return {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "server": ("kit", 80), **more}


class AsgiKit(HttpServerKit):
    """What all ASGI frameworks have to pass."""

    @classmethod
    def serve(cls, application):
        return serve_asgi(application)

    def make_plain(self, routes, **options):
        """An application of the framework's, from Starlette's routes."""
        raise NotImplementedError

    def call_directly(self, error):
        async def fail(request):
            raise error

        drive(self.make_plain([Route("/", fail)]), http_scope())

    def test_websockets_pass_untouched(self):
        async def echo(websocket):
            await websocket.accept()
            await websocket.send_text(await websocket.receive_text())
            await websocket.close()

        scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "subprotocols": []}
        messages = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}]
        app = self.make_plain([WebSocketRoute("/", echo)])
        before = dict(scope)
        sent = drive(app, scope, messages)
        assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
        assert sent[1]["text"] == "hello"
        assert before.items() <= scope.items()
        self.spans.clear() if self.own_telemetry else self.spans.expect_none()

    own_telemetry = False

    def test_lifespan_passes_untouched(self):
        seen = []

        async def lifespan(app):
            seen.append("up")
            yield
            seen.append("down")

        import contextlib

        app = self.make_plain([], lifespan=contextlib.asynccontextmanager(lifespan))
        with serve_asgi(app) as site:
            site.get("/nowhere")
        assert seen == ["up", "down"]
        self.server_span(name="GET")

    def test_root_path_of_the_server_is_part_of_the_route(self):
        app = self.make_plain([Route("/items/{number}", item)])
        with serve_asgi(with_root(app, "/app")) as site:
            assert site.get("/app/items/7").body == b"item 7"
        self.server_span(name="GET /app/items/{number}")

    def test_server_may_give_lists_where_others_give_tuples(self):
        app = self.make_plain([Route("/items/{number}", item_async)])
        drive(app, http_scope("/items/7", server=["kit", 81], client=["10.0.0.9", 5], headers=[[b"user-agent", b"x"]]))
        said = self.server_span(name="GET /items/{number}").attributes
        assert (said[semconv.SERVER_ADDRESS], said[semconv.SERVER_PORT]) == ("kit", 81)
        assert (said[semconv.CLIENT_ADDRESS], said[semconv.USER_AGENT_ORIGINAL]) == ("10.0.0.9", "x")

    def test_handler_without_a_hash_names_the_span(self):
        @dataclasses.dataclass
        class Answer:
            status: int

            async def __call__(self, scope, receive, send):
                await PlainTextResponse("", self.status)(scope, receive, send)

        app = self.make_plain([Route("/answer", Answer(204))])
        for _ in range(2):
            drive(app, http_scope("/answer"))
        assert [span.name for span in self.spans.take(2)] == ["GET /answer"] * 2

    def test_server_sent_events_end_when_the_client_leaves(self):
        started, released = [], []

        async def events():
            started.append(True)
            try:
                while True:
                    yield b"data: x\n\n"
                    await asyncio.sleep(0.001)
            finally:
                with lighttrace.span("cleaned up"):
                    released.append(True)

        async def endpoint(request):
            return StreamingResponse(events(), media_type="text/event-stream")

        with serve_asgi(self.make_plain([Route("/events", endpoint)])) as site:
            connection = site.connect("GET /events HTTP/1.1\r\nHost: kit\r\n\r\n")
            assert connection.recv(64)
            connection.close()
            server = self.spans.expect(kind="server", name="GET /events")
        assert server.status == "unset"
        self.spans.expect(name="cleaned up")

    def test_application_that_never_answers_leaves_no_context(self):
        async def nothing(request):
            await asyncio.Event().wait()

        app = self.make_plain([Route("/", nothing)])

        async def call():
            task = asyncio.ensure_future(app(http_scope(), None, None))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(call())
        assert self.server_span().status == "unset"


def with_root(app, root):
    async def server(scope, receive, send):
        await app({**scope, "root_path": root} if scope["type"] == "http" else scope, receive, send)

    return server


class TestStarlette(AsgiKit):
    integration = INTEGRATION
    library = "starlette.applications"
    routes = {path: path.replace("/7", "/{number}") for path in PATHS}
    imports = """
import asyncio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
class Mine(Starlette):
    async def __call__(self, scope, receive, send):
        await super().__call__(scope, receive, send)
async def root(request):
    return PlainTextResponse("hello")
plain, mine = [kind(routes=[Route("/", root)]) for kind in (Starlette, Mine)]
async def send(message):
    pass
def ask(app):
    asyncio.run(app({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}, None, send))
"""
    uses = {"an application made before": "ask(plain)", "a subclass made before": "ask(mine)"}

    @classmethod
    def make_application(cls):
        return Starlette(routes=ROUTES)

    def make_plain(self, routes, **options):
        return Starlette(routes=routes, **options)

    def test_router_that_is_mounted_names_the_span(self):
        app = Starlette(routes=[Mount("/a", app=Router([Mount("/b/{tenant}", routes=[Route("/{number}", item)])]))])
        with serve_asgi(app) as site:
            assert site.get("/a/b/acme/7").body == b"item 7"
        self.server_span(name="GET /a/b/{tenant}/{number}")
