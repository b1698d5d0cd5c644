"""Patching in place, and its exact undo."""

import sys
from types import ModuleType

import pytest

from lighttrace import guard
from lighttrace.instrument.call import disguise
from lighttrace.instrument.patching import Patch


class Counting(Patch):
    """Counts calls while it is enabled."""

    calls = 0

    def wrap(self, original):
        def wrapper(*args, **kwargs):
            if self.site.enabled:
                self.calls += 1
            return original(*args, **kwargs)

        return disguise(wrapper, original)


@pytest.fixture
def library(monkeypatch):
    module = ModuleType("kit_library")
    source = """
class Base:
    def inherited(self):
        return "inherited"

class Thing(Base):
    def method(self):
        return "method"
    @staticmethod
    def static():
        return "static"
    @classmethod
    def cls(cls):
        return cls.__name__

class Sub(Thing):
    def method(self):
        return "sub " + super().method()

def function():
    return "function"
"""
    exec(source, vars(module))
    user = ModuleType("kit_user")
    user.renamed, user.Sub = module.function, module.Sub
    monkeypatch.setitem(sys.modules, "kit_library", module)
    monkeypatch.setitem(sys.modules, "kit_user", user)
    return module


def snapshot(module):
    return dict(vars(module)), {name: dict(vars(value)) for name, value in vars(module).items() if isinstance(value, type)}


USES = {
    "Thing.method": lambda library: library.Thing().method(),
    "Thing.static": lambda library: library.Thing.static(),
    "Thing.cls": lambda library: library.Sub.cls(),
    "Thing.inherited": lambda library: library.Thing().inherited(),
    "function": lambda library: library.function(),
}


@pytest.mark.parametrize("path", USES)
def test_everything_is_as_before_after_undo(library, path):
    before, result = snapshot(library), USES[path](library)
    patch = Counting(f"kit_library:{path}")
    for round in (1, 2, 3):
        assert patch.apply()
        assert USES[path](library) == result
        assert patch.calls == round
        assert not patch.apply(), "applied already"
        patch.undo()
        assert snapshot(library) == before
        USES[path](library)
        assert patch.calls == round


def test_kind_of_attribute_is_kept(library):
    Counting("kit_library:Thing.static").apply()
    Counting("kit_library:Thing.cls").apply()
    assert isinstance(vars(library.Thing)["static"], staticmethod)
    assert isinstance(vars(library.Thing)["cls"], classmethod)
    assert library.Sub.cls() == "Sub"


def test_subclass_made_before_is_patched_through_super(library):
    patch = Counting("kit_library:Thing.method")
    patch.apply()
    assert sys.modules["kit_user"].Sub().method() == "sub method"
    assert patch.calls == 1


def test_name_imported_before_is_patched_and_put_back(library):
    user, original = sys.modules["kit_user"], library.function
    patch = Counting("kit_library:function")
    patch.apply()
    assert user.renamed() == "function"
    assert patch.calls == 1
    patch.undo()
    assert user.renamed is original


def test_what_is_below_a_foreign_wrapper_goes_silent_and_comes_back(library):
    patch = Counting("kit_library:Thing.method")
    original = vars(library.Thing)["method"]
    patch.apply()
    ours = vars(library.Thing)["method"]
    library.Thing.method = foreign = lambda self: ours(self)
    foreign.__wrapped__ = ours
    patch.undo()
    assert vars(library.Thing)["method"] is foreign
    library.Thing().method()
    assert patch.calls == 0
    patch.apply()
    library.Thing().method()
    assert patch.calls == 1, "once, and not twice"
    library.Thing.method = ours  # the foreign wrapper is undone
    patch.undo()
    assert vars(library.Thing)["method"] is original


def test_missing_target_is_an_attribute_error_and_changes_nothing(library):
    before = snapshot(library)
    for path in ("Nothing.method", "Thing.nothing", "nothing"):
        patch = Counting(f"kit_library:{path}")
        with pytest.raises(AttributeError):
            patch.apply()
        patch.undo()
    assert snapshot(library) == before


def test_modules_that_cannot_be_looked_into_are_passed_over(library, monkeypatch):
    class Odd:
        __slots__ = ()

    monkeypatch.setitem(sys.modules, "kit_odd", Odd())
    monkeypatch.setitem(sys.modules, "kit_none", None)
    patch = Counting("kit_library:function")
    assert patch.apply()
    patch.undo()


@pytest.mark.contained
def test_site_that_fails_too_often_switches_itself_off(library):
    patch = Counting("kit_library:function")
    patch.apply()
    for _ in range(guard.LIMIT):
        patch.site.failed(ValueError())
    library.function()
    assert patch.calls == 0
    patch.undo()
