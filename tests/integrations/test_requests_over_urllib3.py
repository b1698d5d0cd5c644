"""requests with urllib3 traced as well: one span, and its headers, whatever comes in between."""

import contextlib
import functools
import http.client

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

import lighttrace
from lighttrace.integrations.requests import INTEGRATION as REQUESTS
from lighttrace.integrations.urllib3 import INTEGRATION as URLLIB3
from lighttrace.testing.kits import HttpClientKit
from lighttrace.testing.peer import Peer, refused
from tests.integrations.requests_calls import RequestsCalls


class TestRequestsOverUrllib3(RequestsCalls, HttpClientKit):
    """Both in place: requests' call has the span, and urllib3 adds one only for an attempt of its own."""

    integration = REQUESTS
    library = "requests"
    imports = "import requests, urllib3"
    uses = {"both": "requests.get(URL)"}
    unsupported = {
        "test_cancelled_call_is_no_error": "a synchronous library: nothing cancels its calls",
        "test_exceptions_pass_as_the_same_object": "see TestRequests",
    }

    @pytest.fixture(autouse=True)
    def _both(self, _traced):
        URLLIB3.enable()
        yield
        URLLIB3.disable()

    @contextlib.contextmanager
    def disabled(self):
        URLLIB3.disable()
        with super().disabled():
            yield
        URLLIB3.enable()

    def retry(self, url):
        with requests.Session() as session:
            session.mount("http://", HTTPAdapter(max_retries=urllib3.Retry(5, status_forcelist=[503])))
            return session.get(url).status_code

    def test_failed_call_is_one_span_of_the_library_that_was_called(self):
        with lighttrace.span("parent"), pytest.raises(requests.ConnectionError):
            requests.get(refused(), timeout=10)
        self.spans.expect(name="parent", status="unset")
        assert self.spans.take()[0].scope == "lighttrace.requests"

    # -- the headers on their way ------------------------------------------------------

    @contextlib.contextmanager
    def through(self, pool_class):
        """A session whose requests go through pools of that class."""

        class Adapter(HTTPAdapter):
            def init_poolmanager(self, *args, **kwargs):
                super().init_poolmanager(*args, **kwargs)
                self.poolmanager.pool_classes_by_scheme = {"http": pool_class}

        with requests.Session() as session:
            session.mount("http://", Adapter())
            yield session

    def parents(self):
        return [request.header("traceparent") for request in self.peer.take()]

    def test_headers_are_the_request_s_own_during_the_call_and_come_last(self):
        seen = []

        class Adapter(HTTPAdapter):
            def send(self, request, **options):
                seen.append(dict(request.headers))
                response = super().send(request, **options)
                seen.append(dict(request.headers))
                return response

        with requests.Session() as session:
            session.mount("http://", Adapter())
            response = session.post(self.peer.url, data=b"body", headers={"X-Mine": "1"})
        span, request = self.one()
        assert seen[0]["traceparent"] == span.traceparent == request.header("traceparent")
        assert [name for name, _ in request.headers][-2:] == ["traceparent", "baggage"]
        assert request.header("baggage") == seen[0]["baggage"]
        assert request.header("x-mine") == "1"
        assert request.body == b"body"
        assert seen[1] == seen[0]
        assert not {"traceparent", "baggage"} & set(response.request.headers)

    def test_request_that_is_sent_twice_carries_each_call_s_own(self):
        with requests.Session() as session:
            request = session.prepare_request(requests.Request("GET", self.peer.url))
            before = dict(request.headers)
            session.send(request)
            session.send(request)
            assert dict(request.headers) == before
        assert self.parents() == [span.traceparent for span in self.spans.take(2)]

    def test_adapter_that_sends_again_by_itself_sends_them_again(self):
        class Adapter(HTTPAdapter):
            def send(self, request, **options):
                super().send(request, **options)
                return super().send(request, **options)

        with requests.Session() as session:
            session.mount("http://", Adapter())
            session.get(self.peer.url)
        (span,) = self.spans.take()
        assert self.parents() == [span.traceparent] * 2

    def test_adapter_that_tries_elsewhere_after_a_failure_sends_them(self):
        peer = self.peer

        class Adapter(HTTPAdapter):
            def send(self, request, **options):
                try:
                    return super().send(request, **options)
                except requests.ConnectionError:
                    request.url = peer.url
                    return super().send(request, **options)

        with requests.Session() as session:
            session.mount("http://", Adapter())
            session.get(refused())
        (span,) = self.spans.take()
        assert self.parents() == [span.traceparent]

    def test_retry_after_a_connection_that_failed_carries_its_own(self):
        lost = iter((True,))

        class Connection(urllib3.connection.HTTPConnection):
            def connect(self):
                if next(lost, False):
                    raise urllib3.exceptions.NewConnectionError(self, "not yet")
                super().connect()

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Connection

        with self.through(Pool) as session:
            session.adapters["http://"].max_retries = urllib3.Retry(2)
            session.get(self.peer.url)
        spans = self.spans.take(2)
        assert self.parents() == [spans[1].traceparent]

    @pytest.mark.parametrize(
        "theirs", [{"traceparent": "theirs"}, {"baggage": "theirs=1"}, {"Traceparent": "theirs", "Baggage": "b=1"}]
    )
    def test_what_the_caller_has_set_stays_as_it_is(self, theirs):
        response = requests.get(self.peer.url, headers=theirs, timeout=10)
        span, request = self.one()
        for name, value in theirs.items():
            assert request.header(name) == value
            assert response.request.headers[name] == value
        assert request.header("traceparent") == theirs.get("traceparent", theirs.get("Traceparent", span.traceparent))

    @pytest.mark.parametrize("fails", [False, True])
    def test_what_the_caller_has_set_survives_a_failure(self, fails):
        request = requests.Request("GET", refused() if fails else self.peer.url, headers={"baggage": "theirs=1"}).prepare()
        with requests.Session() as session, contextlib.suppress(requests.ConnectionError):
            session.send(request)
        assert dict(request.headers) == {"baggage": "theirs=1"}
        assert self.spans.take()[0].status == ("error" if fails else "unset")

    def test_connections_that_look_at_the_head_find_them_there(self):
        seen = []

        class Connection(urllib3.connection.HTTPConnection):
            def endheaders(self, *args, **kwargs):
                seen.append(b"\r\n".join(self._buffer).lower())
                super().endheaders(*args, **kwargs)

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Connection

        with self.through(Pool) as session:
            session.get(self.peer.url)
        span, request = self.one()
        assert request.header("traceparent") == span.traceparent
        assert span.traceparent.encode() in seen[0]

    def test_so_does_a_program_that_has_wrapped_http_client(self, monkeypatch):
        ours = http.client.HTTPConnection.endheaders
        monkeypatch.setattr(http.client.HTTPConnection, "endheaders", lambda self, *args, **kwargs: ours(self, *args, **kwargs))
        requests.get(self.peer.url, timeout=10)
        span, request = self.one()
        assert request.header("traceparent") == span.traceparent

    @pytest.mark.parametrize("through", ["urllib3", "requests", "http.client"])
    def test_request_on_the_way_of_another_leaves_it_its_headers(self, through, monkeypatch):
        with Peer() as elsewhere:

            def ask():
                if through == "urllib3":
                    urllib3.PoolManager().request("GET", elsewhere.url, headers={})
                elif through == "requests":
                    requests.get(elsewhere.url, timeout=10)
                else:
                    connection = http.client.HTTPConnection(elsewhere.host, elsewhere.port)
                    connection.request("GET", "/")
                    connection.getresponse().read()
                    connection.close()

            for name in ("__init__", "connect", "getresponse"):
                monkeypatch.setattr(
                    urllib3.connection.HTTPConnection, name, asking(getattr(urllib3.connection.HTTPConnection, name), ask)
                )
            requests.get(self.peer.url, timeout=10)
            assert {request.header("traceparent") for request in elsewhere.take()} == {None}
        (span,) = self.spans.take()
        assert self.parents() == [span.traceparent]

    def test_so_does_one_that_fails(self, monkeypatch):
        def ask():
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                urllib3.PoolManager().request("GET", refused(), retries=False)

        connect = urllib3.connection.HTTPConnection.connect
        monkeypatch.setattr(urllib3.connection.HTTPConnection, "connect", asking(connect, ask))
        requests.get(self.peer.url, timeout=10)
        (span,) = self.spans.take()
        assert self.parents() == [span.traceparent]

    def test_through_a_proxy(self):
        requests.get("http://users.internal/", proxies={"http": self.peer.url}, timeout=10)
        span, request = self.one()
        assert request.target == "http://users.internal/"
        assert request.header("traceparent") == span.traceparent

    def test_where_urllib3_makes_no_copy(self, monkeypatch):
        # As through a tunnel, which leaves proxies nothing to read.
        monkeypatch.setattr(urllib3.connectionpool, "connection_requires_http_tunnel", lambda *_: True)
        request = requests.Request("POST", self.peer.url, data=b"body").prepare()
        before = dict(request.headers)
        with requests.Session() as session:
            session.send(request)
        span, sent = self.one()
        assert sent.header("traceparent") == span.traceparent
        assert sent.header("baggage")
        assert sent.body == b"body"
        assert dict(request.headers) == before


def asking(function, ask):
    """`function`, before which somebody asks something; but not while it is asked."""
    busy = []

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        if not busy:
            busy.append(True)
            try:
                ask()
            finally:
                busy.clear()
        return function(*args, **kwargs)

    return wrapper
