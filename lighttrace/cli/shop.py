"""The shop of `lighttrace demo`: found, copied to a directory of its own, started as processes, and taken down again."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

from lighttrace.cli.postgres import Postgres

NEEDED = ("fastapi", "uvicorn", "flask", "itsdangerous", "httpx", "requests", "starlette")
"""Modules that the shop's services import. The extra `demo` brings them."""

START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 6.0

_UVICORN = ("-m", "uvicorn", "--host", "127.0.0.1", "--log-level", "warning")
# In the order in which they are started; {port} is each one's own.
COMMANDS: dict[str, tuple[str, ...]] = {
    "bank": ("-m", "bank.server"),
    "inventory": (
        *("-m", "lighttrace", "run", "--service", "inventory", "--team", "logistics", "--", sys.executable),
        *(*_UVICORN, "--port", "{port}", "inventory.app:app"),
    ),
    "checkout": ("-m", "flask", "--app", "checkout.app", "run", "--host", "127.0.0.1", "--port", "{port}"),
    "recommendations": (*_UVICORN, "--port", "{port}", "recommendations.app:app"),
    "storefront": (*_UVICORN, "--port", "{port}", "storefront.app:app"),
}


class ShopError(Exception):
    """A service could not be started; the message holds what it said."""


def missing() -> list[str]:
    """The modules that the shop needs and that are not installed."""
    needed = NEEDED if sys.version_info >= (3, 11) else (*NEEDED, "tomli")  # for the shop's lighttrace.toml
    return [name for name in needed if find_spec(name) is None]


def locate() -> Any:
    """The shop's directory: in the installed package, else in the checkout. Raises ShopError where it is in neither."""
    packaged = resources.files("lighttrace") / "_shop"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parent.parent.parent / "examples" / "shop"
    if checkout.is_dir():
        return checkout
    raise ShopError("the shop is not in this installation of lighttrace; install it from a wheel or from its repository")


@final
class Shop:
    """Five services in processes of their own, that send their spans to `endpoint`. A context manager.

    It runs from a copy in a temporary directory: there, its files are a project's own, as they would be anywhere else,
    while inside the installed package they would count as a library's. `database` is `auto` (a private PostgreSQL if
    its programs are there, else sqlite3), `sqlite`, or a PostgreSQL URL.

    Raises ShopError from `__enter__` and `start` if a service does not come up.
    """

    def __init__(self, endpoint: str, database: str = "auto") -> None:
        self.endpoint = endpoint
        self.database = database
        self.directory = Path(tempfile.mkdtemp(prefix="lighttrace-shop-"))
        self.ports: dict[str, int] = {}
        self._reserved: list[socket.socket] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._postgres: Postgres | None = None

    def __enter__(self) -> "Shop":
        try:
            _copy(locate(), self.directory / "shop")
            for name in (*COMMANDS, "postgres"):
                self.ports[name] = self._reserve()
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_DEADLINE_S
        for process in self._processes.values():
            _reap(process, deadline)
        self._processes.clear()
        if self._postgres is not None:
            self._postgres.stop()
        for reserved in self._reserved:
            reserved.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, name: str) -> str:
        """Where a service listens. The bank alone goes by a name, for the peer table to know it."""
        return f"http://{'localhost' if name == 'bank' else '127.0.0.1'}:{self.ports[name]}"

    def start(self, *names: str) -> None:
        """Start services that are not running, together, and wait until each listens."""
        for name in names:
            log = self.log_file(name).open("ab")
            with log:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, *(word.format(port=self.ports[name]) for word in COMMANDS[name])],
                    cwd=self.directory / "shop",
                    env=self._environment(name),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # an interrupt at the terminal is for us, and we stop them in order
                )
        deadline = time.monotonic() + START_DEADLINE_S
        for name in names:
            self._wait_until_listening(name, deadline)

    def stop(self, name: str) -> None:
        """Stop one service: from then on, its port refuses connections."""
        process = self._processes.pop(name)
        process.terminate()
        _reap(process, time.monotonic() + STOP_DEADLINE_S)

    def log_file(self, name: str) -> Path:
        """What a service wrote."""
        return self.directory / f"{name}.log"

    def _start_all(self) -> None:
        others = [name for name in COMMANDS if name != "inventory"]
        if self.database == "auto":
            self._postgres = Postgres.start(self.ports["postgres"])
        if self._postgres is None:
            self.start(*COMMANDS)
            return
        self.start(*others)  # while the database comes up
        if not self._postgres.wait_until_ready(START_DEADLINE_S):
            self._postgres.stop()
            self._postgres = None
        self.start("inventory")

    def _wait_until_listening(self, name: str, deadline: float) -> None:
        process = self._processes[name]
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.ports[name]), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        code = process.poll()
        what = f"ended with code {code}" if code is not None else f"did not listen within {START_DEADLINE_S:.0f} s"
        raise ShopError(f"{name} {what}. It said:\n{self.log_tail(name)}")

    def log_tail(self, name: str, lines: int = 40) -> str:
        """The last lines that a service wrote, indented."""
        text = self.log_file(name).read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(f"    {line}" for line in text) or "    (nothing)"

    def _reserve(self) -> int:
        """A free port that stays ours: bound, so that nobody else is given it, and not listening, so that it refuses."""
        reserved = socket.socket()
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
        if sys.platform == "linux":
            self._reserved.append(reserved)
        else:  # elsewhere the service could not bind it too
            reserved.close()
        return port

    def _environment(self, name: str) -> dict[str, str]:
        environ = clean_environment(os.environ)
        environ.update(
            PORT=str(self.ports[name]),
            **{f"{other.upper()}_URL": self.url(other) for other in COMMANDS},
            INVENTORY_FILE=str(self.directory / "inventory.db"),
            SHOP_DATABASE_URL=self._database_url(),
            OTEL_EXPORTER_OTLP_ENDPOINT=self.endpoint,
            OTEL_BSP_SCHEDULE_DELAY="100",
            PYTHONUNBUFFERED="1",
        )
        return environ

    def _database_url(self) -> str:
        if self._postgres is not None:
            return self._postgres.url
        return self.database if "://" in self.database else ""

    @property
    def database_name(self) -> str:
        """Which database the inventory uses."""
        return "PostgreSQL" if self._database_url() else "sqlite3"


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without anything that would configure tracing or send the shop's own calls through a proxy."""
    kept = {
        key: value
        for key, value in environ.items()
        if not key.startswith(("OTEL_", "LIGHTTRACE_", "_LIGHTTRACE_")) and not key.lower().endswith("_proxy")
    }
    root = str(Path(__file__).resolve().parent.parent.parent)
    if os.path.basename(root) not in ("site-packages", "dist-packages"):  # a checkout: the services must find it too
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH")]))
    return kept


def _copy(source: Any, target: Path) -> None:
    """Copy a directory of a package, which may be in an archive."""
    target.mkdir()
    for entry in source.iterdir():
        if entry.name == "__pycache__":
            continue
        if entry.is_dir():
            _copy(entry, target / entry.name)
        else:
            (target / entry.name).write_bytes(entry.read_bytes())


def _reap(process: "subprocess.Popen[bytes]", deadline: float) -> None:
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
