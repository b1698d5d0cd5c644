"""Flask, on werkzeug's threaded server and on the standard library's."""

import functools
from concurrent.futures import ThreadPoolExecutor

import flask
import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import EnvironBuilder

from lighttrace import semconv
from lighttrace.integrations.flask import INTEGRATION
from lighttrace.testing.kits import HttpServerKit
from lighttrace.testing.kits import http_server as kit
from lighttrace.testing.servers import serve_wsgi

THREADS = ThreadPoolExecutor(1)


def make_flask():
    app = flask.Flask(__name__)
    app.logger.disabled = True
    nested = flask.Blueprint("nested", __name__, url_prefix="/nested")
    nested.add_url_rule("/things/<int:number>", "thing", kit.item)
    app.register_blueprint(nested)
    app.add_url_rule("/items/<int:number>", "item", kit.item)
    app.add_url_rule("/boom", "boom", kit.boom)
    app.add_url_rule("/stream", "stream", lambda: flask.Response(kit.pieces()))
    app.add_url_rule("/broken-stream", "broken", lambda: flask.Response(kit.broken_pieces()))
    app.add_url_rule("/endless", "endless", lambda: flask.Response(kit.endless_pieces()))
    app.add_url_rule("/pool", "pool", lambda: THREADS.submit(kit.item, 7).result())
    app.add_url_rule("/status/<int:code>", "status", lambda code: ("", code))
    return app


class TestFlask(HttpServerKit):
    integration = INTEGRATION
    library = "flask"
    routes = {path: path.replace("/7", "/<int:number>") for path in ("/items/7", "/nested/things/7", "/mounted/things/7")}
    imports = """
from flask import Flask
class Mine(Flask):
    def __call__(self, environ, start_response):
        return super().__call__(environ, start_response)
def make(kind):
    app = kind("app")
    app.add_url_rule("/", "root", lambda: "hello")
    return app
plain, mine = make(Flask), make(Mine)
"""
    uses = {
        "an application made before": "plain.test_client().get('/')",
        "a subclass made before": "mine.test_client().get('/')",
    }
    unsupported = {
        "test_background_work_is_traced": "Flask has no background tasks",
        "test_async_routes_name_the_span": "coroutines need asgiref, which these tests do not install; they are plain views to us",
    }

    @classmethod
    def make_application(cls):
        mounted = flask.Flask("mounted")
        mounted.add_url_rule("/things/<int:number>", "thing", kit.item)
        return DispatcherMiddleware(make_flask(), {"/mounted": mounted})

    @classmethod
    def serve(cls, application):
        return serve_wsgi(application)

    def call_directly(self, error):
        app = flask.Flask("direct")
        app.config["PROPAGATE_EXCEPTIONS"] = True
        app.logger.disabled = True

        @app.route("/")
        def view():
            raise error

        environ = {
            "REQUEST_METHOD": "GET",
            "SERVER_NAME": "kit",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": None,
        }
        app({"PATH_INFO": "/", **environ}, lambda *args: None)

    def test_test_client_sees_the_exception_itself(self):
        app = make_flask()
        app.testing = True
        with pytest.raises(kit.Boom) as caught:
            app.test_client().get("/boom")
        assert caught.value.__context__ is None
        self.server_span(status="error", attributes={semconv.HTTP_RESPONSE_STATUS_CODE: 500})

    def test_error_handler_of_the_users_own_answers_for_itself(self):
        app = make_flask()
        app.register_error_handler(kit.Boom, lambda error: ("handled", 409))
        assert app.test_client().get("/boom").status_code == 409
        self.server_span(status="unset", attributes={semconv.HTTP_RESPONSE_STATUS_CODE: 409})

    def test_equal_routes_of_two_applications_belong_to_their_own_handlers(self):
        class ByName(kit.Owners):
            def team_for_function(self, function):
                return function.__name__, "codeowners"

        def risk(number):
            return "risk"

        def fraud(number):
            return "fraud"

        applications = []
        for handler in (risk, fraud):
            app = flask.Flask("same")
            app.add_url_rule("/items/<int:number>", "item", handler)
            applications.append(app.test_client())
        with self.tracing(resolver=ByName(), strict=True) as spans:
            for client in applications * 2:
                client.get("/items/7")
            found = [span.team for span in spans.take(4)]
        assert found == ["risk", "fraud"] * 2

    def test_route_is_named_with_where_it_is_mounted_each_time(self):
        client = make_flask().test_client()
        with self.tracing() as spans:
            for root in ("", "/a", "/b", "/a", ""):
                assert client.get("/items/7", environ_overrides={"SCRIPT_NAME": root}).status_code == 200
            found = [span.name for span in spans.take(10) if span.kind == "server"]
        assert found == [f"GET {root}/items/<int:number>" for root in ("", "/a", "/b", "/a", "")]

    @pytest.mark.parametrize("kind", [list, tuple, lambda headers: dict(headers).items(), lambda headers: []])
    def test_headers_of_a_response_may_be_of_any_kind(self, kind):
        app = make_flask()
        inner = app.wsgi_app
        app.wsgi_app = lambda environ, start: inner(environ, lambda status, headers, *more: start(status, kind(headers), *more))
        seen = []
        body = app(EnvironBuilder(path="/items/7").get_environ(), lambda status, headers, *more: seen.append(type(headers)))
        assert b"".join(body)
        body.close()
        assert seen == [type(kind([]))]
        self.server_span(attributes={semconv.HTTP_RESPONSE_STATUS_CODE: 200})

    def test_file_is_answered_as_without_us(self, tmp_path):
        app = make_flask()
        (tmp_path / "file.txt").write_bytes(b"content" * 1000)
        app.add_url_rule("/file", "file", functools.partial(flask.send_file, tmp_path / "file.txt"))
        with serve_wsgi(app) as site:
            assert site.get("/file").body == b"content" * 1000
        self.server_span(name="GET /file")


class TestFlaskOnWsgiref(HttpServerKit):
    """The reference server: one thread, strict about what PEP 3333 asks of an application."""

    integration = INTEGRATION
    library = "flask"
    routes = TestFlask.routes
    unsupported = {
        **TestFlask.unsupported,
        "test_programs_are_traced_whatever_comes_first": "see TestFlask",
        "test_forked_children_keep_the_team": "see TestFlask",
        "test_absent_library_is_reported_and_breaks_nothing": "see TestFlask",
        "test_exceptions_pass_as_the_same_object": "see TestFlask",
        "test_unknown_method_keeps_names_few": "the validator takes no method that it does not know",
        "test_status_of_the_answer_decides": "the validator takes no 204 with the content type that Flask gives it",
        "test_span_says_what_was_asked_and_answered": "the server speaks HTTP/1.0",
    }

    @classmethod
    def make_application(cls):
        from wsgiref.validate import validator

        return validator(TestFlask.make_application())

    @classmethod
    def serve(cls, application):
        return serve_wsgi(application, "wsgiref")
