"""Trace the requests that a FastAPI application answers; its mounts are Starlette's."""

import sys

from lighttrace.instrument import AsgiPatch, Integration, RoutePatch


def prepare(app, scope):
    if app.root_path:
        scope["root_path"] = app.root_path  # as FastAPI does in its first line
    # From 0.165 on FastAPI makes a span of its own for each request. It leaves alone a request whose scope has this key:
    # unless the program gave it providers of its own, or has metrics or logs for it to write.
    own = getattr(app, "_telemetry", None)
    if own is None or own.get("tracer_provider") or own.get("meter_provider") or own.get("logger_provider"):
        return
    metrics, logs = sys.modules["opentelemetry.metrics._internal"], sys.modules["opentelemetry._logs._internal"]
    if metrics._METER_PROVIDER is None and logs._LOGGER_PROVIDER is None:
        scope.setdefault("fastapi.telemetry", None)


def read_route(route, scope, *args):
    # From 0.13x on, a router that is included keeps its routes, and the scope says under which prefix one was reached.
    context = scope.get("fastapi", {}).get("effective_route_context")
    if context is None or context.original_route is not route:
        return scope, route.path_format, route.endpoint
    return scope, context.path_format, route.endpoint


INTEGRATION = Integration(
    name="fastapi",
    requires="fastapi>=0.100",
    patches=(
        # Its own __call__ as well as Starlette's, which it calls: the outer one has the request.
        AsgiPatch("fastapi:FastAPI.__call__", prepare),
        RoutePatch("fastapi.routing:APIRoute.handle", read_route),
    ),
)
