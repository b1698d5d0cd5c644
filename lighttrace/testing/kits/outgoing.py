"""What every library has to pass that calls others, clients and drivers alike: team and transaction go wherever the call goes."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import lighttrace
from lighttrace import semconv
from lighttrace.integrations.concurrent_futures import INTEGRATION as POOLS
from lighttrace.integrations.threading import INTEGRATION as THREADS
from lighttrace.testing.kits.integration import IntegrationKit


def _in_a_thread(call: Callable[[], Any]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def _in_a_pool(call: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call).result()


def _in_a_generator(call: Callable[[], Any]) -> None:
    def steps() -> Iterator[Any]:
        yield
        yield call()

    for _ in steps():
        pass


def _in_a_decorated_generator(call: Callable[[], Any]) -> None:
    @lighttrace.team("kit-scope")
    def steps() -> Iterator[Any]:
        yield
        yield call()

    inner = steps()
    next(inner)
    list(inner)


def _in_a_background_task(call: Callable[[], Any]) -> None:
    async def main() -> None:
        await asyncio.create_task(asyncio.to_thread(call))  # a thread, because a library for coroutines brings its own loop

    asyncio.run(main())


def _in_an_executor(call: Callable[[], Any]) -> None:
    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, call)

    asyncio.run(main())


PLACES = {
    "thread": _in_a_thread,
    "pool": _in_a_pool,
    "generator": _in_a_generator,
    "decorated generator": _in_a_decorated_generator,
    "background task": _in_a_background_task,
    "executor of a loop": _in_an_executor,
}
"""Where a program may make a call, and its context has to be."""


class OutgoingKit(IntegrationKit):
    """The subclass of this kit says what one call is."""

    def call_once(self) -> Any:
        """Make one call, of one span."""
        raise NotImplementedError

    @pytest.mark.parametrize("place", PLACES)
    def test_team_and_transaction_go_wherever_the_call_is_made(self, place: str) -> None:
        POOLS.enable()
        THREADS.enable()
        try:
            with lighttrace.team("kit-scope"), lighttrace.transaction("kit", customer="alice", hashed=False):
                PLACES[place](self.call_once)
            PLACES["thread"](self.call_once)
        finally:
            THREADS.disable()
            POOLS.disable()
        inside, outside = self.spans.take(2)
        assert (inside.team, inside.team_source) == ("kit-scope", "scope")
        assert inside.attributes[semconv.TRANSACTION] == "kit"
        assert inside.attributes[semconv.CUSTOMER] == "alice"
        assert outside.team == "kit-team"
        assert not {semconv.TRANSACTION, semconv.CUSTOMER} & outside.attributes.keys()

    def test_team_of_the_parent_goes_along(self) -> None:
        with lighttrace.span("parent", team="fraud"):
            self.call_once()
        self.spans.expect(name="parent", team="fraud", team_source="span")
        self.spans.expect(team="fraud", team_source="parent")
