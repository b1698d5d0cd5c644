"""DB-API drivers whose connection and cursor types are C: traced through the driver's own factories.

Such types cannot be changed, but a driver that lets its users bring subclasses (`sqlite3.connect(factory=...)`,
`Connection.cursor(factory=...)`) lets us bring ours: real subclasses, so the driver's type checks pass, and
`Connection.backup`, blobs, pickling errors and all the rest stay what they were.
"""

from collections.abc import Callable
from typing import Any

from lighttrace.instrument.call import disguise
from lighttrace.instrument.db import Call, Database, DbPatch
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
        self._connections: dict[type, type] = {}
        self._cursors: dict[type, type] = {}

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
        """A subclass of the class that the program asked for, whose cursors are traced; None if it is no class of the driver's."""
        base = self.connection()
        if not (isinstance(wanted, type) and issubclass(wanted, base)):
            return None
        made = self._connections.get(wanted)
        if made is None:
            patch, default = self, self.cursor()

            def cursor(self: Any, factory: Any = default) -> Any:
                return wanted.cursor(self, patch.traced_cursor(factory))  # type: ignore[attr-defined]  # a driver's connection has it

            space: dict[str, Any] = {"cursor": cursor, "__module__": wanted.__module__, "__doc__": wanted.__doc__}
            for name in self.calls:
                # A shortcut of the driver's own makes its cursor in C, past our `cursor`; one of the user's is left alone.
                if hasattr(base, name) and getattr(wanted, name) is getattr(base, name):
                    space[name] = disguise(self._shortcut(base, default, name), getattr(base, name))
            made = type(wanted.__name__, (wanted,), space)
            made.__qualname__ = wanted.__qualname__
            self._connections[wanted] = made
        return made

    def _shortcut(self, base: Any, default: type, name: str) -> Any:
        """`Connection.execute` and its like: make a cursor, call its method, give the cursor back (PEP 249, optional extensions)."""

        def shortcut(connection: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(base.cursor(connection, self.traced_cursor(default)), name)(*args, **kwargs)

        return shortcut

    def traced_cursor(self, factory: Any) -> Any:
        """A subclass of the cursor class that the program asked for; the factory itself if it is no class of the driver's."""
        if not self.site.enabled:
            return factory
        made = self._cursors.get(factory) if isinstance(factory, type) else None
        if made is None:
            try:
                if not (isinstance(factory, type) and issubclass(factory, self.cursor())):
                    return factory
                space: dict[str, Any] = {"__module__": factory.__module__, "__doc__": factory.__doc__}
                for name, call in self.calls.items():
                    space[name] = call.wrap(getattr(factory, name))
                made = type(factory.__name__, (factory,), space)
                made.__qualname__ = factory.__qualname__
                self._cursors[factory] = made
            except Exception as error:
                self.site.failed(error)
                return factory
        return made
