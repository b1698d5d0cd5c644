"""requests, against a real peer."""

import requests
from requests.adapters import HTTPAdapter

from lighttrace.integrations.requests import INTEGRATION
from lighttrace.testing.kits import HttpClientKit
from tests.integrations.requests_calls import RequestsCalls


class TestRequests(RequestsCalls, HttpClientKit):
    integration = INTEGRATION
    library = "requests"
    imports = """
import requests
from requests import get, Session
class Mine(Session):
    def send(self, request, **kwargs):
        return super().send(request, **kwargs)
"""
    uses = {
        "through the module": "requests.get(URL)",
        "a name imported before": "get(URL)",
        "a session": "with Session() as s: s.get(URL)",
        "a subclass made before": "with Mine() as s: s.get(URL)",
        "a prepared request": "with Session() as s: s.send(s.prepare_request(requests.Request('GET', URL)))",
    }
    unsupported = {
        "test_cancelled_call_is_no_error": "a synchronous library: nothing cancels its calls",
        "test_retries_are_attempts_of_their_own": "retries are urllib3's: see TestRequestsOverUrllib3",
        "test_retries_are_counted": "as above",
    }

    def test_headers_of_a_program_s_own_kind_carry_the_trace(self):
        with requests.Session() as session:
            request = requests.Request("GET", self.peer.url).prepare()
            request.headers = {"X-Mine": "1"}
            session.send(request)
        span, sent = self.one()
        assert sent.header("traceparent") == span.traceparent
        assert sent.header("x-mine") == "1"
        assert request.headers == {"X-Mine": "1"}

    def raising(self, error):
        class Adapter(HTTPAdapter):
            def send(self, *args, **kwargs):
                raise error

        with requests.Session() as session:
            session.mount("http://", Adapter())
            session.get(self.peer.url)
