"""Secrets planted wherever a program has some are in no byte that is sent, and in no byte of the file or the console."""

import asyncio
import builtins
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lighttrace
from lighttrace.testing.peer import Peer, refused
from lighttrace.testing.servers import Site, serve_asgi, serve_wsgi
from tests.faults.conftest import Record
from tests.faults.listening import Listening
from tests.servers import PostgresServer

# In every place another: what leaks tells from where. All of them begin alike, and nothing else here does.
PLANTED = "pl4nted"


def secret(place: str) -> str:
    return f"{PLANTED}-{place}"


QUERY = "&".join(
    f"{name}={secret('query-' + name)}"
    for name in ("token", "api_key", "password", "X-Amz-Signature", "X-Amz-Security-Token", "sig", "client_secret", "%74oken")
)
HEADERS = {
    "Authorization": f"Bearer {secret('authorization')}",
    "Cookie": f"session={secret('cookie')}",
    "X-Api-Key": secret("header"),
    "Proxy-Authorization": f"Basic {secret('proxy')}",
}


def with_user(url: str) -> str:
    return url.replace("://", f"://user:{secret('userinfo')}@")


def clients(peer: Peer) -> None:
    import httpx
    import requests
    import urllib3

    for base in (peer.url, refused()):  # a refused call fails with a message that quotes the URL
        url = f"{with_user(base)}/status/500?{QUERY}"
        with contextlib.suppress(requests.RequestException):
            requests.post(url, headers=HEADERS, data={"password": secret("body")}, timeout=10)
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            urllib3.PoolManager(retries=False).request("POST", url, headers=HEADERS, body=secret("body"))
        with contextlib.suppress(httpx.HTTPError), httpx.Client() as client:
            client.post(url, headers=HEADERS, json={"password": secret("body")})

        async def send(url: str = url) -> None:
            with contextlib.suppress(httpx.HTTPError):
                async with httpx.AsyncClient() as client:
                    await client.post(url, headers=HEADERS)

        asyncio.run(send())


def fail() -> None:
    """Fail with a secret in a local variable, in the environment, and in the message in the ways that people write them."""
    password = secret("local")
    assert password and os.environ["DATABASE_PASSWORD"]
    told = f"password={secret('message')} token: '{secret('message-token')}' https://bob:{secret('message-user')}@h/?sig={secret('message-url')}"
    raise RuntimeError(f"the order could not be placed: {told}")


def sites() -> Iterator[contextlib.AbstractContextManager[Site]]:
    from fastapi import FastAPI
    from flask import Flask
    from starlette.applications import Starlette
    from starlette.routing import Route

    flask = Flask("row18")
    flask.add_url_rule("/orders/<number>", view_func=lambda number: fail(), methods=["POST"])
    yield serve_wsgi(flask)

    async def handler(request: Any) -> None:
        fail()

    yield serve_asgi(Starlette(routes=[Route("/orders/{number}", handler, methods=["POST"])]))
    fastapi = FastAPI()
    fastapi.post("/orders/{number}")(fail)
    yield serve_asgi(fastapi)


def servers() -> None:
    for serving in sites():
        with serving as site:
            for path in ("/orders/1", "/nothing"):
                site.request("POST", f"{path}?{QUERY}", HEADERS, secret("body").encode())


def database(connection: Any, mark: str) -> None:
    cursor = connection.cursor()
    table = "row18"
    cursor.execute(f"CREATE TABLE {table} (id INTEGER, name TEXT UNIQUE)")
    cursor.execute(f"INSERT INTO {table} (id, name) VALUES (1, '{secret('literal')}')")
    cursor.execute(f"INSERT INTO {table} (id, name) VALUES (2, {mark})", (secret("parameter"),))
    cursor.executemany(f"INSERT INTO {table} (id, name) VALUES (3, {mark})", [(secret("many-1"),), (secret("many-2"),)])
    connection.commit()
    for statement, parameters in (
        (f"INSERT INTO {table} (id, name) VALUES (4, {mark})", (secret("parameter"),)),  # there already: the message may quote it
        (f"SELECT * FROM {table} WHERE name = '{secret('unclosed')}", ()),
        (f"SELECT nothing FROM {table} /* {secret('comment')} */ WHERE name = '{secret('literal')}'", ()),
        (f"SELECT CAST({mark} AS INTEGER) / 0", (secret("cast"),)),
    ):
        with contextlib.suppress(Exception):
            cursor.execute(statement, parameters)
        connection.rollback()
    cursor.execute(f"DROP TABLE {table}")
    connection.commit()


