"""httpx, sync and async, against a real peer."""

import asyncio
import contextlib
import gc

import httpx
import pytest

import lighttrace
from lighttrace import guard, semconv
from lighttrace.instrument import resends
from lighttrace.integrations.httpx import HEADS, INTEGRATION
from lighttrace.testing.kits import HttpClientKit

NO_RETRIES = "httpx retries nothing but connecting, which puts nothing on the wire"


class TestHttpx(HttpClientKit):
    integration = INTEGRATION
    library = "httpx"
    imports = """
import httpx
from httpx import Client, get
class Mine(Client):
    def send(self, request, **kwargs):
        return super().send(request, **kwargs)
"""
    uses = {
        "through the module": "httpx.get(URL)",
        "a name imported before": "get(URL)",
        "a client": "with Client() as client: client.get(URL)",
        "a subclass made before": "with Mine() as client: client.get(URL)",
        "a transport of the user's": "with Client(transport=httpx.MockTransport(lambda request: httpx.Response(200))) as c: c.get(URL)",
    }
    unsupported = {
        "test_cancelled_call_is_no_error": "the synchronous half: nothing cancels its calls",
        "test_retries_are_attempts_of_their_own": NO_RETRIES,
        "test_retries_are_counted": NO_RETRIES,
    }

    def send(self, method, url, *, headers=None, timeout=10.0, follow=False):
        return httpx.request(method, url, headers=headers, timeout=timeout, follow_redirects=follow).status_code

    def stream(self, url):
        with httpx.stream("GET", url) as response:
            return b"".join(response.iter_bytes(3))

    def send_with_session_headers(self, url, headers):
        with httpx.Client(headers=headers) as client:
            client.get(url)
            return client.headers

    def send_signed(self, url, signer):
        def auth(request):
            signer(request.url.raw_path.decode(), request.headers)
            return request

        return httpx.get(url, auth=auth).status_code

    def raising(self, error):
        class Transport(httpx.BaseTransport):
            def handle_request(self, request):
                raise error

        with httpx.Client(transport=Transport()) as client:
            client.get("http://localhost/")

    def test_requests_own_headers_are_not_changed(self):
        with httpx.Client() as client:
            request = client.build_request("GET", self.peer.url)
            before = dict(request.headers)
            client.send(request)
            client.send(request)
        assert dict(request.headers) == before
        spans = self.spans.take(2)
        assert [request.header("traceparent") for request in self.peer.take()] == [span.traceparent for span in spans]

    def test_redirect_that_is_followed_by_hand_is_counted_and_forgotten(self):
        with httpx.Client() as client:
            response = client.get(self.peer.url + "/redirect/2")
            for _ in range(2):
                response = client.send(response.next_request)
            client.get(self.peer.url)
        counts = [span.attributes.get(semconv.HTTP_REQUEST_RESEND_COUNT) for span in self.spans.take(4)]
        assert counts == [None, 1, 2, None]
        key = id(response.request)
        assert key in resends.noted
        del response
        gc.collect()
        assert key not in resends.noted

    def test_auth_that_asks_again_is_an_attempt_of_its_own(self):
        class Challenge(httpx.Auth):
            def auth_flow(self, request):
                yield request
                yield request

        httpx.get(self.peer.url, auth=Challenge())
        spans = self.spans.take(2)
        assert [request.header("traceparent") for request in self.peer.take()] == [span.traceparent for span in spans]

    @pytest.mark.parametrize("way", ["a mount", "HTTP/2 allowed", "a transport derived from httpx's own"])
    def test_requests_that_may_go_another_way_carry_their_headers_themselves(self, way):
        class Derived(httpx.HTTPTransport):
            def handle_request(self, request):
                seen.append(request.headers["traceparent"])
                return super().handle_request(request)

        seen = []
        transport = Derived() if way.startswith("a transport") else httpx.HTTPTransport()
        transport._pool._http2 = way.startswith("HTTP/2")
        how = {"mounts": {"all://": transport}} if way == "a mount" else {"transport": transport}
        with httpx.Client(**how) as client:
            response = client.get(self.peer.url)
        span, request = self.one()
        assert request.header("traceparent") == span.traceparent
        assert seen in ([], [span.traceparent])
        assert "traceparent" not in response.request.headers

    def test_proxy_that_is_asked_to_connect_learns_nothing(self):
        with httpx.Client(transport=httpx.HTTPTransport(proxy=self.peer.url), timeout=10) as client:
            with pytest.raises(httpx.HTTPError):  # the peer says yes, and knows nothing of TLS
                client.get("https://127.0.0.1:1/")
            client.get("http://127.0.0.1:1/forwarded")
        tunnelled, forwarded = self.spans.take(2)
        connect, *_, request = self.peer.take()
        assert (connect.method, request.target) == ("CONNECT", "http://127.0.0.1:1/forwarded")
        assert tunnelled.status == "error"
        assert connect.header("traceparent") is None
        assert connect.header("baggage") is None
        assert request.header("traceparent") == forwarded.traceparent

    def test_request_made_inside_another_one_leaves_it_its_headers(self):
        def told(event, info):
            if event == "connection.connect_tcp.complete" and not inside:
                inside.append(inner.get(self.peer.url + "/inner"))

        inside = []
        with httpx.Client() as inner, httpx.Client() as client:
            client.get(self.peer.url + "/outer", extensions={"trace": told})
        (span,) = self.spans.take(1)
        requests = {request.target: request.header("traceparent") for request in self.peer.take()}
        assert requests["/outer"] == span.traceparent
        assert set(requests) == {"/inner", "/outer"}

    def test_h11_that_writes_otherwise_is_noticed(self, monkeypatch, caplog):
        import h11

        def write_request(request, write):
            write(b"%s %s HTTP/1.1\r\n" % (request.method, request.target))
            for name, value in request.headers:
                write(b"%s: %s\r\n" % (name, value))
            write(b"\r\n")

        monkeypatch.setitem(h11._writers.WRITERS, (h11.CLIENT, h11.IDLE), write_request)
        before = guard.counters.get("propagation.head_missed", 0)
        guard._last_logged.clear()
        try:
            with httpx.Client() as client:
                headers = [self.peer.take()[0].header("traceparent") for _ in range(3) if client.get(self.peer.url)]
        finally:
            HEADS.ready = True
        assert headers == [None, *[span.traceparent for span in self.spans.take(3)[1:]]]
        assert guard.counters["propagation.head_missed"] == before + 1
        assert len([record for record in caplog.records if "without its trace headers" in record.message]) == 1

    @pytest.mark.contained
    @pytest.mark.parametrize("path", ["", "/hangup"])
    def test_head_that_could_not_be_added_to_is_the_last_one(self, monkeypatch, path):
        from h11 import _writers

        ours = _writers.write_headers
        # An h11 whose `write` is no longer `append` of a list.
        monkeypatch.setattr(_writers, "write_headers", lambda headers, write: ours(headers, lambda line: write(line)))
        before = guard.counters.get("propagation.head_missed", 0)
        try:
            with self.tracing(contained=True) as spans, httpx.Client() as client:
                for _ in range(3):
                    with contextlib.suppress(httpx.RemoteProtocolError):
                        client.get(self.peer.url + path)
                made = spans.take(3)
        finally:
            HEADS.ready = True
        headers = [request.header("traceparent") for request in self.peer.take()]
        assert headers == [None, *[span.traceparent for span in made[1:]]]
        assert guard.counters["propagation.head_missed"] == before + 1

    def test_trailers_are_no_head(self):
        with httpx.Client() as client:
            client.post(self.peer.url, content=iter([b"a", b"b"]))
        (span,) = self.spans.take(1)
        (request,) = self.peer.take()
        assert request.header("transfer-encoding") == "chunked"
        assert [value for name, value in request.headers if name.lower() == "traceparent"] == [span.traceparent]

    @pytest.mark.parametrize("name", ["traceparent", "TraceParent"])
    def test_parent_that_the_caller_has_set_goes_alone(self, name):
        with httpx.Client() as client:
            client.get(self.peer.url, headers={name: "theirs"})
        self.spans.take(1)
        (request,) = self.peer.take()
        assert [value for name, value in request.headers if name.lower() == "traceparent"] == ["theirs"]
        assert request.header("baggage") is None

    def test_strangers_request_with_baggage_of_the_callers_is_whole(self, stranger):
        url = f"http://{stranger}:{self.peer.port}/"
        with httpx.Client() as client:
            for _ in range(2):
                client.post(url, headers={"baggage": "theirs=1"}, content=b"HELLO")
        requests = self.peer.take()
        assert [request.body for request in requests] == [b"HELLO", b"HELLO"]
        assert [request.header("baggage") for request in requests] == ["theirs=1", "theirs=1"]
        assert [request.header("traceparent") for request in requests] == [span.traceparent for span in self.spans.take(2)]

    def test_request_to_strangers_made_inside_another_one_learns_nothing(self, stranger):
        def body():
            inner.get(f"http://{stranger}:{self.peer.port}/inner")
            yield b"a"

        with httpx.Client() as inner, httpx.Client() as client:
            client.post(self.peer.url + "/outer", content=body())
        (span,) = self.spans.take(1)
        requests = {request.target: request for request in self.peer.take()}
        assert requests["/outer"].header("traceparent") == span.traceparent
        assert requests["/inner"].header("traceparent") is None
        assert requests["/inner"].header("baggage") is None

    @pytest.mark.parametrize("name", ["baggage", "Baggage"])
    def test_baggage_that_the_caller_has_set_stays_as_it_is(self, name):
        with httpx.Client() as client:
            client.get(self.peer.url, headers={name: "theirs=1"})
        (span,) = self.spans.take(1)
        (request,) = self.peer.take()
        assert request.header("traceparent") == span.traceparent
        assert [value for name, value in request.headers if name.lower() == "baggage"] == ["theirs=1"]

    @pytest.mark.parametrize("theirs", [None, "them=1"])
    def test_state_of_the_trace_travels_in_the_head(self, theirs):
        from opentelemetry import context, trace
        from opentelemetry.trace.span import TraceState

        remote = trace.SpanContext(1, 2, True, trace.TraceFlags(1), TraceState([("vendor", "baggage: x")]))
        token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(remote)))
        try:
            with httpx.Client() as client:
                own = {"baggage": "theirs=1"} if theirs is None else {"baggage": "theirs=1", "TraceState": theirs}
                response = client.get(self.peer.url, headers=own)
        finally:
            context.detach(token)
        self.spans.take(1)
        (request,) = self.peer.take()
        assert request.header("tracestate") == (theirs or "vendor=baggage: x")
        assert request.header("baggage") == "theirs=1"
        assert "traceparent" not in response.request.headers

    def test_h11_answers_as_before_for_everybody_else(self):
        import h11

        def talk():
            server = h11.Connection(h11.SERVER)
            server.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            server.next_event()
            said.append(server.send(h11.Response(status_code=200, headers=[("content-length", "0")])))
            said.append(h11.Connection(h11.CLIENT).send(h11.Request(method="GET", target="/", headers=[("host", "a")])))

        said = []
        with lighttrace.span("serving"):
            talk()
        with httpx.Client() as client:  # while a call is under way
            client.get(
                self.peer.url, extensions={"trace": lambda event, _: talk() if event.startswith("connection.connect") else None}
            )
        spans = self.spans.take(2)
        assert self.peer.take()[0].header("traceparent") == spans[1].traceparent
        assert said[::2] == [b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n"] * 3
        assert said[1::2] == [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"] * 3


class TestHttpxAsync(HttpClientKit):
    integration = INTEGRATION
    library = "httpx"
    imports = """
import asyncio, httpx
from httpx import AsyncClient
class Mine(AsyncClient):
    async def send(self, request, **kwargs):
        return await super().send(request, **kwargs)
async def fetch(kind):
    async with kind() as client:
        return await client.get(URL)
"""
    uses = {
        "a name imported before": "asyncio.run(fetch(AsyncClient))",
        "a subclass made before": "asyncio.run(fetch(Mine))",
    }
    unsupported = {
        "test_retries_are_attempts_of_their_own": NO_RETRIES,
        "test_retries_are_counted": NO_RETRIES,
    }

    def send(self, method, url, *, headers=None, timeout=10.0, follow=False):
        async def call():
            async with httpx.AsyncClient(timeout=timeout, follow_redirects=follow) as client:
                return (await client.request(method, url, headers=headers)).status_code

        return asyncio.run(call())

    def stream(self, url):
        async def call():
            async with httpx.AsyncClient() as client, client.stream("GET", url) as response:
                return b"".join([piece async for piece in response.aiter_bytes(3)])

        return asyncio.run(call())

    def send_with_session_headers(self, url, headers):
        async def call():
            async with httpx.AsyncClient(headers=headers) as client:
                await client.get(url)
                return client.headers

        return asyncio.run(call())

    def send_signed(self, url, signer):
        def auth(request):
            signer(request.url.raw_path.decode(), request.headers)
            return request

        async def call():
            async with httpx.AsyncClient(auth=auth) as client:
                return (await client.get(url)).status_code

        return asyncio.run(call())

    def cancel(self, url, sent):
        async def call():
            async with httpx.AsyncClient() as client:
                task = asyncio.create_task(client.get(url))
                while not sent():
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(call())

    def raising(self, error):
        class Transport(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request):
                raise error

        async def call():
            async with httpx.AsyncClient(transport=Transport()) as client:
                await client.get("http://localhost/")

        run_to_its_exception(call())

    def test_concurrent_tasks_do_not_mix(self):
        async def call():
            async with httpx.AsyncClient() as client:
                await asyncio.gather(*(client.get(f"{self.peer.url}/concurrent/{number}") for number in range(32)))

        asyncio.run(call())
        clients = {span.attributes["url.full"].rpartition("/")[2]: span for span in self.spans.take(32)}
        for request in self.peer.take():
            assert request.header("traceparent") == clients[request.target.rpartition("/")[2]].traceparent


def run_to_its_exception(coroutine):
    """Drive a coroutine by hand: a loop would put its own hands on KeyboardInterrupt and on cancellation."""
    try:
        coroutine.send(None)
    finally:
        coroutine.close()
