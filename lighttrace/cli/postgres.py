"""A private PostgreSQL for the demo's inventory: its own directory, its own port, gone when the demo ends."""

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from typing import Any


class Postgres:
    """A server that was started with `start`. Nobody's data is touched: it lives in a temporary directory."""

    def __init__(self, directory: str, port: int, options: dict[str, Any]) -> None:
        self.directory = directory
        self.url = f"postgresql://shop@127.0.0.1:{port}/postgres"
        self._port = port
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, port: int) -> "Postgres | None":
        """Make and start one, or None where PostgreSQL or psycopg is not there or does not want to."""
        initdb, server = _program("initdb"), _program("postgres")
        if initdb is None or server is None or find_spec("psycopg") is None or sys.platform == "win32":
            return None
        directory = tempfile.mkdtemp(prefix="lighttrace-pg-")
        options: dict[str, Any] = {"cwd": directory, "stdin": subprocess.DEVNULL, "start_new_session": True}
        started = cls(directory, port, options)
        try:
            if os.geteuid() == 0:  # it refuses to run as root
                shutil.chown(directory, "postgres", "postgres")
                options.update(user="postgres", group="postgres", extra_groups=[])
            started._run(initdb, server)
        except (OSError, LookupError, subprocess.SubprocessError):
            started.stop()
            return None
        return started

    def _run(self, initdb: str, server: str) -> None:
        data = os.path.join(self.directory, "data")
        log = os.path.join(self.directory, "log")
        with open(log, "wb") as output:
            subprocess.run(
                [initdb, "-D", data, "-A", "trust", "-U", "shop", "-E", "UTF8", "--locale=C", "--no-sync"],
                **self._options, check=True, timeout=20, stdout=output, stderr=output,
            )  # fmt: skip
            self._process = subprocess.Popen(
                [server, "-D", data, "-p", str(self._port), "-h", "127.0.0.1", "-k", "", "-F"],
                **self._options, stdout=output, stderr=output,
            )  # fmt: skip

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Whether it answers within that time."""
        import psycopg

        deadline = time.monotonic() + timeout_s
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return True
            except psycopg.OperationalError:
                time.sleep(0.02)
        return False

    def stop(self) -> None:
        """Stop it and remove its directory."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)


def _program(name: str) -> str | None:
    """A program of PostgreSQL: on PATH, or where distributions keep it."""
    found = shutil.which(name)
    if found is not None:
        return found
    versions = glob.glob(f"/usr/lib/postgresql/*/bin/{name}")
    return max(versions, key=lambda path: float(path.split("/")[4]), default=None)
