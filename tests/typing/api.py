# pyright: strict
"""The public API as a program uses it. Never run: mypy and pyright check that its types are what a user expects."""

from collections.abc import AsyncIterator, Iterator

from typing_extensions import assert_type

import lighttrace


def start() -> None:
    lighttrace.init()
    lighttrace.init("checkout", "payments")
    lighttrace.init(service="checkout", team="payments", exporter="console")
    assert_type(lighttrace.flush(), bool)
    assert_type(lighttrace.flush(timeout=1.0), bool)
    lighttrace.shutdown()
    lighttrace.shutdown(timeout=1.0)
    assert_type(lighttrace.__version__, str)


@lighttrace.trace
def charge(card: str, amount: int = 0) -> bool:
    return bool(card) and amount > 0


@lighttrace.trace("refund", team="payments", attributes={"currency": "EUR"})
def refund(card: str) -> int:
    return len(card)


@lighttrace.trace
async def reserve(sku: str) -> float:
    return float(sku)


@lighttrace.trace
def rows(count: int) -> Iterator[int]:
    yield from range(count)


@lighttrace.trace("pages")
async def pages(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b""


class Desk:
    @lighttrace.trace
    def sell(self, sku: str) -> int:
        return len(sku)

    @classmethod
    @lighttrace.trace
    def named(cls, name: str) -> "Desk":
        return cls()

    @staticmethod
    @lighttrace.trace
    def price(sku: str) -> float:
        return float(sku)


def signatures_are_kept() -> None:
    assert_type(charge("4242", amount=3), bool)
    assert_type(refund("4242"), int)
    assert_type(rows(3), Iterator[int])
    assert_type(pages(3), AsyncIterator[bytes])
    assert_type(Desk().sell("teapot"), int)
    assert_type(Desk.named("x"), Desk)
    assert_type(Desk.price("1"), float)


async def coroutines_stay_coroutines() -> None:
    assert_type(await reserve("1"), float)


def spans_by_hand() -> None:
    with lighttrace.span("reserve stock", sku="teapot", count=3) as span:
        span.set_attribute("stock.left", 4)
        span.add_event("picked", {"shelf": "A"})
        assert_type(span.is_recording(), bool)
    with lighttrace.team("fraud"), lighttrace.detached():
        lighttrace.current_span().set_attribute("checked", True)


@lighttrace.transaction("checkout")
def check_out(basket: str) -> int:
    return len(basket)


@lighttrace.transaction("refund", 4711, hashed=False)
async def give_back(card: str) -> bool:
    return bool(card)


async def transactions() -> None:
    with lighttrace.transaction("checkout", customer="alice"), lighttrace.transaction("payment", customer=7):
        assert_type(check_out("teapot"), int)
    async with lighttrace.transaction("refund"):
        assert_type(await give_back("4242"), bool)


async def spans_in_coroutines() -> None:
    async with lighttrace.span("reserve stock"), lighttrace.team("fraud"):
        pass
