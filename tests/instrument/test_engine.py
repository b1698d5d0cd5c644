"""Who makes the spans of an integration, while tracing is switched on and off."""

import gc
import threading
from typing import Any

from lighttrace.config import load
from lighttrace.instrument import engine
from lighttrace.instrument.engine import Patient, Routes, Scope, State
from lighttrace.testing import capture
from lighttrace.tracing.shared import Shared
from tests.tracing.conftest import Tracing


def test_scope_asks_again_when_the_provider_changes(monkeypatch: Any) -> None:
    monkeypatch.setattr(engine, "state", state := State())
    scope = Scope("example", covers=True)
    assert scope.find() is None
    for tracing in (Tracing(), Tracing()):
        state.provider = tracing.provider
        assert scope.tracer is None
        found = scope.find()
        assert found is not None
        assert (scope.tracer, found.pipeline, found.covers) == (found, tracing.pipeline, True)
        assert found.scope_name == "lighttrace.example"
    state.provider = None
    assert (scope.tracer, scope.find()) == (None, None)


def test_tracer_of_a_provider_that_went_meanwhile_is_not_kept(monkeypatch: Any) -> None:
    monkeypatch.setattr(engine, "state", state := State())
    scope = Scope("example", covers=True)
    tracing = Tracing()

    class Slow:
        def get_tracer(self, name: str) -> Any:
            state.provider = None  # another thread switches tracing off in this moment
            return tracing.provider.get_tracer(name)

    state.provider = Slow()
    scope.find()
    assert scope.tracer is None


def test_patches_may_be_made_while_the_provider_changes() -> None:
    stop = threading.Event()

    def make() -> None:
        while not stop.is_set():
            made.append(Scope("made meanwhile", covers=False))

    made: list[Scope] = []
    before = len(engine._scopes)
    thread = threading.Thread(target=make)
    thread.start()
    try:
        while len(made) < 2000:
            engine.forget_tracers()
    finally:
        stop.set()
        thread.join(30)
        del engine._scopes[before:]
    assert all(scope.tracer is None for scope in made)


def test_full_cache_is_emptied_once_it_was_of_no_help_for_long() -> None:
    cache = Patient(3)
    for number in range(3):
        assert cache.has_room()
        cache[number] = number
    refused = 0
    while not cache.has_room():
        assert len(cache) == 3
        refused += 1
    assert (refused, len(cache)) == (16 * 3 - 1, 0)
    cache.update(dict.fromkeys(range(3)))
    assert not cache.has_room(), "what was missed before is forgotten"


class Found:
    """What a framework finds."""


def test_what_a_route_is_known_by_is_forgotten_with_it_and_not_kept() -> None:
    routes, shared, first, second = Routes(), Shared({"a": "b"}), Found(), Found()
    shared.expect_more()
    for found in (first, second):
        routes.keep(shared, id(found), ("name",), found)
        routes.keep(shared, ("/prefix", id(found)), ("name",), found)
    assert (len(routes), len(shared.routes)) == (4, 4)
    del found, first
    gc.collect()
    assert list(shared.routes) == [id(second), ("/prefix", id(second))] == [number for _, number in routes]
    assert shared.routes[id(second)] is routes[shared, id(second)]
    routes.clear()
    assert (len(routes), len(shared.routes)) == (0, 0)
    routes.keep(shared, 1, ("name",), ())  # what cannot be watched stays
    gc.collect()
    assert shared.routes[1] == ("name", ())


def test_another_configuration_forgets_what_was_learned_under_the_one_before() -> None:
    caches = "anywhere", "callers", "matched", "routes", "told"
    with capture() as spans:
        before = {name: getattr(engine.state, name) for name in caches}
        for cache in before.values():
            cache["learned"] = "before"
        engine.configure(load(environ={}), spans.provider, None)
        assert [name for name in caches if getattr(engine.state, name)] == []
        assert all(cache["learned"] == "before" for cache in before.values()), "a request that is under way still reads them"
