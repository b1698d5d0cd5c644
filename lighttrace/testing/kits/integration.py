"""What every integration has to pass."""

import asyncio
import contextlib
import copy
import functools
import importlib
import inspect
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import wrapt

from lighttrace.instrument import Integration, engine
from lighttrace.instrument.patching import Patch
from lighttrace.testing.capture import Capture, capture
from lighttrace.testing.gaps import declare

Outcome = tuple[str, Any]


class Slotted(Exception):
    """An exception to which nothing can be attached."""

    __slots__ = ()

    @property
    def __dict__(self) -> Any:  # type: ignore[override]  # what object has there is not for the taking
        raise AttributeError("nothing can be attached")


class BrokenError(Exception):
    """What the broken parts of these tests raise."""


def break_down(*args: Any, **kwargs: Any) -> Any:
    """Stands in the place of a part of ours that is broken."""
    raise BrokenError("broken on purpose")


class BrokenObject:
    """A processor, resolver, sampler or propagator of which everything is broken."""

    has_rules = True

    def __getattr__(self, name: str) -> Any:
        return break_down


def observe(operation: Callable[[], Any]) -> Outcome:
    """What a program sees of an operation: its result, or the exception, with everything that hangs on it."""
    try:
        return "value", operation()
    except BaseException as error:
        chain = []
        inner: BaseException | None = error
        while inner is not None:
            chain.append((type(inner), _stable(inner)))
            inner = inner.__cause__ or inner.__context__
        return "error", chain


def _stable(error: BaseException) -> str:
    """The message without addresses of objects."""
    import re

    return re.sub(r"0x[0-9a-f]+|object at \w+|port=\d+", "", str(error))


