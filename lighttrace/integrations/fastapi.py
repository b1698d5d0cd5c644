"""Trace the requests that a FastAPI application answers; its routes and mounts are Starlette's."""

import sys
from operator import attrgetter

from lighttrace.instrument import AsgiPatch, Integration, RoutePatch

read_route = attrgetter("path_format", "endpoint")


def prepare(app, scope):
    if app.root_path:
        scope["root_path"] = app.root_path  # as FastAPI does in its first line
    # From 0.165 on FastAPI makes a span of its own for each request. It leaves alone a request whose scope has this key:
    # unless the program gave it providers of its own, or has metrics or logs for it to write: by the modules noted here.
    try:
        places = app._lighttrace_globals
    except AttributeError:
        own = getattr(app, "_telemetry", None)
        given = ("tracer_provider", "meter_provider", "logger_provider")
        free = own is not None and not any(own.get(name) for name in given)
        names = ("opentelemetry.metrics._internal", "opentelemetry._logs._internal") if free else ()
        places = app.__dict__["_lighttrace_globals"] = tuple(sys.modules[name] for name in names)
    if places:
        metrics, logs = places
        if metrics._METER_PROVIDER is None and logs._LOGGER_PROVIDER is None:
            scope.setdefault("fastapi.telemetry")


def read_within(route, scope):
    # From 0.13x on, a router that is included keeps its routes, and the scope says under which prefix one was reached.
    context = (scope["fastapi"] or {}).get("effective_route_context")
    if context is not None and context.original_route is route:
        return context.path_format, route.endpoint
    return read_route(route)


INTEGRATION = Integration(
    name="fastapi",
    requires="fastapi>=0.100",
    patches=(
        # Its own __call__ as well as Starlette's, which it calls: the outer one has the request.
        AsgiPatch("fastapi:FastAPI.__call__", prepare),
        RoutePatch("fastapi.routing:APIRoute.handle", read_route, "fastapi", read_within),
    ),
)
