"""What every HTTP client has to pass. The peer is real, and what counts is what came over the wire."""

import contextlib
import hashlib
import hmac
import itertools
import socket
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ClassVar

import pytest
from opentelemetry import baggage as otel_baggage
from opentelemetry import context as otel_context
from opentelemetry import propagate as otel_propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator as StockBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import lighttrace
from lighttrace import semconv
from lighttrace.testing.capture import Capture
from lighttrace.testing.kits.outgoing import OutgoingKit
from lighttrace.testing.peer import Peer, Recorded, refused
from lighttrace.testing.spans import CapturedSpan
from lighttrace.tracing.context import suppressed

Sign = Callable[[str, MutableMapping[str, str]], None]

_SECRETS = "X-Amz-Signature=planted1&sig=planted2&api_key=planted3&page=2"
_KEY = b"a secret of the service and its caller"
_SIGNED = ("host", "x-date")
_numbers = itertools.count()


def sign(target: str, headers: MutableMapping[str, str], host: str) -> None:
    """Sign some headers and name them, as AWS's signature version 4 does."""
    headers["X-Date"] = "20260801T000000Z"
    headers["Authorization"] = f"KIT {';'.join(_SIGNED)} {_signature(target, {'host': host, 'x-date': headers['X-Date']})}"


def _signature(target: str, values: Mapping[str, str]) -> str:
    text = "\n".join([target, *(f"{name}:{values[name]}" for name in _SIGNED)])
    return hmac.new(_KEY, text.encode(), hashlib.sha256).hexdigest()


def _is_valid(request: Recorded) -> bool:
    _, names, signature = (request.header("authorization") or "").split(" ")
    return signature == _signature(request.target, {name: request.header(name) or "" for name in names.split(";")})


