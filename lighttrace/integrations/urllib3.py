"""Trace requests sent through urllib3 by itself: one span per attempt, retries and redirects included."""

from operator import attrgetter

from lighttrace.instrument import Headers, HttpClientPatch, Integration, ResendPatch

read_status = attrgetter("status")


def read_request(pool, method, url, body=None, headers=None, **options):
    origin = "" if "://" in url else f"{pool.scheme}://{pool.host}:{pool.port}" if pool.port else f"{pool.scheme}://{pool.host}"
    return method, origin + url, pool.headers if headers is None else headers, Headers


def read_headers(response):
    return response.headers


def read_outcome(retry, method=None, url=None, response=None, error=None, *args, **options):
    return error if error is not None else response


def read_attempt(pool, *args, retries=None, **options):
    return retries


def read_attempts(retry, method=None, url=None, response=None, *args, **options):
    return retry, getattr(response, "retries", None)


INTEGRATION = Integration(
    name="urllib3",
    requires="urllib3>=1.26",
    patches=(
        # The headers may be the pool's own, which all its requests share.
        HttpClientPatch(
            "urllib3:HTTPConnectionPool.urlopen",
            read_request,
            read_status,
            read_headers=read_headers,
            headers_argument="headers",
            read_attempt=read_attempt,
        ),
        # A pool sends again inside its call; a pool manager follows redirects with another call.
        ResendPatch("urllib3:Retry.increment", read_outcome, read_status, read_attempts=read_attempts),
    ),
)
