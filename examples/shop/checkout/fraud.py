"""Fraud checks. They run inside checkout and belong to team risk: CODEOWNERS says so, nothing here does."""

from typing import Any

from itsdangerous import URLSafeSerializer

import lighttrace

VOUCHERS = URLSafeSerializer("known to the printer of the vouchers and to us")
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


def redeem(voucher: str, amount: int) -> int:
    """What is left to pay.

    Another bug of this module: a voucher that nobody signed is not expected. The exception comes from the library that
    looks at the signature, and what has to be mended is here.
    """
    worth: int = VOUCHERS.loads(voucher)
    return max(0, amount - worth)
