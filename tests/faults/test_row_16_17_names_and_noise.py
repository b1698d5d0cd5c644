"""Names stay few whatever paths strangers try, and what says nothing is no span."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest

import lighttrace
from lighttrace.testing.servers import Site, serve_asgi, serve_wsgi
from tests.faults.conftest import Record
from tests.faults.test_row_20_lying_callers import spans
from tests.servers import PostgresServer

PATHS = 10_000


def flask() -> Any:
    from flask import Flask

    application = Flask("rows")
    application.add_url_rule("/orders/<number>", view_func=lambda number: "ok")
    application.add_url_rule("/health", "health", view_func=lambda: "ok")
    return application


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def answer(request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    inner = [Route("/{number}", answer)]
    return Starlette(routes=[Route("/orders/{number}", answer), Route("/health", answer), Mount("/inner", routes=inner)])


def fastapi() -> Any:
    from fastapi import FastAPI

    application = FastAPI()
    application.get("/orders/{number}")(lambda number: "ok")
    application.get("/health")(lambda: "ok")
    return application


FRAMEWORKS = pytest.mark.parametrize("make", [flask, starlette, fastapi])


@contextlib.contextmanager
def serving(application: Any) -> Iterator[Site]:
    made = serve_wsgi(application) if type(application).__name__ == "Flask" else serve_asgi(application)
    with made as site:
        yield site


def call(application: Any, paths: list[str]) -> None:
    """Ask for each, as the server hands requests over: ten thousand connections would test the machine."""
    if type(application).__name__ == "Flask":
        client = application.test_client()
        for path in paths:
            client.get(path).close()  # as servers do: the span ends with the response
    else:
        import asyncio

        import httpx

        async def ask() -> None:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://x") as client:
                for path in paths:
                    await client.get(path)

        asyncio.run(ask())


@pytest.mark.slow
@FRAMEWORKS
def test_ten_thousand_random_paths_give_as_many_names_as_ten(make: Any, record: Record) -> None:
    chance = random.Random(16)
    paths = [f"/{chance.choice(['orders/', '', 'wp-admin/', 'a/b/'])}{chance.getrandbits(64):x}" for _ in range(PATHS)]
    lighttrace.init(service="row16", exporter="memory", queue_size=3 * PATHS)
    try:
        application = make()
        call(application, paths)
        servers = [span for span in spans() if span.kind.name == "SERVER"]
        assert len(servers) == PATHS
        names = {span.name for span in servers}
        assert len(names) == 2, names  # the route, and what is no route
        assert "GET" in names
    finally:
        lighttrace.shutdown()
    record(
        16, "10,000 random paths, most of them 404s, through Flask, Starlette and FastAPI", "two names: the route's and GET", ""
    )


@FRAMEWORKS
def test_a_request_is_one_span_and_an_excluded_one_none(make: Any, record: Record) -> None:
    lighttrace.init(service="row17", exporter="memory", exclude=("/health*",))
    try:
        with serving(make()) as site:
            for _ in range(20):
                assert site.get("/health").status == 200
            for number in range(5):
                assert site.get(f"/orders/{number}").status == 200
        assert len(spans()) == 5
    finally:
        lighttrace.shutdown()
    record(17, "five requests and twenty health checks that `exclude` names, through Flask, Starlette and FastAPI",
           "five spans: none for send and receive, none for the health checks", "")  # fmt: skip


def test_statements_are_spans_and_what_the_driver_does_around_them_is_not(postgresql: PostgresServer, record: Record) -> None:
    import sqlite3

    import psycopg

    lighttrace.init(service="row17", exporter="memory")
    try:
        with psycopg.connect(postgresql.dsn) as connection:
            with connection.transaction():
                connection.execute("SELECT 1")
            with connection.transaction():
                connection.execute("SELECT 2")
        with contextlib.closing(sqlite3.connect(":memory:")) as lite, lite:
            lite.execute("CREATE TABLE t (a)")
            lite.execute("INSERT INTO t VALUES (1)")
        names = [span.name for span in spans()]
    finally:
        lighttrace.shutdown()
    assert sorted(names) == ["CREATE TABLE t", "INSERT t", "SELECT", "SELECT"]
    record(
        17,
        "four statements in transactions, through psycopg and sqlite3",
        "four spans: none for connecting, BEGIN and COMMIT",
        "",
    )
