"""Trace the requests that a FastAPI application answers; its routes and mounts are Starlette's."""

import sys

from lighttrace.instrument import AsgiPatch, Integration, RoutePatch


def against(app):
    # From 0.165 on FastAPI makes a span of its own for each request. It leaves alone a request whose scope has the key below:
    # unless the program gave it providers of its own, or has metrics or logs for it to write.
    own = getattr(app, "_telemetry", None)
    if own is None or any(own.get(name) for name in ("tracer_provider", "meter_provider", "logger_provider")):
        return None
    places = (("opentelemetry.metrics._internal", "_METER_PROVIDER"), ("opentelemetry._logs._internal", "_LOGGER_PROVIDER"))
    return tuple((vars(sys.modules[module]), name) for module, name in places)


def find(route, scope):
    # From 0.13x on, a router that is included keeps its routes, and the scope says under which prefix one was reached.
    context = (scope["fastapi"] or {}).get("effective_route_context")
    return context if context is not None and context.original_route is route else route


def read_route(found):
    return found.path_format, getattr(found, "original_route", found).endpoint


INTEGRATION = Integration(
    name="fastapi",
    requires="fastapi>=0.100",
    patches=(
        # Its own __call__ as well as Starlette's, which it calls: the outer one has the request.
        AsgiPatch("fastapi:FastAPI.__call__", "fastapi.telemetry", against),
        RoutePatch("fastapi.routing:APIRoute.handle", read_route, "fastapi", find),
    ),
)
