"""FastAPI on uvicorn, with routers inside routers, mounts, and its own telemetry."""

import importlib.util

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from opentelemetry import _logs, metrics, trace
from starlette.applications import Starlette

import lighttrace
from lighttrace.integrations.fastapi import INTEGRATION
from lighttrace.integrations.starlette import INTEGRATION as STARLETTE
from lighttrace.testing.capture import wait_until
from lighttrace.testing.kits import http_server as kit
from lighttrace.testing.servers import serve_asgi
from tests.integrations.test_starlette import PATHS, AsgiKit, endless, pool

OWN_TELEMETRY = importlib.util.find_spec("fastapi.telemetry") is not None


class Meters(metrics.MeterProvider):
    """Notes the routes whose requests were measured."""

    def __init__(self):
        self.recorded = []

    def wait_for(self, routes):
        wait_until(lambda: self.recorded == routes, f"{routes} to be measured")

    def get_meter(self, name, *args, **kwargs):
        recorded = self.recorded

        class Histogram(metrics.NoOpHistogram):
            def record(self, amount, attributes=None, *args, **kwargs):
                recorded.append(attributes.get("http.route"))

        class Meter(metrics.NoOpMeter):
            def create_histogram(self, name, *args, **kwargs):
                return Histogram(name)

        return Meter(name)


class Logs(_logs.LoggerProvider):
    """Notes the names of events."""

    def __init__(self):
        self.emitted = []

    def get_logger(self, name, *args, **kwargs):
        emitted = self.emitted

        class Logger(_logs.NoOpLogger):
            def emit(self, *args, **kwargs):
                emitted.append(kwargs["event_name"])

        return Logger(name)


def make_fastapi(**options):
    app = FastAPI(**options)
    nested, mounted = APIRouter(), FastAPI()

    @nested.get("/things/{number}", response_class=PlainTextResponse)
    def thing(number: int):
        return kit.item(number)

    @mounted.get("/things/{number}", response_class=PlainTextResponse)
    def mounted_thing(number: int):
        return kit.item(number)

    @app.get("/items/{number}", response_class=PlainTextResponse)
    def item(number: int):
        return kit.item(number)

    @app.get("/async/{number}", response_class=PlainTextResponse)
    async def item_async(number: int):
        return kit.item(number)

    @app.get("/boom")
    def boom():
        return kit.boom()

    @app.get("/status/{code}")
    def status(code: int):
        return Response(status_code=code)

    @app.get("/stream")
    def stream():
        return StreamingResponse(kit.pieces())

    @app.get("/broken-stream")
    def broken_stream():
        return StreamingResponse(kit.broken_pieces())

    @app.get("/endless")
    def endless_stream():
        return StreamingResponse(endless())

    @app.get("/pool")
    async def in_pool():
        return await pool(None)

    @app.get("/background")
    def background(tasks: BackgroundTasks):
        tasks.add_task(kit.background)
        return "ok"

    app.include_router(nested, prefix="/nested")
    app.mount("/mounted", mounted)
    return app