class IntegrationKit:
    """Inherit from a kit that inherits from this one. The subclass gives `integration`, `library` and `operations`."""

    integration: Integration
    library: ClassVar[str]
    """The module whose import brings the integration in."""
    unsupported: ClassVar[dict[str, str]] = {}
    """Tests that this integration cannot pass, each with the reason."""
    imports: ClassVar[str] = ""
    """Lines of a program: import the library, take names out of it, make a subclass of its class."""
    uses: ClassVar[dict[str, str]] = {}
    """Lines of that program that make one span each, by what they show."""
    options: ClassVar[dict[str, Any]] = {"capture_request_headers": ("x-kit",), "capture_response_headers": ("content-type",)}
    spans: Capture

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "unsupported" in cls.__dict__:
            declare(cls, cls.unsupported)

    # -- what a subclass says ------------------------------------------------------------------------------------

    def operations(self) -> dict[str, Callable[[], Any]]:
        """Ways to use the library, each giving something that can be compared, or raising."""
        raise NotImplementedError

    def raising(self, error: BaseException) -> None:
        """Use the library such that code of the user's own, called below the patch, raises `error`."""
        raise NotImplementedError

    def globals(self) -> dict[str, Any]:
        """Names for `imports` and `uses`: strings and numbers."""
        return {}

    def supports(self, test: str) -> bool:
        """Whether that test is not declared as a gap."""
        return getattr(self, test) is not None

    # -- what the kits use ---------------------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _traced(self) -> Iterator[None]:
        with self.tracing(strict=True) as spans:
            self.spans = spans
            with self.enabled():
                yield
        for span in spans.everything:
            assert span.service == "kit", f"{span} has no service"
            assert span.team is not None and span.attributes["team"] == span.team, f"{span} has no team"

    def tracing(self, **options: Any) -> Capture:
        """A capture with other options."""
        return capture(**{"service": "kit", "team": "kit-team", "resolver": None, "patch": False, **options})

    @contextlib.contextmanager
    def enabled(self) -> Iterator[None]:
        """With the integration in place."""
        self.integration.enable()
        try:
            assert self.integration.state == "patched", self.integration.reason
            yield
        finally:
            self.integration.disable()

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Without the integration."""
        self.integration.disable()
        try:
            yield
        finally:
            self.integration.enable()

    def targets(self) -> Iterator[tuple[Patch, Any, str]]:
        """Each patch, with the class or module it is about and the name there."""
        for patch in self.integration.patches:
            owner: Any = importlib.import_module(patch.module)  # libraries import some of them with the first call
            *parents, name = patch.path.split(".")
            for part in parents:
                owner = getattr(owner, part)
            yield patch, owner, name

    def adapters(self) -> dict[Any, list[tuple[Any, str]]]:
        """Every function of the integration that the engine calls, with the patches that hold it, and as what."""
        found: dict[Any, list[tuple[Any, str]]] = {}
        for patch in self.integration.patches:
            for holder in (patch, *getattr(patch, "calls", {}).values()):
                for name, value in vars(holder).items():
                    if inspect.isfunction(value) and name.startswith(("read_", "prepare")):
                        found.setdefault(value, []).append((holder, name))
        return found

    @functools.cached_property
    def _untraced(self) -> dict[str, Outcome]:
        with self.disabled(), self.tracing():
            return {name: observe(operation) for name, operation in self.operations().items()}

    def assert_host_notices_nothing(self) -> None:
        """Every operation ends as it does without us."""
        expected = self._untraced
        for name, operation in self.operations().items():
            assert observe(operation) == expected[name], name

    # -- the host call is sacred ---------------------------------------------------------------------------------

    def test_results_and_exceptions_are_those_of_the_library(self) -> None:
        self.assert_host_notices_nothing()
        self.spans.check_ended()
        assert self.spans.waiting
        self.spans.clear()

    def test_broken_adapters_never_break_the_host(self) -> None:
        expected = self._untraced
        for adapter, places in self.adapters().items():
            with self.tracing(contained=True, **self.options) as spans:
                for holder, name in places:
                    setattr(holder, name, break_down)
                try:
                    for operation_name, operation in self.operations().items():
                        assert observe(operation) == expected[operation_name], (
                            f"{operation_name} with a broken {adapter.__name__}"
                        )
                    spans.check_ended()
                finally:
                    for holder, name in places:
                        setattr(holder, name, adapter)
                        self._forgive(holder)
                assert spans.failures, f"no operation of this kit's reaches {adapter.__name__}"
                assert all(isinstance(error, BrokenError) for _, error in spans.failures), spans.failures

    def test_broken_processor_never_breaks_the_host(self) -> None:
        with self.tracing(contained=True) as spans:
            spans.provider.add_span_processor(BrokenObject())
            self.assert_host_notices_nothing()

    def test_broken_sampler_never_breaks_the_host(self) -> None:
        with self.tracing(contained=True, sampler=BrokenObject()) as spans:
            self.assert_host_notices_nothing()
            spans.check_ended()
            assert spans.waiting, "what a sampler cannot decide is recorded"

    def test_broken_resolver_never_breaks_the_host(self) -> None:
        with self.tracing(contained=True) as spans:
            engine.state.resolver = spans.provider.pipeline.resolver = BrokenObject()
            try:
                self.assert_host_notices_nothing()
            finally:
                for patch in self.integration.patches:
                    self._forgive(patch)
            spans.check_ended()

    def test_broken_propagator_never_breaks_the_host(self) -> None:
        from opentelemetry import propagate

        with self.tracing(contained=True) as spans:
            propagate.set_global_textmap(BrokenObject())  # type: ignore[arg-type]  # it only looks like one
            try:
                self.assert_host_notices_nothing()
            finally:
                for patch in self.integration.patches:
                    self._forgive(patch)
            spans.check_ended()

    @staticmethod
    def _forgive(holder: Any) -> None:
        holder.site.failures = 0
        holder.site.enabled = True

    @pytest.mark.parametrize("kind", [ValueError, Slotted, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
    def test_exceptions_pass_as_the_same_object(self, kind: type[BaseException]) -> None:
        error = kind("raised by the user's own code") if kind is not Slotted else Slotted()
        seen: BaseException | None = None
        try:
            self.raising(error)
        except BaseException as raised:
            seen = raised
        assert seen is error
        assert error.__context__ is None
        assert error.__cause__ is None
        span = self.spans.take()[0]
        control_flow = kind in {GeneratorExit, asyncio.CancelledError}
        assert span.status == ("unset" if control_flow else "error")
        assert len(span.exceptions) == (0 if control_flow else 1)

    # -- patching ------------------------------------------------------------------------------------------------

    def test_undo_leaves_no_trace(self) -> None:
        with self.disabled():
            before = {id(owner): (owner, dict(vars(owner))) for _, owner, _ in self.targets()}
            for _ in range(3):
                self.integration.enable()
                self.integration.disable()
            for owner, kept in before.values():
                now = dict(vars(owner))
                assert now.keys() == kept.keys()
                changed = [name for name, value in now.items() if value is not kept[name]]
                assert not changed, f"{owner} is not as it was: {changed}"

    @pytest.mark.parametrize("style", ["function", "wrapt"])
    def test_undo_below_a_foreign_wrapper_goes_silent(self, style: str) -> None:
        called = []

        def foreign(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            called.append(wrapped)
            return wrapped(*args, **kwargs)

        wrapped = []
        assert self._untraced  # known before anything is wrapped
        for _, owner, name in self.targets():
            ours = vars(owner)[name]
            wrapper = wrapt.FunctionWrapper(ours, foreign) if style == "wrapt" else _wrapped_plainly(ours, called)
            setattr(owner, name, wrapper)
            wrapped.append((owner, name, ours, wrapper))
        try:
            self.integration.disable()
            assert all(vars(owner)[name] is wrapper for owner, name, _, wrapper in wrapped)
            with self.tracing() as spans:
                self.assert_host_notices_nothing()
                assert not [span for span in spans.everything if span.scope == f"lighttrace.{self.integration.name}"]
            self.integration.enable()
            assert all(vars(owner)[name] is wrapper for owner, name, _, wrapper in wrapped), (
                "what is covered is not wrapped again"
            )
            self.assert_host_notices_nothing()
        finally:
            for owner, name, ours, _ in wrapped:
                setattr(owner, name, ours)
        assert called
        self.spans.check_ended()
        assert self.spans.waiting, "it is switched on again"
        self.spans.clear()

    def test_patched_functions_look_as_they_did(self) -> None:
        with self.disabled():
            before = [_appearance(owner, name) for _, owner, name in self.targets()]
        for was, (_, owner, name) in zip(before, self.targets(), strict=True):
            now = _appearance(owner, name)
            if was["signature"] is None:
                del was["signature"], now["signature"]
            assert now == was

    def test_enabling_twice_is_once(self) -> None:
        once = [vars(owner)[name] for _, owner, name in self.targets()]
        self.integration.enable()
        for patch in self.integration.patches:
            patch.apply()
        assert [vars(owner)[name] for _, owner, name in self.targets()] == once

    def test_version_that_is_too_old_is_reported_and_left_alone(self) -> None:
        with self.disabled():
            before = [vars(owner).get(name) for _, owner, name in self.targets()]
            tomorrow = copy.copy(self.integration)
            name = tomorrow.requires.partition(">")[0]
            tomorrow.requires = f"{name}>=9999"
            tomorrow.enable()
            assert tomorrow.state == "skipped"
            assert tomorrow.reason is not None and "9999" in tomorrow.reason and name in tomorrow.reason
            assert [vars(owner).get(name) for _, owner, name in self.targets()] == before

    # -- programs of their own -----------------------------------------------------------------------------------

    def run_program(self, order: str) -> dict[str, Any]:
        """Run `imports` and `uses` in a fresh interpreter; what `lighttrace.testing.kits.program` says."""
        spec = {
            "order": order,
            "imports": self.imports,
            "uses": self.uses,
            "globals": self.globals(),
            "library": self.library,
            "name": self.integration.name,
        }
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "lighttrace.testing.kits.program", json.dumps(spec)],
            capture_output=True, text=True, timeout=60, check=False,
            env={key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LIGHTTRACE_", "COVERAGE_"))},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    @pytest.mark.parametrize("order", ["import first, init twice", "patch first"])
    def test_programs_are_traced_whatever_comes_first(self, order: str) -> None:
        said = self.run_program(order)
        assert said["report"]["state"] == "patched", said["report"]
        assert said["uses"] == dict.fromkeys(self.uses, 1)
        assert said["after shutdown"] == dict.fromkeys(self.uses, 0)
        assert said["again"] == dict.fromkeys(self.uses, 1)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    def test_forked_children_keep_the_team(self) -> None:
        assert self.run_program("forked") == {"uses": dict.fromkeys(self.uses, 1), "teams": ["kit-scope"]}

    def test_absent_library_is_reported_and_breaks_nothing(self) -> None:
        said = self.run_program("absent")
        assert said["absent"], "importing it fails as it does without us"
        assert said["report"]["state"] == "waiting"
        assert said["report"]["reason"]


def _wrapped_plainly(ours: Any, called: list[Any]) -> Any:
    inner = ours.__func__ if isinstance(ours, staticmethod | classmethod) else ours

    @functools.wraps(inner)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        called.append(inner)
        return inner(*args, **kwargs)

    return type(ours)(wrapper) if isinstance(ours, staticmethod | classmethod) else wrapper


def _appearance(owner: Any, name: str) -> dict[str, Any]:
    raw = vars(owner).get(name, inspect.getattr_static(owner, name))
    found = getattr(owner, name)
    try:
        signature: Any = inspect.signature(found)
    except ValueError:  # a builtin without one
        signature = None
    return {
        "kind": type(raw).__name__ if isinstance(raw, staticmethod | classmethod) else "function",
        "signature": signature,
        "name": found.__name__,
        "qualname": found.__qualname__,
        "module": found.__module__,
        "doc": found.__doc__,
        "annotations": getattr(found, "__annotations__", {}),
        # What a plain function that gives a coroutine is marked with, only asyncio knew up to 3.10.
        "coroutine": (inspect if sys.version_info >= (3, 11) else asyncio).iscoroutinefunction(found),
        "generator": inspect.isgeneratorfunction(found),
        "async generator": inspect.isasyncgenfunction(found),
        "pickled": pickle.loads(pickle.dumps(found)) is found or "by name",
    }