def together(peer: Peer, postgresql: PostgresServer) -> None:
    """What a database and clients said goes through the spans around: bare, and grouped where Python has groups."""
    import httpx
    import psycopg
    import requests

    url = f"{with_user(peer.url)}/status/404?{QUERY}"
    failures: list[Exception] = []

    def insert() -> None:
        with psycopg.connect(postgresql.dsn) as connection:
            connection.execute("CREATE TEMPORARY TABLE twice (name TEXT UNIQUE)")
            for _ in range(2):
                connection.execute("INSERT INTO twice VALUES (%s)", (secret("grouped"),))

    for call in (
        insert,
        lambda: requests.get(url, timeout=10).raise_for_status(),
        lambda: httpx.get(url).raise_for_status(),
        fail,
    ):
        try:
            with lighttrace.span("around"):
                call()
        except Exception as error:
            failures.append(error)
    assert len(failures) == 4
    group: Any = getattr(builtins, "ExceptionGroup", None)  # from Python 3.11 on
    if group is not None:
        with contextlib.suppress(group), lighttrace.span("group"):
            raise group("all of them", [group("the first", failures[:2]), *failures])


def everything(peer: Peer, postgresql: PostgresServer) -> None:
    import psycopg

    clients(peer)
    servers()
    together(peer, postgresql)
    with contextlib.closing(sqlite3.connect(":memory:")) as lite:
        database(lite, "?")
    with psycopg.connect(postgresql.dsn) as connection:
        database(connection, "%s")
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(f"postgresql://user:{secret('dsn')}@127.0.0.1:1/none?connect_timeout=1")
    with contextlib.suppress(RuntimeError), lighttrace.span("by hand"):
        fail()


def found(data: bytes) -> set[str]:
    """Which secrets are in there."""
    pieces = data.split(PLANTED.encode())[1:]
    return {piece[:40].decode(errors="replace") for piece in pieces}


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", secret("environment"))


@pytest.fixture
def listening() -> Iterator[Listening]:
    with Listening() as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "gzip"}, {"protocol": "http/json"}, {"exporter": "file"}, {"exporter": "console"}],
    ids=["protobuf", "gzip", "json", "file", "console"],
)
def test_planted_secrets_are_in_no_byte_sent(
    options: dict[str, str],
    listening: Listening,
    postgresql: PostgresServer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    record: Record,
) -> None:
    file = tmp_path / "spans.jsonl"
    if options.get("exporter") == "file":
        options = {**options, "file": str(file)}
    lighttrace.init(service="row18", endpoint=listening.endpoint, **options)
    try:
        with Peer() as peer:
            everything(peer, postgresql)
    finally:
        lighttrace.shutdown(10)
    if options.get("exporter") == "file":
        data = file.read_bytes()
    elif options.get("exporter") == "console":
        captured = capfd.readouterr()
        data = (captured.out + captured.err).encode()
    else:
        data = b"\n".join(listening.raw)
    for there in (b"row18", b"orders", b"by hand"):  # else nothing would be shown by what is missing
        assert there in data
    assert found(data) == set()
    record(
        18,
        "secrets in URLs, headers, bodies, statements, parameters, database errors, environment and locals, through eight libraries",
        "in no byte sent, compressed or not, and in none of the file and the console",
        "",
    )
