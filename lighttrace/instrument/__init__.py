"""The engine: what an HTTP call, a request and a query look like as spans, and how they are hooked into libraries.

Integrations import from here and from nowhere else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lighttrace.instrument.asgi import AsgiPatch as AsgiPatch
    from lighttrace.instrument.asgi import RoutePatch as RoutePatch
    from lighttrace.instrument.carriers import Headers as Headers
    from lighttrace.instrument.carriers import RawHeaders as RawHeaders
    from lighttrace.instrument.carriers import StoredHeaders as StoredHeaders
    from lighttrace.instrument.db import Database as Database
    from lighttrace.instrument.db import DbPatch as DbPatch
    from lighttrace.instrument.dbapi import FactoryPatch as FactoryPatch
    from lighttrace.instrument.heads import HeadPatch as HeadPatch
    from lighttrace.instrument.heads import LateHeaders as LateHeaders
    from lighttrace.instrument.http_client import HttpClientPatch as HttpClientPatch
    from lighttrace.instrument.http_request import RequestPatch as RequestPatch
    from lighttrace.instrument.http_server import FailurePatch as FailurePatch
    from lighttrace.instrument.http_server import MatchPatch as MatchPatch
    from lighttrace.instrument.http_server import MountPatch as MountPatch
    from lighttrace.instrument.late_request import LateRequestPatch as LateRequestPatch
    from lighttrace.instrument.registry import Integration as Integration
    from lighttrace.instrument.resends import FollowPatch as FollowPatch
    from lighttrace.instrument.resends import ResendPatch as ResendPatch
    from lighttrace.instrument.threads import PoolPatch as PoolPatch
    from lighttrace.instrument.threads import StartPatch as StartPatch
    from lighttrace.instrument.threads import SubmitPatch as SubmitPatch
    from lighttrace.instrument.wsgi import WsgiPatch as WsgiPatch

# Each loaded with the first integration that uses it: a program without a database never reads the database's engine.
_WHERE = {
    "AsgiPatch": "lighttrace.instrument.asgi",
    "Database": "lighttrace.instrument.db",
    "DbPatch": "lighttrace.instrument.db",
    "FactoryPatch": "lighttrace.instrument.dbapi",
    "FailurePatch": "lighttrace.instrument.http_server",
    "FollowPatch": "lighttrace.instrument.resends",
    "HeadPatch": "lighttrace.instrument.heads",
    "Headers": "lighttrace.instrument.carriers",
    "HttpClientPatch": "lighttrace.instrument.http_client",
    "Integration": "lighttrace.instrument.registry",
    "LateHeaders": "lighttrace.instrument.heads",
    "LateRequestPatch": "lighttrace.instrument.late_request",
    "MatchPatch": "lighttrace.instrument.http_server",
    "MountPatch": "lighttrace.instrument.http_server",
    "RawHeaders": "lighttrace.instrument.carriers",
    "RequestPatch": "lighttrace.instrument.http_request",
    "ResendPatch": "lighttrace.instrument.resends",
    "RoutePatch": "lighttrace.instrument.asgi",
    "StartPatch": "lighttrace.instrument.threads",
    "StoredHeaders": "lighttrace.instrument.carriers",
    "PoolPatch": "lighttrace.instrument.threads",
    "SubmitPatch": "lighttrace.instrument.threads",
    "WsgiPatch": "lighttrace.instrument.wsgi",
}


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module 'lighttrace.instrument' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(where), name)
    globals()[name] = value
    return value
