"""Fraud checks. They run inside checkout and belong to team risk: CODEOWNERS says so, nothing here does."""

from typing import Any

import lighttrace

RISK_OF_COUNTRY = {"NL": 5, "DE": 5, "GB": 10, "US": 15}


@lighttrace.trace("score order")
def score(order: dict[str, Any]) -> int:
    """How suspicious an order is, from 0 to 100."""
    return score_amount(order["amount"]) + score_country(order["country"])


def score_amount(amount: int) -> int:
    """Expensive things are stolen more often."""
    return min(50, amount // 1000)


def score_country(country: str) -> int:
    """The bug of this module: not every country is in the table."""
    return RISK_OF_COUNTRY[country]
