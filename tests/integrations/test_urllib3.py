"""urllib3 by itself, against a real peer."""

from urllib.parse import urlsplit

import pytest
import urllib3

from lighttrace import semconv
from lighttrace.integrations.urllib3 import INTEGRATION
from lighttrace.testing.kits import HttpClientKit
from lighttrace.testing.peer import refused


class TestUrllib3(HttpClientKit):
    integration = INTEGRATION
    library = "urllib3"
    imports = """
import urllib3
from urllib3 import HTTPConnectionPool, PoolManager, request
from urllib.parse import urlsplit
class Mine(HTTPConnectionPool):
    def urlopen(self, *args, **kwargs):
        return super().urlopen(*args, **kwargs)
parts = urlsplit(URL)
"""
    uses = {
        "through the module": "urllib3.request('GET', URL)",
        "a name imported before": "request('GET', URL)",
        "a pool manager": "with PoolManager() as pool: pool.request('GET', URL)",
        "a pool": "with HTTPConnectionPool(parts.hostname, parts.port) as pool: pool.urlopen('GET', '/')",
        "a subclass made before": "with Mine(parts.hostname, parts.port) as pool: pool.urlopen('GET', '/')",
        "headers by position": "with HTTPConnectionPool(parts.hostname, parts.port) as pool: pool.urlopen('GET', '/', None, {'a': 'b'})",
    }
    unsupported = {
        "test_cancelled_call_is_no_error": "a synchronous library: nothing cancels its calls",
    }

    def send(self, method, url, *, headers=None, timeout=10.0, follow=False):
        parts = urlsplit(url)
        if parts.username:  # urllib3 leaves user info to its callers, who put it into the URL that is logged
            headers = {**urllib3.make_headers(basic_auth=f"{parts.username}:{parts.password}"), **(headers or {})}
        with urllib3.PoolManager() as pool:
            return pool.request(
                method, url, headers=headers, timeout=timeout, redirect=follow, retries=None if follow else False
            ).status

    def stream(self, url):
        with urllib3.PoolManager() as pool:
            response = pool.request("GET", url, preload_content=False)
            body = b"".join(response.stream(3))
            response.release_conn()
            return body

    def send_with_session_headers(self, url, headers):
        with urllib3.PoolManager(headers=headers) as pool:
            pool.request("GET", url)
            return pool.headers

    def send_signed(self, url, signer):
        parts = urlsplit(url)
        headers = {}
        signer(f"{parts.path}?{parts.query}", headers)
        with urllib3.PoolManager() as pool:
            return pool.request("GET", url, headers=headers).status

    def retry(self, url):
        with urllib3.PoolManager(retries=urllib3.Retry(5, status_forcelist=[503])) as pool:
            return pool.request("GET", url).status

    def raising(self, error):
        class Connection(urllib3.connection.HTTPConnection):
            def request(self, *args, **kwargs):
                raise error

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Connection

        with Pool("127.0.0.1", 1) as pool:
            pool.urlopen("GET", "/")

    def test_shared_headers_of_a_pool_are_not_written_to(self):
        parts = urlsplit(self.peer.url)
        with urllib3.HTTPConnectionPool(parts.hostname, parts.port, headers={"X-Pool": "1"}) as pool:
            pool.urlopen("GET", "/")
            assert pool.headers == {"X-Pool": "1"}
        span, request = self.one()
        assert request.header("x-pool") == "1"
        assert request.header("traceparent") == span.traceparent

    def test_retries_and_redirects_are_counted_together(self):
        lost = iter((True,))

        class Connection(urllib3.connection.HTTPConnection):
            def request(self, *args, **kwargs):
                if next(lost, False):
                    raise urllib3.exceptions.ProtocolError("lost on the way")
                super().request(*args, **kwargs)

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Connection

        with urllib3.PoolManager() as pool:
            pool.pool_classes_by_scheme = {"http": Pool}
            assert pool.request("GET", self.peer.url + "/redirect/2").status == 200
        counts = [span.attributes.get(semconv.HTTP_REQUEST_RESEND_COUNT) for span in self.spans.take(4)]
        assert counts == [None, 1, 2, 3]

    def test_retries_that_are_used_up_give_the_callers_exception(self):
        with urllib3.PoolManager() as pool, pytest.raises(urllib3.exceptions.MaxRetryError):
            pool.request("GET", refused(), retries=2)
        spans = self.spans.take(3)
        assert [span.status for span in spans] == ["error"] * 3
        assert spans[-1].attributes[semconv.ERROR_TYPE] == "urllib3.exceptions.MaxRetryError"
