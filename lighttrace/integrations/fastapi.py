"""Trace the requests that a FastAPI application answers; its nested routers and mounts are Starlette's."""

from lighttrace.instrument import AsgiPatch, Integration, RoutePatch


def read_route(route, scope, *args):
    # From 0.13x on, a router that is included keeps its routes, and the scope says under which prefix one was reached.
    context = scope.get("fastapi", {}).get("effective_route_context")
    return scope, getattr(context, "path_format", None) or route.path_format, route.endpoint


INTEGRATION = Integration(
    name="fastapi",
    requires="fastapi>=0.100",
    patches=(
        # Its own __call__ as well as Starlette's, which it calls: the outer one has the request.
        AsgiPatch("fastapi:FastAPI.__call__"),
        RoutePatch("fastapi.routing:APIRoute.handle", read_route),
    ),
)
