"""Integrations: which are in place, and why the others are not."""

import re
import sys
from types import ModuleType

import pytest

from lighttrace import integrations
from lighttrace.instrument import Integration
from lighttrace.instrument.registry import Registry, installed_version, satisfies
from tests.instrument.test_patching import Counting


@pytest.mark.parametrize(
    ("version", "specifier", "expected"),
    [
        ("2.31.0", ">=2.20", True),
        ("2.31.0", ">=2.31", True),
        ("2.9", ">=2.31", False),
        ("0.9", ">=1", False),
        ("3.0rc1", ">=2,<3", False),
        ("2.5.post1", ">=2,<3", True),
        ("1.0", ">=1.0.0", True),
        ("1.0", "==1.0.0", True),
        ("1.1", "!=1.1", False),
        ("1.1", "", True),
        ("", ">=1", False),
        ("unknown", ">=1", False),
        ("1.2", "nonsense", True),
        ("1.2+local.7", ">=1.2", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version, specifier, expected):
    assert satisfies(version, specifier) is expected


def test_installed_version_is_found_or_unknown():
    assert re.match(r"\d+\.", installed_version("pytest"))
    assert re.match(r"\d+\.", installed_version("typing-extensions") or "4.")
    assert installed_version("no-such-distribution") is None
    assert installed_version("sqlite3") is None


@pytest.fixture
def library(monkeypatch):
    module = ModuleType("kit_lib")
    module.__version__ = "1.5"
    module.function = lambda: "result"
    package = ModuleType("kit_integration")
    package.INTEGRATION = Integration("kit_lib", "kit_lib>=1", [Counting("kit_lib:function")])
    monkeypatch.setitem(sys.modules, "kit_integration", package)
    return module, package.INTEGRATION


def line(registry):
    (found,) = [line for line in registry.report() if line["name"] == "kit_lib"]
    return found


TRIGGERS = {"kit_lib": ("kit_lib", "kit_integration")}


def test_library_that_is_not_imported_is_waited_for(library, monkeypatch):
    registry = Registry()
    registry.enable(TRIGGERS)
    assert line(registry)["state"] == "waiting"
    assert "not been imported" in line(registry)["reason"]
    registry.disable()


def test_library_that_is_imported_is_patched_and_put_back(library, monkeypatch):
    module, integration = library
    monkeypatch.setitem(sys.modules, "kit_lib", module)
    before = dict(vars(module))
    registry = Registry()
    for _ in range(100):
        registry.enable(TRIGGERS)
    assert line(registry) == {
        "name": "kit_lib", "library": "kit_lib", "requires": "kit_lib>=1", "installed_version": "1.5", "state": "patched",
        "reason": None, "failures": 0,
    }  # fmt: skip
    assert module.function() == "result"
    assert integration.patches[0].calls == 1
    registry.disable()
    assert vars(module) == before
    registry.enable(TRIGGERS)
    assert line(registry)["state"] == "patched"
    registry.disable()
    assert vars(module) == before


@pytest.mark.parametrize("version", ["0.9", "0"])
def test_library_that_is_too_old_is_left_alone(library, monkeypatch, version):
    module, _ = library
    module.__version__ = version
    monkeypatch.setitem(sys.modules, "kit_lib", module)
    before = dict(vars(module))
    registry = Registry()
    registry.enable(TRIGGERS)
    assert line(registry)["state"] == "skipped"
    assert version in line(registry)["reason"]
    assert "kit_lib>=1" in line(registry)["reason"]
    assert vars(module) == before
    registry.disable()


def test_disabled_integration_is_left_alone(library, monkeypatch):
    module, _ = library
    monkeypatch.setitem(sys.modules, "kit_lib", module)
    before = dict(vars(module))
    registry = Registry()
    registry.enable(TRIGGERS, frozenset({"kit_lib"}))
    assert (line(registry)["state"], line(registry)["reason"]) == ("disabled", "by configuration")
    assert vars(module) == before
    registry.disable()


def test_seam_that_is_gone_is_reported_and_the_others_work(library, monkeypatch):
    module, _ = library
    monkeypatch.setitem(sys.modules, "kit_lib", module)
    present = Counting("kit_lib:function")
    sys.modules["kit_integration"].INTEGRATION = Integration("kit_lib", "kit_lib>=1", [Counting("kit_lib:gone"), present])
    registry = Registry()
    registry.enable(TRIGGERS)
    assert "kit_lib:gone" in line(registry)["reason"]
    module.function()
    assert present.calls == 1
    registry.disable()


@pytest.mark.contained
def test_integration_that_cannot_be_loaded_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "kit_lib", ModuleType("kit_lib"))
    registry = Registry()
    registry.enable({"kit_lib": ("kit_lib", "no_such_integration")})
    assert line(registry)["state"] == "skipped"
    assert "could not be loaded" in line(registry)["reason"]
    registry.disable()


def test_every_integration_of_ours_can_be_loaded_and_is_short():
    from importlib import import_module
    from pathlib import Path

    for name, (_, module) in integrations.TRIGGERS.items():
        loaded = import_module(module)
        assert loaded.INTEGRATION.name == name
        assert loaded.__doc__
        assert len(Path(loaded.__file__).read_text().splitlines()) <= 60
