"""Trace the requests that a Flask application answers."""

from flask import ctx, request

from lighttrace.instrument import FailurePatch, Integration, MatchPatch, WsgiPatch


def read_match(context):
    rule = context.request.url_rule
    if rule is None:
        return None, None
    return rule.rule, context.app.view_functions.get(rule.endpoint)


def read_failure(app, *args):
    return request.environ, args[-1]


# From 3.2 on there is one context for applications and requests.
CONTEXT = "RequestContext" if "RequestContext" in vars(ctx) else "AppContext"

INTEGRATION = Integration(
    name="flask",
    requires="flask>=2.0",
    patches=(
        WsgiPatch("flask:Flask.__call__"),
        MatchPatch(f"flask.ctx:{CONTEXT}.match_request", "request.environ", "request.url_rule", read_match),
        FailurePatch("flask:Flask.handle_exception", read_failure),
    ),
)
