"""Inventory (team logistics): what is in stock. Not a line of it knows of tracing; `lighttrace run` starts it."""

from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException

from inventory import database


@asynccontextmanager
async def lifespan(app: FastAPI) -> Any:
    """Fill the tables before the first request."""
    database.prepare()
    yield


app = FastAPI(title="inventory", lifespan=lifespan)


@app.get("/stock/{sku}")
def show_stock(sku: str) -> dict[str, Any]:
    """How many there are of one thing."""
    with database.connect() as connection:
        row = connection.one("SELECT on_hand, warehouse FROM stock WHERE sku = %s", sku)
    if row is None:
        raise HTTPException(404, "there is no such thing")
    return {"on_hand": row[0], "warehouse": row[1]}


@app.get("/bundles/{bundle}")
def show_bundle(bundle: str) -> dict[str, Any]:
    """How many there are of each thing in a bundle.

    The bug of this service: one query for the list, then one for every thing on it, each of them slow.
    """
    with database.connect() as connection:
        found = {}
        for (sku,) in connection.all("SELECT sku FROM bundle WHERE name = %s ORDER BY sku", bundle):
            # upper() cannot use the index. The table of the example is small, so a pause stands for the millions of rows.
            row = connection.one("SELECT on_hand, pg_sleep(0.05) FROM stock WHERE upper(sku) = upper(%s)", sku)
            found[sku] = row[0] if row else 0
    return {"bundle": bundle, "stock": found}


@app.get("/warehouses/{city}/days")
def show_days(city: str) -> dict[str, Any]:
    """How many days a parcel from there takes. Another bug: Gent's are counted anew each time, from all that was ever sent."""
    return {"city": city, "days": 2 if ask_slowly(city, 0.9 if city == "Gent" else 0.01) else None}


@app.get("/warehouses/{city}/stocktake")
def show_stocktake(city: str) -> dict[str, Any]:
    """What a warehouse is worth, added up while the caller waits."""
    return {"city": city, "known": ask_slowly(city, 1.2)}


def ask_slowly(city: str, seconds: float) -> bool:
    """Whether there is such a warehouse; the pause stands for a table with years of parcels in it."""
    with database.connect() as connection:
        return connection.one("SELECT sku, pg_sleep(%s) FROM stock WHERE warehouse = %s LIMIT 1", seconds, city) is not None
