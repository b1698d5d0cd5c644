"""Orders (team web): what the test calls. It asks shipping, which is written in Node."""

import os

import requests
from flask import Flask

import lighttrace

lighttrace.init(service="orders", team="web")

app = Flask("orders")


@app.post("/orders/<order>")
def place(order: str) -> dict[str, str]:
    """Have an order shipped."""
    answer = requests.get(f"{os.environ['SHIPPING_URL']}/ship?order={order}", timeout=10)
    answer.raise_for_status()
    return dict(answer.json())
