"""One service of a chain, in a process of its own. Its argument is JSON; it prints its port and goes on until its input ends."""

import json
import sys

import lighttrace
from lighttrace.testing.servers import serve_asgi, serve_wsgi

spec = json.loads(sys.argv[1])
lighttrace.init(**spec["init"])


def call_next() -> str:
    """Call the next service, and give what it said, with the library that the test asks for."""
    if "next" not in spec:
        return ""
    import httpx
    import requests

    if spec["client"] == "requests":
        proxies = {"http": spec["proxy"]} if "proxy" in spec else None
        return requests.get(spec["next"], proxies=proxies, timeout=10).text
    with httpx.Client(proxy=spec.get("proxy"), timeout=10) as client:
        return client.get(spec["next"]).text


def work() -> str:
    if "transaction" not in spec:
        return call_next()
    with lighttrace.transaction(**spec["transaction"]):
        return call_next()


def answer(baggage: list[str]) -> str:
    said = work()
    lighttrace.flush()
    return json.dumps([{"service": spec["init"]["service"], "baggage": baggage}, *(json.loads(said) if said[:1] == "[" else [])])


if spec["server"] == "flask":
    import flask

    app = flask.Flask(__name__)
    app.add_url_rule("/", "root", lambda: answer([flask.request.environ.get("HTTP_BAGGAGE", "")]))
    running = serve_wsgi(app)
else:
    import fastapi

    app = fastapi.FastAPI()

    @app.get("/")
    def root(request: fastapi.Request) -> fastapi.Response:
        return fastapi.Response(answer(request.headers.getlist("baggage")))

    running = serve_asgi(app)

with running as site:
    print(site.port, flush=True)
    sys.stdin.read()
lighttrace.shutdown()
