"""Patching in place, and its exact undo.

A target is written `module:Class.method` or `module:function`. What stands there is replaced on the class or module
itself, so that names imported before and subclasses defined before are traced too; what cannot be replaced in place (a
function of a C module) is also replaced in every module that holds it under a name of its own.

Undo puts back exactly what stood there. If somebody has wrapped us since, their wrapper stays and ours goes silent.
"""

import sys
from typing import TYPE_CHECKING, Any

from lighttrace import guard

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "__lighttrace_patch__"


class Patch:
    """One seam in one library. Subclasses say, in `wrap`, what is put there."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.module, _, self.path = target.partition(":")
        self.integration = ""
        self.site = guard.Site(f"integrations.{target}")
        self._undo: list[Callable[[], bool]] = []  # each gives False when somebody else's wrapper stands in the way
        self._applied = False

    def wrap(self, original: Any) -> Any:
        """What stands in the place of `original` from now on."""
        raise NotImplementedError

    def bind(self, integration: str) -> None:
        """Called once, with the name of the integration that this patch is part of."""
        self.integration = integration
        guard.sites.pop(self.site.name, None)
        self.site.name = f"{integration}:{self.path or self.target}"
        guard.sites[self.site.name] = self.site

    def apply(self) -> bool:
        """Patch the target, whose module is imported. True if it now is patched; raises AttributeError if it is not there."""
        if self._applied:
            return False
        owner: Any = sys.modules[self.module]
        *parents, name = self.path.split(".")
        for part in parents:
            owner = getattr(owner, part)
        raw = vars(owner).get(name, _ABSENT)
        found = getattr(owner, name) if raw is _ABSENT else raw
        self.site.enabled = True
        self._applied = True
        if _is_ours(found, self):
            return True  # still below a foreign wrapper from last time: it has just been switched on again
        self._undo.clear()
        replacement = self._replacement(found)
        setattr(owner, name, replacement)
        self._undo.append(lambda: _restore(owner, name, raw, replacement))
        if not isinstance(owner, type):
            self._rebind(found, replacement, owner)
        return True

    def undo(self) -> None:
        """Put back what stood there before `apply`; below a foreign wrapper as soon as that is gone and this is called again."""
        self.site.enabled = False
        self._applied = False
        self._undo = [step for step in self._undo if not step()]

    def _replacement(self, found: Any) -> Any:
        for kind in (staticmethod, classmethod):
            if isinstance(found, kind):
                return kind(self._marked(self.wrap(found.__func__)))
        return self._marked(self.wrap(found))

    def _marked(self, wrapper: Any) -> Any:
        try:
            setattr(wrapper, MARK, self)
        except (AttributeError, TypeError):
            guard.count("patching.unmarked")
        return wrapper

    def _rebind(self, found: Any, replacement: Any, owner: Any) -> None:
        """A module's function cannot be changed in place: replace it wherever `from module import name` has put it."""
        for module in list(sys.modules.values()):
            if module is owner or module is None or (getattr(module, "__name__", None) or "").startswith("lighttrace"):
                continue
            try:
                names = [name for name, value in list(vars(module).items()) if value is found]
            except TypeError:
                continue
            for name in names:
                setattr(module, name, replacement)
                self._undo.append(lambda module=module, name=name: _restore(module, name, found, replacement))  # type: ignore[misc]  # a lambda's defaults


_ABSENT = object()


def _restore(owner: Any, name: str, raw: Any, replacement: Any) -> bool:
    if vars(owner).get(name) is not replacement:
        guard.count("patching.left_below_foreign_wrapper")
        return False
    if raw is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, raw)
    return True


def _is_ours(found: Any, patch: Patch) -> bool:
    """Whether `patch` stands somewhere in the chain of wrappers."""
    for _ in range(32):
        if found is None:
            return False
        if getattr(found, "__dict__", {}).get(MARK) is patch:
            return True
        found = getattr(found, "__wrapped__", None) or getattr(found, "__func__", None)
    return False
