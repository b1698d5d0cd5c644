"""requests with urllib3 traced as well, whose seam writes the headers where the head of the request ends."""

import contextlib
import functools
import http.client
import inspect
from urllib.parse import urlsplit

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict

import lighttrace
from lighttrace import guard
from lighttrace.integrations.requests import INTEGRATION as REQUESTS
from lighttrace.integrations.urllib3 import CONNECTIONS
from lighttrace.integrations.urllib3 import INTEGRATION as URLLIB3
from lighttrace.testing.kits import HttpClientKit
from lighttrace.testing.kits.integration import BrokenError
from lighttrace.testing.peer import Peer, refused

SEAMS = {
    "endheaders": http.client.HTTPConnection,
    "request": urllib3.connection.HTTPConnection,
    "urlopen": urllib3.HTTPConnectionPool,
}
URLLIB3_2 = not urllib3.__version__.startswith("1.")
BEFORE = {name: getattr(owner, name) for name, owner in SEAMS.items()}


class TestRequestsOverUrllib3(HttpClientKit):
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

    def send(self, method, url, *, headers=None, timeout=10.0, follow=False):
        return requests.request(method, url, headers=headers, timeout=timeout, allow_redirects=follow).status_code

    def stream(self, url):
        with requests.get(url, stream=True, timeout=10) as response:
            return b"".join(response.iter_content(3))

    def send_with_session_headers(self, url, headers):
        with requests.Session() as session:
            session.headers.update(headers)
            session.get(url)
            return session.headers

    def send_signed(self, url, signer):
        class Signed(AuthBase):
            def __call__(self, request):
                parts = urlsplit(request.url)
                signer(f"{parts.path}?{parts.query}", request.headers)
                return request

        return requests.get(url, auth=Signed(), timeout=10).status_code

    def retry(self, url):
        with requests.Session() as session:
            session.mount("http://", HTTPAdapter(max_retries=urllib3.Retry(5, status_forcelist=[503])))
            return session.get(url).status_code

    def test_failed_call_is_one_span_of_the_library_that_was_called(self):
        with lighttrace.span("parent"), pytest.raises(requests.ConnectionError):
            requests.get(refused(), timeout=10)
        self.spans.expect(name="parent", status="unset")
        assert self.spans.take()[0].scope == "lighttrace.requests"

    # -- the headers, which are written where the head ends ------------------------------------------------------

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

    def passed_on(self, monkeypatch):
        """What urllib3 gets in the place of the request's headers, from now on."""
        seen, passed_on = [], CONNECTIONS.passed_on

        def noting(call, pool, headers):
            seen.append(passed_on(call, pool, headers))
            return seen[-1]

        monkeypatch.setattr(CONNECTIONS, "passed_on", noting)
        return seen

    def test_usually_urllib3_gets_what_its_copies_leave_ours_out_of(self, monkeypatch):
        seen = self.passed_on(monkeypatch)
        requests.get(self.peer.url, timeout=10)
        span, request = self.one()
        (given,) = seen
        assert type(given) is not CaseInsensitiveDict if URLLIB3_2 else type(given) is CaseInsensitiveDict
        assert isinstance(given, CaseInsensitiveDict)
        assert type(given).__qualname__ == "CaseInsensitiveDict"
        assert request.header("traceparent") == span.traceparent
        again = given.copy()
        assert isinstance(again, CaseInsensitiveDict)
        assert dict(again.copy()) == dict(again) == dict(given)

    @pytest.mark.parametrize("when", ["before", "afterwards"])
    @pytest.mark.parametrize(
        ("owner", "name"),
        [
            (urllib3.HTTPConnectionPool, "urlopen"),
            (urllib3.HTTPConnectionPool, "_get_conn"),
            (urllib3.HTTPConnectionPool, "_new_conn"),
            (urllib3.HTTPConnectionPool, "_make_request"),
            (urllib3.connection.HTTPConnection, "request"),
            (urllib3.connection.HTTPConnection, "putrequest"),
            (urllib3.connection.HTTPConnection, "putheader"),
            (http.client.HTTPConnection, "putrequest"),
            (http.client.HTTPConnection, "putheader"),
            (http.client.HTTPConnection, "endheaders"),
        ],
    )
    def test_whoever_has_wrapped_a_step_finds_them_where_they_always_were(self, owner, name, when, monkeypatch):
        seen = self.passed_on(monkeypatch)
        if when == "before":
            URLLIB3.disable()
        else:
            requests.get(self.peer.url, timeout=10)
        found = getattr(owner, name)
        theirs = functools.wraps(found)(lambda *args, **kwargs: found(*args, **kwargs))
        monkeypatch.setattr(owner, name, theirs)
        URLLIB3.enable()
        requests.get(self.peer.url, timeout=10)
        span = self.spans.take(1 if when == "before" else 2)[-1]
        request = self.peer.take()[-1]
        if name != "urlopen" or when == "before":
            assert type(seen[-1]) is CaseInsensitiveDict
        assert request.header("traceparent") == span.traceparent
        assert request.header("baggage")
        URLLIB3.disable()
        monkeypatch.undo()
        URLLIB3.enable()

    @pytest.mark.parametrize("name", ["_get_conn", "_new_conn", "_make_request"])
    def test_so_does_who_gives_one_pool_a_way_of_its_own(self, name, monkeypatch):
        seen = self.passed_on(monkeypatch)
        with requests.Session() as session:
            session.get(self.peer.url)
            pools = session.adapters["http://"].poolmanager.pools
            (pool,) = [pools[key] for key in pools.keys()]  # noqa: SIM118  # it cannot be iterated over
            setattr(pool, name, functools.partial(getattr(pool, name)))
            session.get(self.peer.url)
        span = self.spans.take(2)[-1]
        request = self.peer.take()[-1]
        assert type(seen[-1]) is CaseInsensitiveDict
        assert request.header("traceparent") == span.traceparent

    def test_body_of_unknown_length_comes_after_them(self):
        requests.post(self.peer.url + "/hangup-not", data=iter([b"one", b"two"]), timeout=10)
        span = self.spans.take()[0]
        request = self.peer.take()[0]
        assert request.header("transfer-encoding") == "chunked"
        assert request.header("traceparent") == span.traceparent

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

        before = guard.counters.get("propagation.head_missed", 0)
        with requests.Session() as session:
            session.mount("http://", Adapter())
            session.get(refused())
        (span,) = self.spans.take()
        assert self.parents() == [span.traceparent]
        assert guard.counters.get("propagation.head_missed", 0) == before

    def test_retry_after_a_connection_that_failed_is_no_head_that_was_missed(self):
        lost = iter((True,))

        class Connection(urllib3.connection.HTTPConnection):
            def connect(self):
                if next(lost, False):
                    raise urllib3.exceptions.NewConnectionError(self, "not yet")
                super().connect()

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Connection

        before = guard.counters.get("propagation.head_missed", 0)
        with self.through(Pool) as session:
            session.adapters["http://"].max_retries = urllib3.Retry(2)
            session.get(self.peer.url)
        spans = self.spans.take(2)
        assert self.parents() == [spans[1].traceparent]
        assert guard.counters.get("propagation.head_missed", 0) == before

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

    def test_connections_that_end_heads_otherwise_get_them_from_the_request(self):
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

    def test_so_does_a_program_that_has_wrapped_the_seam(self, monkeypatch):
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

    @pytest.mark.contained
    @pytest.mark.parametrize("path", ["", "/hangup"])
    def test_head_that_could_not_be_added_to_is_the_last_one(self, path, monkeypatch):
        class Lines(list):
            def append(self, line):
                if b"\r\n" in line:
                    raise BrokenError
                super().append(line)

        kind = urllib3.connection.HTTPConnection
        monkeypatch.setattr(
            kind,
            "_buffer",
            property(lambda self: self._lines, lambda self, lines: setattr(self, "_lines", Lines(lines))),
            raising=False,
        )
        if not URLLIB3_2:
            pytest.skip("urllib3 1.26 writes each header by itself")
        before = guard.counters.get("propagation.head_missed", 0)
        with self.tracing(contained=True) as spans, requests.Session() as session:
            for _ in range(3):
                with contextlib.suppress(requests.ConnectionError):
                    session.get(self.peer.url + path)
            made = spans.take(3)
        assert self.parents() == [None, *[span.traceparent for span in made[1:]]]
        assert guard.counters["propagation.head_missed"] == before + 1

    # -- the seams themselves ------------------------------------------------------------------------------------

    def test_seams_look_like_what_they_stand_for_and_are_gone_afterwards(self):
        for name, owner in SEAMS.items():
            assert getattr(owner, name) is not BEFORE[name]
            assert inspect.signature(getattr(owner, name)) == inspect.signature(BEFORE[name])
        with self.disabled():
            for name, owner in SEAMS.items():
                assert getattr(owner, name) is BEFORE[name]


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
