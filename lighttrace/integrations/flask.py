"""Trace the requests that a Flask application answers."""

from flask import request

from lighttrace.instrument import FailurePatch, Integration, RoutePatch, WsgiPatch


def read_route(app, *args):
    # The object behind the proxy, once: each look through the proxy costs as much as making a span.
    current = request._get_current_object()  # type: ignore[attr-defined]  # a proxy, whose types hide it
    rule = current.url_rule
    if rule is None:
        return current.environ, None, None
    return current.environ, rule.rule, app.view_functions.get(rule.endpoint)


def read_failure(app, *args):
    return request.environ, args[-1]


INTEGRATION = Integration(
    name="flask",
    requires="flask>=2.0",
    patches=(
        WsgiPatch("flask:Flask.__call__"),
        RoutePatch("flask:Flask.dispatch_request", read_route),
        FailurePatch("flask:Flask.handle_exception", read_failure),
    ),
)
