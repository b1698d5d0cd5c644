"""Rules decide for the spans of a real server and a real client, not only for spans made by hand."""

import threading
from collections.abc import Iterator

import flask
import pytest
import requests
from werkzeug.serving import make_server

from lighttrace.testing import capture

RULES = [
    {"route": "/pay/*", "team": "money"},
    {"module": f"{__name__}*", "team": "stock"},
    {"route": "/pay/<card>", "team": "risk"},
    {"peer": "ledger", "team": "books"},
]


@pytest.fixture
def address() -> Iterator[str]:
    app = flask.Flask(__name__)

    @app.get("/pay/<card>")
    def pay(card: str) -> str:
        return card

    @app.get("/shelf")
    def shelf() -> str:
        return "full"

    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_by_route_module_and_name_of_the_peer_the_last_that_matches(address: str) -> None:
    with capture(team="default", rules=RULES, peers={"127.0.0.1*": {"service": "ledger"}}) as spans, requests.Session() as client:
        client.get(f"{address}/pay/4111")
        client.get(f"{address}/shelf")
        spans.expect(name="GET /pay/<card>", team="risk", team_source="rule")
        spans.expect(name="GET /shelf", team="stock", team_source="rule")
        for _ in range(2):
            spans.expect(name="GET", kind="client", team="books", team_source="rule")
