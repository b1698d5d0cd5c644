"""DB-API drivers whose connection and cursor types are C: traced through the driver's own factories.

Such types cannot be changed, but a driver that lets its users bring subclasses (`sqlite3.connect(factory=...)`,
`Connection.cursor(factory=...)`) lets us bring ours: real subclasses, so the driver's type checks pass, and
`Connection.backup`, blobs, pickling errors and all the rest stay what they were.
"""

import sys
from collections.abc import Callable
from typing import Any

from lighttrace.instrument.call import disguise
from lighttrace.instrument.db import Call, Database, DbPatch
from lighttrace.instrument.engine import Bounded
from lighttrace.instrument.patching import Patch


class FactoryPatch(Patch):
    """Trace a module's `connect`, which takes a class of connection as `factory`.

    `methods` says, for each method of a cursor that runs a statement, how to read its call.
    """

    def __init__(
        self,
        target: str,
        connection: Callable[[], type],
        cursor: Callable[[], type],
        methods: dict[str, Callable[..., Call | None]],
        read_database: Callable[[Any], Database],
        read_code: Callable[[BaseException], str | None] | None = None,
        factory_position: int = 5,
    ) -> None:
        super().__init__(target)
        self.connection = connection
        self.cursor = cursor
        self.position = factory_position
        self.calls = {name: DbPatch(f"{target}.{name}", read, read_database, read_code) for name, read in methods.items()}
        self._connections: dict[type, type] = Bounded(256)
        self._cursors: dict[type, type] = Bounded(256)

    def bind(self, integration: str) -> None:
        super().bind(integration)
        for name, call in self.calls.items():
            call.path = f"{self.path}.{name}"
            call.bind(integration)

    def undo(self) -> None:
        super().undo()
        for call in self.calls.values():
            call.site.enabled = False

    def apply(self) -> bool:
        for call in self.calls.values():
            call.site.enabled = True
        return super().apply()

    def wrap(self, original: Any) -> Any:
        position = self.position

        def connect(*args: Any, **kwargs: Any) -> Any:
            if not self.site.enabled:
                return original(*args, **kwargs)
            try:
                wanted = args[position] if len(args) > position else kwargs.get("factory", self.connection())
                traced = self._traced_connection(wanted)
                if traced is not None:
                    if len(args) > position:
                        args = (*args[:position], traced, *args[position + 1 :])
                    else:
                        kwargs = {**kwargs, "factory": traced}
            except Exception as error:
                self.site.failed(error)
            return original(*args, **kwargs)

        return disguise(connect, original)

    def _traced_connection(self, wanted: Any) -> type | None:
        """The class of connection that the program asked for, traced; None if it is no class of the driver's."""
        base = self.connection()
        if not (isinstance(wanted, type) and issubclass(wanted, base)):
            return None
        return self._connections.get(wanted) or _insert(wanted, base, self._connections, self._connection_space)

    def _connection_space(self, base: Any) -> dict[str, Any]:
        patch, default = self, self.cursor()

        def cursor(self: Any, factory: Any = default) -> Any:
            return base.cursor(self, patch.traced_cursor(factory))

        space: dict[str, Any] = {"cursor": disguise(cursor, base.cursor)}
        for name in self.calls:
            if hasattr(base, name):
                space[name] = disguise(self._shortcut(base, default, name), getattr(base, name))
        return space

    def _shortcut(self, base: Any, default: type, name: str) -> Any:
        """`Connection.execute` and its like: make a cursor, call its method, give the cursor back (PEP 249, optional extensions)."""
        if PAST_OVERRIDES:

            def shortcut(connection: Any, *args: Any, **kwargs: Any) -> Any:
                return getattr(base.cursor(connection, self.traced_cursor(default)), name)(*args, **kwargs)

        else:

            def shortcut(connection: Any, *args: Any, **kwargs: Any) -> Any:
                return getattr(connection.cursor(), name)(*args, **kwargs)

        return shortcut

    def traced_cursor(self, factory: Any) -> Any:
        """The class of cursor that the program asked for, traced; the factory itself if it is no class of the driver's."""
        if not self.site.enabled:
            return factory
        made = self._cursors.get(factory) if isinstance(factory, type) else None
        if made is None:
            try:
                base = self.cursor()
                if not (isinstance(factory, type) and issubclass(factory, base)):
                    return factory
                made = _insert(factory, base, self._cursors, self._cursor_space)
            except Exception as error:
                self.site.failed(error)
                return factory
        return made

    def _cursor_space(self, base: Any) -> dict[str, Any]:
        return {name: call.wrap(getattr(base, name)) for name, call in self.calls.items()}


PAST_OVERRIDES = sys.version_info >= (3, 11)
"""Whether a connection's shortcuts make their cursor in C, past a subclass's own `cursor`; before, they called it."""


def _insert(wanted: type, base: type, known: dict[type, type], make_space: Callable[[Any], dict[str, Any]]) -> type:
    """A subclass of `wanted` in which ours stands just above the driver's `base`: a user's own methods are called as ever, with
    the arguments they have, and find us where they call `super()`.
    """
    ours = known.get(base)
    if ours is None:
        ours = known[base] = _like(base, (base,), make_space(base))
    if not issubclass(wanted, ours):  # `base` itself is not; a class that we made may come back to us
        wanted, asked = (ours if wanted is base else _like(wanted, (wanted, ours), {})), wanted
        known[asked] = wanted
    return wanted


def _like(kind: type, bases: tuple[type, ...], space: dict[str, Any]) -> type:
    made = type(kind.__name__, bases, {"__module__": kind.__module__, "__doc__": kind.__doc__, **space})
    made.__qualname__ = kind.__qualname__
    return made
