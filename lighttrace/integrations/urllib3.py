"""Trace requests sent through urllib3 by itself: one span per attempt, retries and redirects included."""

from lighttrace.instrument import HttpClientPatch, Integration, ResendPatch


def read_request(pool, method, url, body=None, headers=None, **options):
    if headers is None:
        return None  # urlopen would look up the pool's shared headers: nothing of this request's own to write to
    scheme = "" if "://" in url else f"{pool.scheme}://{pool.host}:{pool.port or {'http': 80, 'https': 443}[pool.scheme]}"
    return method, scheme + url, headers


def read_status(response):
    return response.status


def read_outcome(retry, method=None, url=None, response=None, error=None, *args, **options):
    return error if error is not None else response


INTEGRATION = Integration(
    name="urllib3",
    requires="urllib3>=1.26",
    patches=(
        HttpClientPatch("urllib3:HTTPConnectionPool.urlopen", read_request, read_status),
        ResendPatch("urllib3:Retry.increment", read_outcome, read_status),
    ),
)