class HttpClientKit(OutgoingKit):
    """The subclass says how to send a request, and what else its library can do."""

    peer: Peer
    attempts: ClassVar[int] = 3
    """How many times `retry` sends what is answered with 503 twice."""

    # -- what a subclass says ------------------------------------------------------------------------------------

    def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 10.0, follow: bool = False
    ) -> int:
        """Send one request, read all of the answer, and give its status."""
        raise NotImplementedError

    def stream(self, url: str) -> bytes:
        """Send a GET and read the body piece by piece; the body."""
        raise NotImplementedError

    def send_with_session_headers(self, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Make a session (client, pool) with these headers for all its requests, send a GET, and give its headers afterwards."""
        raise NotImplementedError

    def send_signed(self, url: str, signer: Sign) -> int:
        """Send a GET that the library's own hook for authentication signs: `signer(target, headers)`."""
        raise NotImplementedError

    def retry(self, url: str) -> int:
        """Send a GET with the library's own retries, on 503 too; the last status."""
        raise NotImplementedError

    def cancel(self, url: str, sent: Callable[[], bool]) -> None:
        """Start a GET, cancel it when `sent()` is true, and see the cancellation come out (async clients)."""
        raise NotImplementedError

    # -- what it makes of that -----------------------------------------------------------------------------------

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _peer(cls) -> Iterator[None]:
        with Peer() as cls.peer:
            yield

    @pytest.fixture(autouse=True)
    def _forget(self, _peer: None) -> None:
        self.peer.take()

    @pytest.fixture
    def stranger(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """The name of a host that is none of ours, and that nevertheless leads to the peer."""
        name, resolve = "bank.example.com", socket.getaddrinfo

        def elsewhere(host: Any, *args: Any, **kwargs: Any) -> Any:
            return resolve(self.peer.host if host in {name, name.encode()} else host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", elsewhere)
        return name

    def globals(self) -> dict[str, Any]:
        return {"URL": self.peer.url}

    def operations(self) -> dict[str, Callable[[], Any]]:
        url = self.peer.url
        operations: dict[str, Callable[[], Any]] = {
            "ok": lambda: self.send("GET", url + "/", headers={"X-Kit": "1"}),
            "not found": lambda: self.send("GET", url + "/status/404"),
            "redirect": lambda: self.send("GET", url + "/redirect/1", follow=True),
            "hang up": lambda: self.send("GET", url + "/hangup"),
            "stream": lambda: self.stream(url + "/stream"),
        }
        if self.supports("test_retries_are_attempts_of_their_own"):
            operations["retry"] = lambda: self.retry(f"{url}/flaky/1/{next(_numbers)}")
        return operations

    def call_once(self) -> Any:
        return self.send("GET", self.peer.url + "/")

    def one(self, spans: Capture | None = None) -> tuple[CapturedSpan, Recorded]:
        """The one span and the one request that there are."""
        (request,) = self.peer.take()
        return (spans or self.spans).take()[0], request

    # -- context -------------------------------------------------------------------------------------------------

    def test_call_without_a_parent_starts_a_trace(self) -> None:
        assert self.send("GET", self.peer.url + "/") == 200
        span, request = self.one()
        assert span.kind == "client"
        assert span.parent_id is None
        assert request.header("traceparent") == span.traceparent

    def test_call_below_a_span_is_its_child(self) -> None:
        with lighttrace.span("parent"):
            self.send("GET", self.peer.url + "/")
        parent = self.spans.expect(name="parent")
        span, request = self.one()
        assert (span.trace_id, span.parent_id) == (parent.trace_id, parent.span_id)
        assert request.header("traceparent") == span.traceparent

    def test_unsampled_call_still_propagates(self) -> None:
        with self.tracing(sampler="always_off", strict=True), lighttrace.span("parent") as parent:
            self.send("GET", self.peer.url + "/")
            (request,) = self.peer.take()
            header = request.header("traceparent") or ""
            assert header.split("-")[1] == f"{parent.get_span_context().trace_id:032x}"
            assert int(header.split("-")[3], 16) & 1 == 0

    def test_concurrent_calls_do_not_mix(self) -> None:
        def call(number: int) -> None:
            with lighttrace.span(f"caller {number}"):
                self.send("GET", f"{self.peer.url}/concurrent/{number}")

        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(copy_context().run, call, number) for number in range(32)]:
                future.result()
        spans = self.spans.take(64)
        callers = {span.name: span for span in spans if span.kind == "internal"}
        clients = {span.attributes[semconv.URL_FULL].rpartition("/")[2]: span for span in spans if span.kind == "client"}
        requests = {request.target.rpartition("/")[2]: request for request in self.peer.take()}
        for number in map(str, range(32)):
            assert clients[number].parent_id == callers[f"caller {number}"].span_id
            assert requests[number].header("traceparent") == clients[number].traceparent

    def test_suppressed_calls_are_not_traced(self) -> None:
        """The exporter's own traffic is sent like this."""
        with contextlib.contextmanager(suppressed)():
            self.send("GET", self.peer.url + "/")
        (request,) = self.peer.take()
        assert request.header("traceparent") is None
        self.spans.expect_none()

    # -- headers -------------------------------------------------------------------------------------------------

    def test_callers_headers_are_not_changed(self) -> None:
        headers = {"X-Own": "1"}
        self.send("GET", self.peer.url + "/", headers=headers)
        assert headers == {"X-Own": "1"}
        span, request = self.one()
        assert request.header("x-own") == "1"
        assert request.header("traceparent") == span.traceparent

    def test_sessions_headers_are_not_changed(self) -> None:
        after = self.send_with_session_headers(self.peer.url + "/", {"X-Session": "1"})
        span, request = self.one()
        assert request.header("x-session") == "1"
        assert request.header("traceparent") == span.traceparent
        assert after["X-Session"] == "1"
        assert not {"traceparent", "tracestate", "baggage"} & {name.lower() for name in after}

    @pytest.mark.parametrize("spelling", [str.lower, str.title])
    def test_header_set_by_the_caller_is_kept(self, spelling: Callable[[str], str]) -> None:
        mine = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        self.send("GET", self.peer.url + "/", headers={spelling("traceparent"): mine, spelling("baggage"): "a=b"})
        _, request = self.one()
        assert request.header("traceparent") == mine
        assert request.header("baggage") == "a=b"

    def test_callers_service_and_team_travel_in_the_baggage(self) -> None:
        self.send("GET", self.peer.url + "/")
        _, request = self.one()
        members = set((request.header("baggage") or "").split(","))
        assert members == {f"{semconv.CALLER_SERVICE}=kit", f"{semconv.CALLER_TEAM}=kit-team"}

    def test_transaction_and_foreign_baggage_travel_too(self) -> None:
        token = otel_context.attach(otel_baggage.set_baggage("user", "a b"))
        with lighttrace.transaction("buy a pot", customer="alice", hashed=False):
            self.send("GET", self.peer.url + "/")
        otel_context.detach(token)
        _, request = self.one()
        assert request.header("baggage") == (
            f"user=a%20b,{semconv.CALLER_SERVICE}=kit,{semconv.CALLER_TEAM}=kit-team,"
            f"{semconv.TRANSACTION}=buy%20a%20pot,{semconv.CUSTOMER}=alice"
        )

    @pytest.mark.parametrize("propagators", ["tracecontext,baggage", "b3,baggage", "jaeger", "ottrace", "the program's own"])
    def test_our_baggage_never_travels_to_strangers(self, propagators: str, stranger: str) -> None:
        own = propagators == "the program's own"
        with self.tracing(propagators=None if own else propagators) as spans:
            if own:
                otel_propagate.set_global_textmap(
                    CompositePropagator([TraceContextTextMapPropagator(), StockBaggagePropagator()])
                )
            with lighttrace.transaction("planted", customer="planted", hashed=False):
                token = otel_context.attach(otel_baggage.set_baggage("user", "alice"))
                self.send("GET", f"http://{stranger}:{self.peer.port}/")
                self.send("GET", self.peer.url + "/")
                otel_context.detach(token)
            outside, friend = self.peer.take()
            assert len(spans.take(2)) == 2
        assert b"lighttrace" not in outside.raw.lower() and b"planted" not in outside.raw
        assert b"alice" in outside.raw and b"alice" in friend.raw
        assert friend.raw.count(b"planted") == 2

    def test_our_baggage_stays_behind_where_a_redirect_leads_to_strangers(self, stranger: str) -> None:
        self.send("GET", f"{self.peer.url}/away/{stranger}", follow=True)
        ours, strangers = self.peer.take()
        assert semconv.CALLER_SERVICE in (ours.header("baggage") or "")
        assert strangers.header("baggage") is None
        assert [span.traceparent for span in self.spans.take(2)] == [ours.header("traceparent"), strangers.header("traceparent")]

    def test_other_formats_are_spoken(self) -> None:
        with self.tracing(propagators=("b3",), strict=True) as spans:
            self.send("GET", self.peer.url + "/redirect/1", follow=True)
            requests = self.peer.take()
            for span, request in zip(spans.take(2), requests, strict=True):
                assert (request.header("b3") or "").startswith(f"{span.trace_id}-{span.span_id}-1")
                assert request.header("traceparent") is None

    def test_signed_requests_stay_valid(self) -> None:
        host = f"{self.peer.host}:{self.peer.port}"
        status = self.send_signed(self.peer.url + "/signed?a=1", lambda target, headers: sign(target, headers, host))
        span, request = self.one()
        assert status == 200
        assert _is_valid(request)
        assert request.header("traceparent") == span.traceparent

    # -- what the span says --------------------------------------------------------------------------------------

    def test_span_says_what_was_asked_and_answered(self) -> None:
        self.send("POST", self.peer.url + "/orders/7?page=2")
        span, _ = self.one()
        assert span.name == "POST"
        assert span.status == "unset"
        assert {key: value for key, value in span.attributes.items() if key != semconv.TEAM} == {
            semconv.HTTP_REQUEST_METHOD: "POST",
            semconv.SERVER_ADDRESS: self.peer.host,
            semconv.SERVER_PORT: self.peer.port,
            semconv.URL_FULL: self.peer.url + "/orders/7?page=2",
            semconv.HTTP_RESPONSE_STATUS_CODE: 200,
        }

    def test_unknown_method_keeps_names_few(self) -> None:
        self.send("BREW", self.peer.url + "/")
        span, request = self.one()
        assert request.method == "BREW"
        assert span.name == "HTTP"
        assert span.attributes[semconv.HTTP_REQUEST_METHOD] == "_OTHER"
        assert span.attributes[semconv.HTTP_REQUEST_METHOD_ORIGINAL] == "BREW"

    def test_secrets_in_urls_are_redacted(self) -> None:
        self.send("GET", f"http://bob:planted0@{self.peer.host}:{self.peer.port}/a?{_SECRETS}")
        span, request = self.one()
        assert _SECRETS in request.target
        url = span.attributes[semconv.URL_FULL]
        assert "planted" not in repr(vars(span))
        assert url.startswith(("http://REDACTED:REDACTED@", f"http://{self.peer.host}")) and url.endswith("page=2")

    @pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 500, 503])
    def test_status_of_the_answer_decides(self, status: int) -> None:
        assert self.send("GET", f"{self.peer.url}/status/{status}") == status
        span, _ = self.one()
        assert span.attributes[semconv.HTTP_RESPONSE_STATUS_CODE] == status
        assert span.status == ("error" if status >= 400 else "unset")
        assert span.attributes.get(semconv.ERROR_TYPE) == (str(status) if status >= 400 else None)
        assert span.message is None
        assert not span.events

    def test_answers_of_one_target_are_told_apart(self) -> None:
        url = f"{self.peer.url}/flaky/4/{next(_numbers)}"
        statuses = [self.send("GET", url) for _ in range(8)]
        assert statuses == [503] * 4 + [200] * 4
        for status, span in zip(statuses, self.spans.take(8), strict=True):
            assert span.attributes[semconv.URL_FULL] == url
            assert span.attributes[semconv.HTTP_RESPONSE_STATUS_CODE] == status
            assert span.attributes.get(semconv.ERROR_TYPE) == ("503" if status == 503 else None)
            assert span.status == ("error" if status == 503 else "unset")

    @pytest.mark.parametrize("trouble", ["hang up", "timeout", "refused"])
    def test_failed_call_names_its_exception(self, trouble: str) -> None:
        url = {"hang up": self.peer.url + "/hangup", "timeout": self.peer.url + "/slow", "refused": refused() + "/"}[trouble]
        with pytest.raises(Exception) as caught:
            self.send("GET", url, timeout=0.1)
        span = self.spans.take()[0]
        kind = type(caught.value)
        assert span.status == "error"
        assert span.attributes[semconv.ERROR_TYPE] == f"{kind.__module__}.{kind.__qualname__}"
        assert semconv.HTTP_RESPONSE_STATUS_CODE not in span.attributes
        assert [event.attributes[semconv.EXCEPTION_TYPE] for event in span.exceptions] == [span.attributes[semconv.ERROR_TYPE]]

    def test_secrets_in_exceptions_are_redacted(self) -> None:
        with pytest.raises(Exception):  # noqa: B017  # each library has its own
            self.send("GET", f"{refused()}/a?{_SECRETS}")
        span = self.spans.take()[0]
        assert "planted" not in repr([vars(span), [(event.name, event.attributes) for event in span.events]])

    def test_cancelled_call_is_no_error(self) -> None:
        self.cancel(self.peer.url + "/slow", lambda: bool(self.peer.requests))
        span, _ = self.one()
        assert span.status == "unset"
        assert semconv.ERROR_TYPE not in span.attributes

    def test_chosen_headers_are_captured_and_no_others(self) -> None:
        with self.tracing(capture_request_headers=("X-Kit",), capture_response_headers=("Content-Length",), strict=True) as spans:
            self.send("GET", self.peer.url + "/", headers={"X-Kit": "seen", "X-Other": "planted"})
            span, _ = self.one(spans)
        assert span.attributes["http.request.header.x-kit"] == ("seen",)
        assert span.attributes["http.response.header.content-length"] == ("2",)
        assert "planted" not in repr(vars(span))

    # -- more than one request on the wire -----------------------------------------------------------------------

    def test_redirects_are_attempts_of_their_own(self) -> None:
        with lighttrace.span("parent"):
            assert self.send("GET", self.peer.url + "/redirect/2", follow=True) == 200
        parent = self.spans.expect(name="parent")
        self._check_attempts(parent, self.spans.take(3), [302, 302, 200])

    def test_retries_are_attempts_of_their_own(self) -> None:
        with lighttrace.span("parent"):
            assert self.retry(f"{self.peer.url}/flaky/{self.attempts - 1}/{next(_numbers)}") == 200
        parent = self.spans.expect(name="parent")
        self._check_attempts(parent, self.spans.take(self.attempts), [503] * (self.attempts - 1) + [200])

    def _check_attempts(self, parent: CapturedSpan, spans: list[CapturedSpan], statuses: list[int]) -> None:
        requests = self.peer.take()
        assert [span.attributes[semconv.HTTP_RESPONSE_STATUS_CODE] for span in spans] == statuses
        assert [request.header("traceparent") for request in requests] == [span.traceparent for span in spans]
        assert {span.parent_id for span in spans} == {parent.span_id}
        assert all(before.end_ns <= after.start_ns for before, after in itertools.pairwise(spans))

    def test_redirects_are_counted(self) -> None:
        self.send("GET", self.peer.url + "/redirect/2", follow=True)
        counts = [span.attributes.get(semconv.HTTP_REQUEST_RESEND_COUNT) for span in self.spans.take(3)]
        assert counts == [None, 1, 2]

    def test_retries_are_counted(self) -> None:
        self.retry(f"{self.peer.url}/flaky/{self.attempts - 1}/{next(_numbers)}")
        counts = [span.attributes.get(semconv.HTTP_REQUEST_RESEND_COUNT) for span in self.spans.take(self.attempts)]
        assert counts == [None, *range(1, self.attempts)]

    def test_streamed_answer_is_one_span(self) -> None:
        assert self.stream(self.peer.url + "/stream") == b"onetwothree"
        span, _ = self.one()
        assert span.attributes[semconv.HTTP_RESPONSE_STATUS_CODE] == 200

    def test_span_made_while_reading_is_no_child(self) -> None:
        """The call's span ends with the headers: what follows belongs to whoever reads."""
        with lighttrace.span("parent"):
            self.send("GET", self.peer.url + "/")
            with lighttrace.span("afterwards"):
                pass
        afterwards, parent = self.spans.expect(name="afterwards"), self.spans.expect(name="parent")
        span = self.spans.take()[0]
        assert afterwards.parent_id == span.parent_id == parent.span_id
