"""Servers that run beside a test, and what they say: a test waits for a word of theirs, or for their port, and never for a while."""

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

QUIET_S = 0.1
GUNICORN_CONFIG = """
def post_worker_init(worker):
    worker.log.info("worker is ready")
"""
"""For `gunicorn.conf.py`."""
READY = {
    "gunicorn": "worker is ready",
    "uvicorn": "Started server process",
    "hypercorn": "Running on",
    "uwsgi": r"spawned uWSGI worker \d",
    "uwsgi --lazy-apps": "ready in",
}
"""What each worker of a server says, or its master of it, once it is there. Servers that are told to end before all of them are
lose the signal, or a worker that nobody stops: with or without us."""
STOP_DEADLINE_S = 40.0  # servers give what is under way up to 30


class Server:
    """A server in a session of its own, from its start until the end of the `with` block. Everything that it says goes into `log`."""

    def __init__(self, command: list[str], log: Path, *, cwd: Path, env: Mapping[str, str]) -> None:
        self._command = command
        self._log = log
        self._options: dict[str, Any] = {"cwd": cwd, "env": env}
        self._heard = threading.Condition()
        self._text = ""
        self._seen = 0  # characters up to the end of what was found last

    def __enter__(self) -> "Server":
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **self._options
        )
        self._reader = threading.Thread(target=self._read, name="reader")
        self._reader.start()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if exc[0] is None:
                self.stop()
        finally:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)  # whoever is left of its session
            except (ProcessLookupError, PermissionError):
                pass
            self.process.wait()
            self._reader.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe, self._log.open("wb") as log:
            while piece := pipe.read1():
                log.write(piece)
                log.flush()
                with self._heard:
                    self._text += piece.decode(errors="replace")
                    self._heard.notify_all()

    @property
    def said(self) -> str:
        """Everything so far."""
        return self._text

    def says(self, pattern: str, timeout: float, times: int = 1) -> bool:
        """Wait until it says what matches, so many times after what matched last; False if it does not within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._heard:
            while len(found := list(re.compile(pattern).finditer(self._text, self._seen))) < times:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._heard.wait(left)
            self._seen = found[times - 1].end()
        return True

    def listens(self, port: int, timeout: float) -> None:
        """Wait until it takes connections: tried whenever it has said something, and now and then if it says nothing."""
        deadline = time.monotonic() + timeout
        while True:
            said = len(self._text)
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, self.said
                assert time.monotonic() < deadline, self.said
            with self._heard:
                self._heard.wait_for(lambda said=said: len(self._text) > said, QUIET_S)

    def stop(self, timeout: float = STOP_DEADLINE_S) -> int:
        """Tell it to end, by SIGTERM; its exit code. AssertionError where it does not end within `timeout` seconds."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server did not end: {self.said}") from None


def reload(server: Server, application: Path, source: str, timeout: float = STOP_DEADLINE_S) -> None:
    """Change what uvicorn serves, and wait until it has started another process for it."""
    deadline = time.monotonic() + timeout
    while True:
        application.write_text(f"{source}# changed at {time.monotonic()}\n")
        if server.says("Reloading", 2.0):
            break  # else it was changed before the reloader's first look
        assert time.monotonic() < deadline, server.said
    assert server.says(READY["uvicorn"], timeout), server.said
