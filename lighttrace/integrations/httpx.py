"""Trace requests sent through httpx, sync and async: one span per request on the wire, redirects and auth included."""

from operator import attrgetter

import httpx

from lighttrace.instrument import FollowPatch, HeadPatch, Integration, LateHeaders, LateRequestPatch, RawHeaders

# Private, and the same in h11 0.11 to 0.16. Called for each head; the public `Connection.send`, for each part of a body, too.
HEADS = HeadPatch("h11._writers:write_headers")
PLAIN = frozenset(getattr(httpx, name, None) for name in ("HTTPTransport", "AsyncHTTPTransport"))

read_status = attrgetter("status_code")


def read_request(client, request):
    try:
        # Private, and read in 0.23 to 0.28 (httpcore 0.15 to 1.0): nothing public says whether a request will go over HTTP/1.1.
        transport = client._transport
        late = HEADS.ready and type(transport) in PLAIN and not client._mounts and not transport._pool._http2
    except AttributeError:
        late = False
    url = request.url
    try:
        # Behind the URL, a tuple that `str` makes the same text of (private, read in 0.23 to 0.28): that text costs 60 steps.
        url = url._uri_reference
    except AttributeError:
        pass
    return request.method, url, request.headers, LateHeaders if late else RawHeaders


def read_headers(response):
    return response.headers


def read_attempt(client, request):
    return request


def read_attempts(client, request, response):
    return (request,)


def calls_of(target):
    return LateRequestPatch(target, read_request, read_status, HEADS, PLAIN, read_headers=read_headers, read_attempt=read_attempt)


# Private, and read in 0.23 to 0.28: the public `Client.send` follows redirects inside, and the public
# `BaseTransport.handle_request` is overridden by every transport that a user brings.
INTEGRATION = Integration(
    name="httpx",
    requires="httpx>=0.23",
    patches=(
        calls_of("httpx:Client._send_single_request"),
        calls_of("httpx:AsyncClient._send_single_request"),
        # Called for redirects only, and as private: nothing public says which request was made from which.
        FollowPatch("httpx._client:BaseClient._build_redirect_request", read_attempts),
        HEADS,
    ),
)
