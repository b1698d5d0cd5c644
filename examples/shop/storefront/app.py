"""The storefront (team web): what customers call. It asks inventory, recommendations and checkout."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import BaseModel

import lighttrace

lighttrace.init(service="storefront", team="web")

CHECKOUT = os.environ.get("CHECKOUT_URL", "http://127.0.0.1:7002")
INVENTORY = os.environ.get("INVENTORY_URL", "http://127.0.0.1:7003")
RECOMMENDATIONS = os.environ.get("RECOMMENDATIONS_URL", "http://127.0.0.1:7004")
WAREHOUSES = ("Utrecht", "Gent", "Lille", "Essen")
PRICES = {"teapot": 2450, "umbrella": 1890, "armchair": 24900, "lamp": 5900}  # in cents


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One HTTP client for the life of the process."""
    async with httpx.AsyncClient(timeout=10) as client:
        app.state.client = client
        yield


app = FastAPI(title="storefront", lifespan=lifespan)


class Order(BaseModel):
    """What a customer wants to buy."""

    sku: str
    card: str
    country: str = "NL"
    gift: bool = False
    suggest: bool = False
    voucher: str | None = None


@app.get("/products/{sku}")
async def show_product(sku: str) -> dict[str, Any]:
    """A product's page: how many there are, and what else might please."""
    stock = await fetch(f"{INVENTORY}/stock/{sku}")
    return {"sku": sku, "price": PRICES[sku], **stock, "similar": await fetch_similar(sku)}


@app.get("/bundles/{bundle}")
async def show_bundle(bundle: str) -> dict[str, Any]:
    """Everything in a bundle, and how many there are of each."""
    return await fetch(f"{INVENTORY}/bundles/{bundle}")


@app.get("/delivery")
async def show_delivery() -> dict[str, Any]:
    """How soon a parcel can be there: every warehouse is asked at once, and the slowest decides."""
    answers = await asyncio.gather(*(fetch(f"{INVENTORY}/warehouses/{city}/days") for city in WAREHOUSES))
    return {answer["city"]: answer["days"] for answer in answers}


@app.get("/stocktake/{city}")
async def show_stocktake(city: str) -> dict[str, Any]:
    """What a warehouse holds, for those who wait half a second for it and no longer."""
    return await fetch(f"{INVENTORY}/warehouses/{city}/stocktake", timeout=0.5)


@app.post("/orders")
async def place_order(order: Order) -> dict[str, Any]:
    """Reserve, pay, and (for those who like that) show what else might please, while the payment is under way."""
    await fetch(f"{INVENTORY}/stock/{order.sku}")
    if not order.suggest:
        return {"payment": await pay(order)}
    payment, similar = await asyncio.gather(pay(order), fetch_similar(order.sku))
    return {"payment": payment, "similar": similar}


async def pay(order: Order) -> dict[str, Any]:
    """Charge the customer's card."""
    amount: int | str = PRICES[order.sku]
    if order.gift:
        # The bug of this service: gift orders take the price from the printed voucher, a text with a comma.
        amount = f"{PRICES[order.sku] / 100:.2f}".replace(".", ",")
    body = {"amount": amount, "card": order.card, "country": order.country}
    if order.voucher is not None:
        body["voucher"] = order.voucher
    response = await app.state.client.post(f"{CHECKOUT}/payments", json=body)
    response.raise_for_status()
    return dict(response.json())


async def fetch(url: str, timeout: float = 10) -> dict[str, Any]:
    """Ask another service, and wait so many seconds for its answer."""
    response = await app.state.client.get(url, timeout=timeout)
    response.raise_for_status()
    return dict(response.json())


async def fetch_similar(sku: str) -> list[str]:
    """What else might please; asked twice, since the recommendations are cold now and then."""
    url = f"{RECOMMENDATIONS}/similar/{sku}"
    try:
        return list((await fetch(url))["similar"])
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 503:
            raise
        return list((await fetch(url))["similar"])
