"""Post-import hooks: once, after the module is complete, and never the program's trouble."""

import builtins
import contextlib
import importlib
import sys
import threading

import pytest

from lighttrace import guard
from lighttrace.instrument import imports


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory that modules can be imported from; they are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("kit_"):
            del sys.modules[name]
    for name in [name for name in imports._waiting if name.startswith("kit_")]:
        for hook in list(imports._waiting[name]):
            imports.forget(name, hook)
    for name in [name for name in imports._executed if name.startswith("kit_")]:
        imports._executed.discard(name)


def test_hook_runs_after_the_last_line_of_the_module(place):
    (place / "kit_a.py").write_text("first = 1\nlast = 2\n")
    seen = []
    imports.when_imported("kit_a", lambda module: seen.append(module.last))
    assert seen == []
    import kit_a

    importlib.import_module("kit_a")
    assert seen == [2]
    assert type(kit_a.__loader__).__name__ == "SourceFileLoader"
    assert "exec_module" not in vars(kit_a.__loader__), "the loader is left as it was"


def test_hook_runs_at_once_for_what_is_imported():
    seen = []
    imports.when_imported("json", seen.append)
    assert seen == [sys.modules["json"]]


def test_every_hook_runs_and_in_order(place):
    (place / "kit_b.py").write_text("")
    seen = []
    for number in range(3):
        imports.when_imported("kit_b", lambda module, number=number: seen.append(number))
    importlib.import_module("kit_b")
    assert seen == [0, 1, 2]


def test_hook_that_was_taken_back_does_not_run(place):
    (place / "kit_c.py").write_text("")
    seen = []
    imports.when_imported("kit_c", seen.append)
    imports.forget("kit_c", seen.append)
    hook = lambda module: seen.append(module)  # noqa: E731  # one object, to be taken back
    imports.when_imported("kit_c", hook)
    imports.forget("kit_c", hook)
    imports.forget("kit_c", hook)
    importlib.import_module("kit_c")
    assert seen in ([], [sys.modules["kit_c"]])


@pytest.mark.contained
def test_hook_that_raises_never_fails_the_import(place, contained):
    (place / "kit_d.py").write_text("value = 1")

    def broken(module):
        raise ValueError("broken on purpose")

    seen = []
    imports.when_imported("kit_d", broken)
    imports.when_imported("kit_d", lambda module: seen.append(module.value))
    import kit_d

    assert kit_d.value == 1
    assert seen == [1]
    assert contained == [("imports.kit_d", "ValueError: broken on purpose")]
    assert guard.sites["imports.kit_d"].failures == 1


def test_import_that_fails_fails_as_ever(place):
    (place / "kit_e.py").write_text("raise LookupError('mine')")
    seen = []
    imports.when_imported("kit_e", seen.append)
    with pytest.raises(LookupError, match="mine"):
        importlib.import_module("kit_e")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("kit_missing")
    imports.when_imported("kit_missing", seen.append)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("kit_missing")
    assert seen == []
    (place / "kit_e.py").write_text("value = 'repaired'")
    importlib.invalidate_caches()
    importlib.import_module("kit_e")
    assert [module.__name__ for module in seen] == ["kit_e"], "the second try is heard"


@pytest.mark.parametrize("fails", [False, True])
def test_module_runs_within_what_is_put_around_it(place, fails):
    (place / "kit_around.py").write_text(f"import builtins\nbuiltins.kit_seen.append('code')\n{'1 / 0' if fails else ''}\n")
    seen = builtins.kit_seen = []

    @contextlib.contextmanager
    def around():
        seen.append("before")
        try:
            yield
        finally:
            seen.append("after")

    try:
        imports.when_imported("kit_around", lambda module: seen.append("hook"), around=around)
        with pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext():
            importlib.import_module("kit_around")
    finally:
        del builtins.kit_seen
    assert seen == ["before", "code", "after"] + ([] if fails else ["hook"])
    assert "kit_around" not in imports._around


def test_package_and_its_submodules_are_heard_apart(place):
    package = place / "kit_package"
    package.mkdir()
    (package / "__init__.py").write_text("from kit_package.inner import value\nlast = value")
    (package / "inner.py").write_text("value = 1")
    seen = []
    for name in ("kit_package", "kit_package.inner"):
        imports.when_imported(name, lambda module: seen.append(module.__name__))
    importlib.import_module("kit_package")
    assert seen == ["kit_package.inner", "kit_package"]


def test_module_that_is_half_imported_is_heard_when_it_is_done(place):
    """`import lighttrace` may stand in the middle of a package's own __init__."""
    (place / "kit_half.py").write_text(
        "from lighttrace.instrument import imports\nseen = []\n"
        "imports.when_imported('kit_half', lambda module: seen.append(module.last))\nearly = list(seen)\nlast = 1\n"
    )
    (place / "kit_next.py").write_text("")
    import kit_half

    assert kit_half.early == []
    importlib.import_module("kit_next")
    assert kit_half.seen == [1]


def test_loader_without_exec_module_is_left_alone(place):
    class Old:
        def find_spec(self, name, path=None, target=None):
            if name != "kit_old":
                return None
            from importlib.machinery import ModuleSpec

            class Loader:
                def create_module(self, spec):
                    return None

                def exec_module(self, module):
                    module.value = 1

                __slots__ = ()

            return ModuleSpec(name, Loader())

    finder = Old()
    sys.meta_path.insert(0, finder)
    before = guard.sink
    failures = []
    guard.sink = lambda site, error: failures.append(site)
    try:
        imports.when_imported("kit_old", lambda module: None)
        sys.meta_path.remove(imports._finder)
        sys.meta_path.insert(0, imports._finder)
        assert importlib.import_module("kit_old").value == 1
    finally:
        guard.sink = before
        sys.meta_path.remove(finder)


def test_imports_in_many_threads_run_a_hook_once(place):
    for number in range(8):
        (place / f"kit_t{number}.py").write_text("value = 1")
    seen = []
    for number in range(8):
        imports.when_imported(f"kit_t{number}", lambda module: seen.append(module.__name__))
    start = threading.Barrier(8)

    def run(first):
        start.wait(10)
        for step in range(8):
            importlib.import_module(f"kit_t{(first + step) % 8}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [f"kit_t{number}" for number in range(8)]
