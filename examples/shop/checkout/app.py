"""Checkout (team payments): checks an order for fraud, then has the bank charge the card."""

import os

import requests
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

import lighttrace
from checkout import fraud

lighttrace.init(service="checkout", team="payments")

BANK = os.environ.get("BANK_URL", "http://localhost:7005")

app = Flask("checkout")


@app.post("/payments")
def take_payment() -> ResponseReturnValue:
    """Charge a card, or say why not."""
    order = request.get_json()
    if not isinstance(order.get("amount"), int):
        return jsonify(error="amount must be a whole number of cents"), 422
    if "voucher" in order:
        order["amount"] = fraud.redeem(order["voucher"], order["amount"])
    if fraud.score(order) > 80:
        return jsonify(error="this payment was declined"), 402
    try:
        answer = requests.post(f"{BANK}/charges", json={"amount": order["amount"], "card": order["card"]}, timeout=2.5)
    except requests.ConnectionError:
        return jsonify(error="the bank cannot be reached, please try again later"), 503
    answer.raise_for_status()
    return jsonify(answer.json())
