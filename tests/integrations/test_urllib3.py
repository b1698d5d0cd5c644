"""urllib3 by itself, and under requests, against a real peer."""

import contextlib
from urllib.parse import urlsplit

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

import lighttrace
from lighttrace import semconv
from lighttrace.integrations.requests import INTEGRATION as REQUESTS
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


class TestRequestsOverUrllib3(HttpClientKit):
    """Both in place: requests' call has the span, and urllib3 adds one only for an attempt of its own."""

    integration = REQUESTS
    library = "requests"
    imports = "import requests, urllib3"
    uses = {"both": "requests.get(URL)"}
    unsupported = {
        "test_cancelled_call_is_no_error": "a synchronous library: nothing cancels its calls",
        "test_sessions_headers_are_not_changed": "see TestRequests",
        "test_signed_requests_stay_valid": "see TestRequests",
        "test_exceptions_pass_as_the_same_object": "see TestRequests",
    }

    @pytest.fixture(autouse=True)
    def _both(self, _traced):
        INTEGRATION.enable()
        yield
        INTEGRATION.disable()

    @contextlib.contextmanager
    def disabled(self):
        INTEGRATION.disable()
        with super().disabled():
            yield
        INTEGRATION.enable()

    def send(self, method, url, *, headers=None, timeout=10.0, follow=False):
        return requests.request(method, url, headers=headers, timeout=timeout, allow_redirects=follow).status_code

    def stream(self, url):
        with requests.get(url, stream=True, timeout=10) as response:
            return b"".join(response.iter_content(3))

    def retry(self, url):
        with requests.Session() as session:
            session.mount("http://", HTTPAdapter(max_retries=urllib3.Retry(5, status_forcelist=[503])))
            return session.get(url).status_code

    def test_failed_call_is_one_span_of_the_library_that_was_called(self):
        with lighttrace.span("parent"), pytest.raises(requests.ConnectionError):
            requests.get(refused(), timeout=10)
        self.spans.expect(name="parent", status="unset")
        assert self.spans.take()[0].scope == "lighttrace.requests"
