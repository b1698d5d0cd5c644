"""Trace the requests that a Starlette application answers."""

from operator import attrgetter

from lighttrace.instrument import AsgiPatch, Integration, MountPatch, RoutePatch

read_route = attrgetter("path_format", "endpoint")


def read_mount(mount, scope, *args):
    return scope, mount.path, None


INTEGRATION = Integration(
    name="starlette",
    requires="starlette>=0.20",
    patches=(
        AsgiPatch("starlette.applications:Starlette.__call__"),
        RoutePatch("starlette.routing:Route.handle", read_route),
        MountPatch("starlette.routing:Mount.handle", read_mount),
    ),
)
