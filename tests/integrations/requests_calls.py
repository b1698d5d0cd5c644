"""How the kit for HTTP clients calls through requests, alone and over a urllib3 that is traced as well."""

from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase


class RequestsCalls:
    """What the kit asks of a client."""

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
