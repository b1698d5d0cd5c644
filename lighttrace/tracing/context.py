"""The one context store, OpenTelemetry's, and what LightTrace keeps in it: the current span and the team scope.

`current` is the ContextVar that opentelemetry-api itself uses, so that attaching a span is one `set`: where nothing but a
span of ours is current, which is nearly always, the variable holds the span itself, and the `Context` around it is made when
somebody else asks (`_Runtime`). If the program chose another runtime context (`OTEL_PYTHON_CONTEXT`), an adapter with the same
three methods takes the variable's place, and there it is always a `Context`.
"""

from collections.abc import Iterator
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace.propagation import _SPAN_KEY

from lighttrace import guard
from lighttrace.tracing.owner import Owner, owner

SPAN_KEY = _SPAN_KEY  # no public name gives the key without a function call
TEAM_KEY = "lighttrace-team"
HANDED_KEY = "lighttrace-handed-down"
"""In a context with baggage of ours: the attributes that every span started in it carries, as an `Owner` of nobody."""
SUPPRESS_KEY = otel_context._SUPPRESS_INSTRUMENTATION_KEY
SUPPRESS_HTTP_KEY = otel_context._SUPPRESS_HTTP_INSTRUMENTATION_KEY

_put = dict.__setitem__


bare: set[type] = set()
"""The classes of our spans, which stand in `current` for a context of nothing else."""


def context_of(value: Any) -> Context:
    """The context that `value`, from `current`, is or stands for."""
    return Context({SPAN_KEY: value}) if type(value) in bare else value


def is_alone(value: Any) -> bool:
    """Whether there is nothing beside a span in the context that `value`, from `current`, is or stands for; nor need there be one."""
    return not value or type(value) in bare or (len(value) == 1 and SPAN_KEY in value)


def span_of(value: Any) -> Any:
    """The span of the context that `value`, from `current`, is or stands for; None if it has none."""
    return value if type(value) in bare else value.get(SPAN_KEY)


readers: set[bool] = set()
"""Not empty once somebody has asked OpenTelemetry's API for the current context where it was a span: a server whose framework does
so makes the context at once, which is what a request costs least."""


class _Runtime(ContextVarsRuntimeContext):
    """OpenTelemetry's runtime context over the same variable, for whoever reads the current context through its API."""

    def get_current(self) -> Context:
        value: Any = read_current()
        if type(value) is not Context and type(value) in bare:
            value = Context({SPAN_KEY: value})
            readers.add(True)
            # For the next one who asks: some frameworks do so several times for a request. Whoever set the span goes back
            # to what was there before it, all the same.
            self._current_context.set(value)
        return value  # type: ignore[no-any-return]  # what was attached


class _ForeignRuntime:
    """`get`, `set` and `reset` over whatever runtime context the program configured."""

    get = staticmethod(otel_context.get_current)
    reset = staticmethod(otel_context.detach)

    @staticmethod
    def set(value: Any) -> Any:
        return otel_context.attach(context_of(value))


def _find_current() -> Any:
    runtime: Any = otel_context._RUNTIME_CONTEXT
    variable = getattr(runtime, "_current_context", None)
    if type(runtime) is not ContextVarsRuntimeContext or type(variable).__name__ != "ContextVar":
        return _ForeignRuntime
    # For good: what a task has in its context outlives our being switched off.
    runtime.__class__ = _Runtime
    return variable


current: Any = _find_current()
# By names of their own: a method of a global is looked up anew and bound with each call.
read_current, set_current, reset_current = current.get, current.set, current.reset


def now() -> Context:
    """The current context."""
    return context_of(read_current())


def with_value(context: Context, key: str, value: object) -> Context:
    """A copy of `context` in which `key` is `value`."""
    made = Context(context)
    _put(made, key, value)
    return made


def detach(token: Any) -> None:
    """Go back to the context before `token`. Out of order, or from another task, this is a count and not an error."""
    try:
        reset_current(token)
    except (ValueError, RuntimeError):
        guard.count("context.detached_elsewhere")


class TeamScope:
    """`with lighttrace.team("fraud")`: every span started inside, in this task and in those it starts, is fraud's."""

    __slots__ = ("_owner", "_tokens")

    def __init__(self, team: str) -> None:
        self._owner: Owner = owner(team, "scope")
        self._tokens: list[Any] = []

    def __enter__(self) -> None:
        self._tokens.append(set_current(with_value(now(), TEAM_KEY, self._owner)))

    def __exit__(self, *exc: object) -> None:
        detach(self._tokens.pop())

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__()

    def __call__(self, function: Any) -> Any:
        """As a decorator: everything that happens during a call of `function` belongs to the team."""
        from lighttrace.tracing.stepping import in_scope

        return in_scope(function, lambda: TeamScope(self._owner.team or ""))


class Detached:
    """`with lighttrace.detached()`: spans started inside begin traces of their own, linked to the one outside."""

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens: list[Any] = []

    def __enter__(self) -> None:
        context = now()
        span: Any = context.get(SPAN_KEY)
        made = Context({key: value for key, value in context.items() if key != SPAN_KEY})
        if span is not None:
            _put(made, LINK_KEY, span.get_span_context())
        self._tokens.append(set_current(made))

    def __exit__(self, *exc: object) -> None:
        detach(self._tokens.pop())

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__()


LINK_KEY = "lighttrace-link"
"""In a detached context: the context of the span that the next root span links to."""


class Attached:
    """`with Attached(context)`: run a block in an OpenTelemetry context carried here from another thread or task."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = set_current(self._context)

    def __exit__(self, *exc: object) -> None:
        detach(self._token)


def suppressed() -> Iterator[None]:
    """Not traced in here, by us or by OpenTelemetry's instrumentations; a generator for `contextlib.contextmanager`."""
    token = set_current(with_value(with_value(now(), SUPPRESS_KEY, True), SUPPRESS_HTTP_KEY, True))
    try:
        yield
    finally:
        detach(token)
