"""Trace the requests that a Flask application answers."""

from lighttrace.instrument import FailurePatch, Integration, RoutePatch, WsgiPatch


def read_route(app, *args):
    from flask import request

    rule = request.url_rule
    if rule is None:
        return request.environ, None, None
    return request.environ, rule.rule, app.view_functions.get(rule.endpoint)


def read_failure(app, *args):
    from flask import request

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
