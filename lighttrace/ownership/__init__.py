"""Whose code is this: explicit rules, CODEOWNERS, and the resolver that asks them."""

from lighttrace.ownership.resolver import Resolver

__all__ = ["Resolver"]
