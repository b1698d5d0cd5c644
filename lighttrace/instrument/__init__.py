"""The engine: what an HTTP call, a request and a query look like as spans, and how they are hooked into libraries.

Integrations import from here and from nowhere else.
"""

from lighttrace.instrument.asgi import AsgiPatch
from lighttrace.instrument.carriers import RawHeaders, StoredHeaders
from lighttrace.instrument.db import Database, DbPatch
from lighttrace.instrument.dbapi import FactoryPatch
from lighttrace.instrument.http_client import HttpClientPatch, ResendPatch
from lighttrace.instrument.http_server import FailurePatch, MountPatch, RoutePatch
from lighttrace.instrument.registry import Integration, registry
from lighttrace.instrument.threads import StartPatch, SubmitPatch
from lighttrace.instrument.wsgi import WsgiPatch

__all__ = [
    "AsgiPatch",
    "Database",
    "DbPatch",
    "FactoryPatch",
    "FailurePatch",
    "HttpClientPatch",
    "Integration",
    "MountPatch",
    "RawHeaders",
    "ResendPatch",
    "RoutePatch",
    "StoredHeaders",
    "StartPatch",
    "SubmitPatch",
    "WsgiPatch",
    "registry",
]
