"""Warehouse (team stock): what shipping calls."""

from flask import Flask

import lighttrace

lighttrace.init(service="warehouse", team="stock")

SHELVES = {"book": 1, "piano": 2, "no-van": 3}

app = Flask("warehouse")


@app.get("/items/<item>")
def find(item: str) -> dict[str, int]:
    """Where something lies. The bug: not everything has a shelf."""
    return {"shelf": SHELVES[item]}
