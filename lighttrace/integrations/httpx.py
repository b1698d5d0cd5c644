"""Trace requests sent through httpx, sync and async: one span per request on the wire, redirects and auth included."""

from lighttrace.instrument import ArrivalPatch, FollowPatch, HttpClientPatch, Integration, RawHeaders


def read_request(client, request):
    # Behind the URL, a tuple that `str` makes the same text of (private, read in 0.23 to 0.28): that text costs 60 steps.
    return request.method, getattr(request.url, "_uri_reference", request.url), RawHeaders(request.headers)


def read_status(response):
    return response.status_code


def read_headers(response):
    return response.headers


def read_attempt(client, request):
    return request


def read_attempts(client, request, response):
    return (request,)


# Private, and read in 0.23 to 0.28: the public `Client.send` follows redirects inside, and the public
# `BaseTransport.handle_request` is overridden by every transport that a user brings.
INTEGRATION = Integration(
    name="httpx",
    requires="httpx>=0.23",
    patches=(
        HttpClientPatch(
            "httpx:Client._send_single_request", read_request, read_status, read_headers=read_headers, read_attempt=read_attempt
        ),
        HttpClientPatch(
            "httpx:AsyncClient._send_single_request",
            read_request,
            read_status,
            read_headers=read_headers,
            read_attempt=read_attempt,
        ),
        # Called for redirects only, and as private: nothing public says which request was made from which.
        FollowPatch("httpx._client:BaseClient._build_redirect_request", read_attempts),
        # Builds a request for the standard library's cookies, header by header.
        ArrivalPatch("httpx:Cookies.extract_cookies"),
    ),
)
