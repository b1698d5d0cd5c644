"""Trace requests sent through requests: one span per request on the wire, redirects included."""

from operator import attrgetter

from requests.structures import CaseInsensitiveDict

from lighttrace.instrument import Headers, Integration, RequestPatch, ResendPatch, StoredHeaders

read_status = attrgetter("status_code")


def read_request(session, request, **_):
    headers = request.headers
    return request.method, request.url, headers, StoredHeaders if type(headers) is CaseInsensitiveDict else Headers


def read_headers(response):
    return response.headers


def read_redirect(session, prepared_request, response):
    return response


INTEGRATION = Integration(
    name="requests",
    requires="requests>=2.26",
    patches=(
        # Session.send and not HTTPAdapter.send: adapters are made to be replaced by users.
        RequestPatch("requests:Session.send", read_request, read_status, read_headers=read_headers, stored=CaseInsensitiveDict),
        # Called for redirects only, once for each, and before the next request is sent.
        ResendPatch("requests.sessions:SessionRedirectMixin.rebuild_method", read_redirect, read_status),
    ),
)
