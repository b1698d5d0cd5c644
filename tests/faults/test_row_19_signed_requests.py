"""Requests that are signed stay valid, and no header that a caller set is changed."""

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

import lighttrace
from lighttrace.testing.peer import Peer, Recorded
from tests.faults.conftest import Record

CREDENTIALS = Credentials("AKIDEXAMPLE", "not-a-real-key")


class Signer(SigV4Auth):
    """AWS's own code, which has left trace headers out since tracers broke signatures; others that sign do not."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        chosen = super().headers_to_sign(request)
        for name in ("traceparent", "baggage"):
            if name not in chosen and name in request.headers:
                chosen[name] = request.headers[name]
        return chosen


Send = Callable[[str, dict[str, str], bytes], object]


def signature(method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    """The headers of that request, all of them signed as AWS does."""
    request = AWSRequest(method, url, dict(headers), body)
    Signer(CREDENTIALS, "s3", "eu-west-1").add_auth(request)
    return {**dict(request.headers.items()), "Host": urlsplit(url).netloc}


def verify(base: str, got: Recorded) -> None:
    """As the service does: sign anew what arrived, those headers that were signed, and compare."""
    said = got.header("authorization")
    assert said is not None
    names = said.split("SignedHeaders=")[1].split(",")[0].split(";")
    request = AWSRequest(got.method, base + got.target, {name: got.header(name) for name in names}, got.body)
    request.context["timestamp"] = got.header("x-amz-date")
    signer = Signer(CREDENTIALS, "s3", "eu-west-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert said.split("Signature=")[1] == signer.signature(text, request)


def through_requests(url: str, headers: dict[str, str], body: bytes) -> object:
    import requests

    return requests.put(url, headers=headers, data=body, timeout=10)


def through_urllib3(url: str, headers: dict[str, str], body: bytes) -> object:
    import urllib3

    return urllib3.PoolManager().request("PUT", url, headers=headers, body=body)


def through_httpx(url: str, headers: dict[str, str], body: bytes) -> object:
    import httpx

    return httpx.put(url, headers=headers, content=body)


LIBRARIES = pytest.mark.parametrize("send", [through_requests, through_urllib3, through_httpx])


@LIBRARIES
@pytest.mark.parametrize("presets", [False, True], ids=["unsigned trace", "signed trace"])
def test_a_signed_request_stays_valid_and_its_headers_as_they_were(send: Send, presets: bool, record: Record) -> None:
    own = {"X-Amz-Meta-A": "b", "Content-Type": "text/plain"}
    if presets:  # the program sends its own trace headers, and signs them
        own |= {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "a=b"}
    lighttrace.init(service="row19", exporter="memory", propagators="tracecontext,baggage,b3")
    try:
        with Peer() as peer:
            url = f"{peer.url}/bucket/key?list-type=2"
            headers = signature("PUT", url, own, b"content")
            assert ("traceparent" in headers["Authorization"]) == presets
            before = dict(headers)
            with lighttrace.span("upload"):
                send(url, headers, b"content")
            (got,) = peer.take()
    finally:
        lighttrace.shutdown()
    assert headers == before
    for name, value in before.items():
        assert got.header(name) == value
    assert got.header("traceparent") is not None
    verify(peer.url, got)
    record(
        19,
        "a request signed with AWS SigV4, through requests, urllib3 and httpx",
        "the signature is valid on arrival; no header that was set is changed, a signed traceparent included",
        "",
    )


def test_the_verification_notices_a_changed_header() -> None:
    with Peer() as peer:
        url = f"{peer.url}/bucket/key"
        headers = signature("PUT", url, {"X-Amz-Meta-A": "b"}, b"content")
        through_urllib3(url, headers | {"X-Amz-Meta-A": "c"}, b"content")
        (got,) = peer.take()
        with pytest.raises(AssertionError):
            verify(peer.url, got)
