"""Trace requests sent through requests: one span per request on the wire, redirects included."""

from lighttrace.instrument import HttpClientPatch, Integration, ResendPatch, StoredHeaders


def read_request(session, request, **options):
    return request.method, request.url, StoredHeaders(request.headers)


def read_status(response):
    return response.status_code


def read_headers(response):
    return response.headers


def read_redirect(session, response):
    return response if 300 <= response.status_code < 400 and response.is_redirect else None


INTEGRATION = Integration(
    name="requests",
    requires="requests>=2.26",
    patches=(
        # Session.send and not HTTPAdapter.send: adapters are made to be replaced by users.
        HttpClientPatch("requests:Session.send", read_request, read_status, read_headers=read_headers),
        ResendPatch("requests.sessions:SessionRedirectMixin.get_redirect_target", read_redirect, read_status),
    ),
)
