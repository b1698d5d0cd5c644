"""httpx, sync and async, against a real peer."""

import asyncio
import gc

import httpx
import pytest

from lighttrace import semconv
from lighttrace.instrument import resends
from lighttrace.integrations.httpx import INTEGRATION
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
