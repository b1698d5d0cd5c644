"""Integrations: what each is made of, which are in place, and why the others are not."""

import re
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from lighttrace import guard
from lighttrace.instrument import imports
from lighttrace.instrument.patching import Patch


class Integration:
    """One library: its name, the versions that were read and tested, and the patches that trace it.

    `requires` is stated here and nowhere else (for example `"httpx>=0.24"`); the version check, the documentation's
    table and the tests against the oldest and newest version read it.
    """

    def __init__(self, name: str, requires: str, patches: Iterable[Patch], *, summary: str = "") -> None:
        self.name = name
        self.requires = requires
        self.patches = tuple(patches)
        self.summary = summary
        self.installed: str | None = None
        self.reason: str | None = None
        self.state = "waiting"
        for patch in self.patches:
            patch.bind(name)

    def enable(self) -> None:
        """Patch each module that is imported now, and the others when they will be."""
        if self.state in ("patched", "skipped"):
            return
        reason = self._why_not()
        if reason is not None:
            self.state, self.reason = "skipped", reason
            return
        self.state = "patched"
        for patch in self.patches:
            imports.when_imported(patch.module, self._hook(patch))

    def disable(self) -> None:
        """Undo every patch exactly."""
        for patch in reversed(self.patches):
            hook = self._hooks.pop(patch, None)
            if hook is not None:
                imports.forget(patch.module, hook)
            patch.undo()
        self.state, self.reason = "waiting", None

    @property
    def _hooks(self) -> dict[Patch, Any]:
        return self.__dict__.setdefault("_pending", {})  # type: ignore[no-any-return]  # made on first use

    def _hook(self, patch: Patch) -> Any:
        def hook(module: ModuleType) -> None:
            self._hooks.pop(patch, None)
            try:
                patch.apply()
            except AttributeError as error:
                self.reason = f"{patch.target} is not there in {self.installed}: {error}"
                guard.log(f"patch.{patch.target}", f"{self.name}: {self.reason}")

        self._hooks[patch] = hook
        return hook

    def _why_not(self) -> str | None:
        name, _, _ = self.requires.partition(">")
        name = re.split(r"[<>=!~\[ ]", self.requires, maxsplit=1)[0]
        self.installed = installed_version(name)
        # Without a version, it is part of the standard library or has no metadata: nothing to hold against it.
        if self.installed is not None and not satisfies(self.installed, self.requires[len(name) :]):
            return f"{name} {self.installed} is installed and {self.requires} is needed"
        return foreign_instrumentation(self.name)


def installed_version(name: str) -> str | None:
    """The version of a distribution; from the module itself where it says so, since asking the metadata is slow."""
    module = sys.modules.get(name.replace("-", "_"))
    version = vars(module).get("__version__") if module is not None else None
    if isinstance(version, str):
        return version
    if name.partition(".")[0] in sys.stdlib_module_names:
        return None
    try:
        from importlib.metadata import version as ask

        return ask(name)
    except Exception:
        return None


def satisfies(version: str, specifier: str) -> bool:
    """Whether a version meets `>=1.2,<3`. Only the numbers count: a pre-release counts as its release.

    >>> satisfies("2.31.0", ">=2.20"), satisfies("0.9", ">=1"), satisfies("3.0rc1", ">=2,<3")
    (True, False, False)
    """

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.match(r"[\d.]*", text.strip()).group().split(".") if part)  # type: ignore[union-attr]  # matches empty

    have = numbers(version)
    for clause in filter(None, specifier.split(",")):
        parsed = re.match(r"\s*(>=|<=|==|!=|<|>)\s*([\d.]+)", clause)
        if parsed is None:
            continue
        operator, wanted = parsed.group(1), numbers(parsed.group(2))
        size = max(len(have), len(wanted))
        a, b = have + (0,) * (size - len(have)), wanted + (0,) * (size - len(wanted))
        if not {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, "<": a < b, ">": a > b}[operator]:
            return False
    return True


def foreign_instrumentation(name: str) -> str | None:
    """Why to leave a library alone: OpenTelemetry's own instrumentation traces it already."""
    if name in registry.yielded:
        return registry.yielded[name]
    module = sys.modules.get(f"opentelemetry.instrumentation.{name}")
    if module is None:
        return None
    for value in list(vars(module).values()):
        instance = vars(value).get("_instance") if isinstance(value, type) else None
        if instance is not None and getattr(instance, "is_instrumented_by_opentelemetry", False):
            return f"opentelemetry-instrumentation-{name} traces it already"
    return None


class Registry:
    """All integrations by name, loaded when their library is imported."""

    def __init__(self) -> None:
        self.triggers: dict[str, tuple[str, str]] = {}  # integration: (module that triggers it, where its code is)
        self.loaded: dict[str, Integration] = {}
        self.disabled: frozenset[str] = frozenset()
        self.failed: dict[str, str] = {}
        self.yielded: dict[str, str] = {}  # integration: what traces its library instead
        self.enabled = False
        self._hooks: dict[str, Any] = {}

    def enable(self, triggers: Mapping[str, tuple[str, str]], disabled: frozenset[str] = frozenset()) -> None:
        """Wait for each library, and patch at once those that are imported already."""
        self.disabled = disabled
        self.enabled = True
        for name, (module, package) in triggers.items():
            self.triggers[name] = (module, package)
            if name in disabled or module in disabled:
                continue
            if name in self.loaded:
                self.loaded[name].enable()
            elif name not in self._hooks:
                hook = self._loader(name, package)
                self._hooks[name] = hook
                imports.when_imported(module, hook)

    def disable(self) -> None:
        """Undo everything, and wait for nothing more."""
        self.enabled = False
        for name, hook in self._hooks.items():
            imports.forget(self.triggers[name][0], hook)
        self._hooks.clear()
        for integration in self.loaded.values():
            integration.disable()

    def yield_to(self, name: str, reason: str) -> None:
        """Undo one integration, because something else traces that library from now on; keep it out if it is yet to come."""
        self.yielded[name] = reason
        integration = self.loaded.get(name)
        if integration is not None:
            integration.disable()
            integration.state, integration.reason = "skipped", reason

    def resume(self, name: str) -> None:
        """Take `yield_to` back: nothing else traces that library any more."""
        self.yielded.pop(name, None)
        integration = self.loaded.get(name)
        if integration is not None and integration.state == "skipped" and self.enabled:
            integration.disable()
            integration.enable()

    def report(self) -> list[dict[str, Any]]:
        """One entry per integration: name, library, requires, installed version, state, reason."""
        lines = []
        for name, (module, _) in sorted(self.triggers.items()):
            integration = self.loaded.get(name)
            state, reason = "waiting", f"{module} has not been imported by the program"
            if name in self.disabled or module in self.disabled:
                state, reason = "disabled", "by configuration"
            elif name in self.failed:
                state, reason = "skipped", self.failed[name]
            elif integration is not None:
                state, reason = integration.state, integration.reason or ""
            lines.append(
                {
                    "name": name,
                    "library": module,
                    "requires": integration.requires if integration is not None else None,
                    "installed_version": integration.installed if integration is not None else None,
                    "state": state,
                    "reason": reason or None,
                    "failures": sum(patch.site.failures for patch in integration.patches) if integration is not None else 0,
                }
            )
        return lines

    def _loader(self, name: str, package: str) -> Any:
        def load(module: ModuleType) -> None:
            try:
                from importlib import import_module

                integration: Integration = import_module(package).INTEGRATION
                self.loaded[name] = integration
                integration.enable()
            except Exception as error:
                self.failed[name] = f"could not be loaded: {error}"
                raise

        return load


registry = Registry()
report = registry.report