class TestFastapi(AsgiKit):
    integration = INTEGRATION
    library = "fastapi"
    own_telemetry = True
    routes = {path: path.replace("/7", "/{number}") for path in PATHS}
    imports = """
import asyncio
from fastapi import FastAPI
class Mine(FastAPI):
    async def __call__(self, scope, receive, send):
        await super().__call__(scope, receive, send)
def make(kind):
    app = kind()
    @app.get("/")
    async def root():
        return "hello"
    return app
plain, mine = make(FastAPI), make(Mine)
async def send(message):
    pass
async def receive():
    return {"type": "http.request", "body": b""}
def ask(app):
    asyncio.run(app({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}, receive, send))
"""
    uses = {"an application made before": "ask(plain)", "a subclass made before": "ask(mine)"}

    @pytest.fixture(autouse=True)
    def _with_mounts(self, _traced):
        STARLETTE.enable()
        yield
        STARLETTE.disable()

    def disabled(self):
        STARLETTE.disable()
        return super().disabled()

    @classmethod
    def make_application(cls):
        return make_fastapi()

    def make_plain(self, routes, **options):
        return FastAPI(routes=routes, **options)

    def test_routers_within_routers_name_the_span(self):
        inner, middle, app = APIRouter(prefix="/inner"), APIRouter(), FastAPI()

        @inner.get("/{number}", dependencies=[Depends(lambda: None)])
        def view(number: int):
            return number

        middle.include_router(inner, prefix="/{tenant}")
        app.include_router(middle, prefix="/api")
        app.include_router(inner, prefix="/other")
        with serve_asgi(app) as site:
            assert site.get("/api/acme/inner/7").body == b"7"
            assert site.get("/other/inner/7").body == b"7"
        self.spans.expect(name="GET /api/{tenant}/inner/{number}")
        self.spans.expect(name="GET /other/inner/{number}")

    def test_fastapi_mounted_in_starlette_is_one_span(self):
        app = Starlette()
        app.mount("/v1", make_fastapi())
        with serve_asgi(app) as site:
            assert site.get("/v1/items/7").body == b"item 7"
        self.server_span(name="GET /v1/items/{number}")

    def test_root_path_of_the_application_is_part_of_the_route(self):
        app = FastAPI()
        app.root_path = "/behind/proxy"
        app.get("/items/{number}")(lambda number: kit.item(number))
        with serve_asgi(app) as site:
            assert site.get("/items/7").status == 200
        self.server_span(name="GET /behind/proxy/items/{number}")

    def test_refused_input_is_no_error_of_the_server(self):
        assert self.site.get("/items/seven").status == 422
        self.server_span(name="GET /items/{number}", status="unset")

    def test_handler_sees_the_servers_span_as_the_current_one(self):
        app = FastAPI()

        @app.get("/")
        def view():
            lighttrace.current_span().set_attribute("seen", "here")

        with serve_asgi(app) as site:
            site.get("/")
        self.server_span(attributes={"seen": "here"})

    @pytest.mark.parametrize("whose", ["the program's", "the application's"])
    def test_programs_own_metrics_go_on(self, monkeypatch, whose):
        meters = Meters()
        if whose == "the program's":
            monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", meters)
            app = make_fastapi()
        else:
            app = make_fastapi(**({"telemetry": {"meter_provider": meters}} if OWN_TELEMETRY else {}))
        with serve_asgi(app) as site:
            for _ in range(2):
                assert site.get("/items/7").body == b"item 7"
            meters.wait_for(["/items/{number}"] * 2 * OWN_TELEMETRY)
        self.spans.expect(kind="server", scope="lighttrace.fastapi")
        self.spans.check_ended()
        self.spans.clear()

    @pytest.mark.skipif(not OWN_TELEMETRY, reason="this version of FastAPI has no telemetry of its own")
    def test_programs_own_logs_go_on(self, monkeypatch):
        logs = Logs()
        monkeypatch.setattr("opentelemetry._logs._internal._LOGGER_PROVIDER", logs)
        assert self.site.get("/boom").status == 500
        assert logs.emitted == ["http.server.request.exception"]
        self.spans.expect(kind="server", scope="lighttrace.fastapi")
        self.spans.check_ended()
        self.spans.clear()

    @pytest.mark.skipif(not OWN_TELEMETRY, reason="this version of FastAPI has no telemetry of its own")
    def test_spans_for_a_tracer_provider_of_the_applications_go_on(self):
        class Provider(trace.TracerProvider):
            asked = 0

            def get_tracer(self, *args, **kwargs):
                Provider.asked += 1
                return trace.NoOpTracer()

        with serve_asgi(make_fastapi(telemetry={"tracer_provider": Provider()})) as site:
            assert site.get("/items/7").body == b"item 7"
        assert Provider.asked == 1
        self.spans.expect(kind="server", scope="lighttrace.fastapi")
        self.spans.check_ended()
        self.spans.clear()

    @pytest.mark.skipif(not OWN_TELEMETRY, reason="this version of FastAPI has no telemetry of its own")
    def test_metrics_of_an_application_around_another_one_go_on(self):
        meters = Meters()
        outer = FastAPI(telemetry={"meter_provider": meters, "tracing": False})
        outer.mount("/v1", make_fastapi())
        with self.tracing(exclude=("/v1/items/*",)) as spans, serve_asgi(outer) as site:
            assert site.get("/v1/items/7").body == b"item 7"
            meters.wait_for(["/v1/items/{number}"])
            assert [span.kind for span in spans.take()] == ["internal"]  # the handler's own
