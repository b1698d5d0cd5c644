"""What the fault matrix shares: a backend that can be told to fail, and the report that `docs/reliability.md` is made from."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.backend import Backend
from tests.faults.certificates import Certificates, make

HERE = Path(__file__).resolve().parent

# A shell's `... &` has what it starts ignore SIGINT, and Python's programs below it, too: nothing would end them by that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The matrix takes minutes: what is slow of it runs where it is asked for (`nox -s faults`, or by its path)."""
    if os.environ.get("FAULTS_REPORT") or any("faults" in argument for argument in config.args):
        return
    left_out = [item for item in items if HERE in item.path.parents and item.get_closest_marker("slow") is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend in threads of its own, that takes everything until it is told otherwise."""
    with Backend() as running:
        yield running


@pytest.fixture(autouse=True)
def reports_stay_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What processes tell `lighttrace doctor` of their drops goes into the test's own directory."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of all kinds, made once."""
    return make(tmp_path_factory.mktemp("certificates"))


Record = Callable[[int, str, str, str], None]


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """`record(row, tried, lighttrace, opentelemetry)`: a line of docs/reliability.md, in the words of a reader.

    `row` is the number of the fault; then what was tried, and what was seen of LightTrace and of opentelemetry's SDK in the
    same scenario (empty where it was not run). Figures may differ from run to run, words may not. To be called after the
    assertions. Written to the file that FAULTS_REPORT names, if it names one.
    """

    def write(row: int, tried: str, lighttrace: str, opentelemetry: str) -> None:
        path = os.environ.get("FAULTS_REPORT")
        if path:
            line = {
                "row": row,
                "tried": tried,
                "lighttrace": lighttrace,
                "opentelemetry": opentelemetry,
                "test": request.node.name,
            }
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, json.dumps(line).encode() + b"\n")  # one write: xdist's workers share the file
            finally:
                os.close(descriptor)

    return write
