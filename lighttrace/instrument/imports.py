"""Post-import hooks: run something when the program imports a module, at once if it has already.

A finder of our own instead of wrapt's, because importing wrapt costs a program 65 ms and more before its first line,
and because what a hook raises must never fail the program's import.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from lighttrace import guard

Hook = Callable[[ModuleType], object]
Around = Callable[[], "AbstractContextManager[object]"]

_waiting: dict[str, list[Hook]] = {}
_around: dict[str, Around] = {}
_finding: set[str] = set()
_executed: set[str] = set()  # whose code has run, though their import statement has not returned yet
_half: set[str] = set()


def when_imported(name: str, hook: Hook, around: Around | None = None) -> None:
    """Call `hook(module)` once module `name` is fully imported; now, if it is. What the hook raises is contained.

    If the import is still to come, the module's code runs within `around()`, which must not raise.
    """
    module = sys.modules.get(name)
    if module is not None and (name in _executed or not _initializing(module)):
        _run(hook, module)
        return
    _waiting.setdefault(name, []).append(hook)
    if around is not None:
        _around[name] = around
    if module is not None:
        _half.add(name)  # being imported right now, before we could wrap its loader: look again at the next import
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def _initializing(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def forget(name: str, hook: Hook) -> None:
    """Take back a hook that has not run."""
    hooks = _waiting.get(name)
    if hooks and hook in hooks:
        hooks.remove(hook)
        if not hooks:
            del _waiting[name]
            _around.pop(name, None)
    if not _waiting and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


def _run(hook: Hook, module: ModuleType) -> None:
    try:
        hook(module)
    except Exception as error:
        guard.site(f"imports.{module.__name__}").failed(error)


def _imported(module: ModuleType) -> None:
    name = module.__name__
    _half.discard(name)
    _executed.add(name)
    for hook in _waiting.pop(name, ()):
        _run(hook, module)


def _look_again() -> None:
    for name in list(_half):
        module = sys.modules.get(name)
        if module is None:
            _half.discard(name)
        elif not _initializing(module):
            _imported(module)


class _Finder:
    """Finds nothing itself: asks the finders after it, and has their loader tell us when it is done."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if _half:
            _look_again()
        if name not in _waiting or name in _finding:
            return None
        _finding.add(name)
        try:
            for finder in sys.meta_path:
                if finder is self:
                    continue
                find = getattr(finder, "find_spec", None)
                spec = find(name, path, target) if find is not None else None
                if spec is not None:
                    _wrap_loader(spec)
                    return spec  # type: ignore[no-any-return]  # a foreign finder's
            return None
        finally:
            _finding.discard(name)


def _wrap_loader(spec: Any) -> None:
    """Put a call of ours after the loader's `exec_module`, on this one loader object."""
    try:
        loader = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            try:
                del loader.exec_module  # the loader is as it was before its module's first line runs
            except AttributeError:
                pass
            with _around.pop(module.__name__, nullcontext)():
                execute(module)
            _imported(module)

        loader.exec_module = exec_module
    except Exception as error:
        guard.site("imports.loader").failed(error)


_finder = _Finder()
