"""Recommendations (team discovery): what else might please a customer."""

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import lighttrace

lighttrace.init(service="recommendations", team="discovery")

SIMILAR = {"teapot": ["cups", "sugar bowl"], "umbrella": ["raincoat"], "armchair": ["footstool", "lamp"]}
SLOW = {"armchair": 1.2}  # seconds: the bug of this service, a model that was never meant for long histories
cold = {"umbrella"}  # these are not in the cache and are refused once, while it is being filled


async def show_similar(request: Request) -> JSONResponse:
    """What goes well with something."""
    sku = request.path_params["sku"]
    if sku in cold:
        cold.discard(sku)
        return JSONResponse({"error": "warming up"}, status_code=503, headers={"Retry-After": "0"})
    await asyncio.sleep(SLOW.get(sku, 0.005))
    return JSONResponse({"similar": SIMILAR.get(sku, [])})


app = Starlette(routes=[Route("/similar/{sku}", show_similar)])
