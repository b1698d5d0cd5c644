"""Conformance kits: inherit from one, say how your library spells a call, and every test an integration must pass is yours.

    from lighttrace.testing.kits import HttpClientKit

    class TestHttpx(HttpClientKit):
        integration = INTEGRATION
        library = "httpx"
        ...

A gap is declared, not skipped: `unsupported = {"test_redirects_are_attempts_of_their_own": "why"}` takes the test out and
lists it with its reason at the end of the run.
"""

from lighttrace.testing.kits.database import DatabaseKit
from lighttrace.testing.kits.http_client import HttpClientKit
from lighttrace.testing.kits.http_server import HttpServerKit
from lighttrace.testing.kits.integration import IntegrationKit
from lighttrace.testing.kits.outgoing import OutgoingKit

__all__ = ["DatabaseKit", "HttpClientKit", "HttpServerKit", "IntegrationKit", "OutgoingKit"]
