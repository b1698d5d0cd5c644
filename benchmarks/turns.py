"""What tracing adds to one operation, with it and without it in turns in one process.

Processes that do the same take times that differ by a twentieth, by where things happen to lie in their memory: that is more
than tracing adds to a call of a client. In one process it is the same for both. What is exchanged from turn to turn is what the
tracer has put in the place of the library's functions, found by comparing the library before and after. That will do where nothing
else decides whether a call is traced: a FastAPI without our wrappers makes spans of its own for whoever takes them.
"""

import json
import os
import statistics
import sys
import time
from typing import Any

import tracers
import workloads

LIBRARIES = {
    "flask": ("flask", "werkzeug"),
    "httpx": ("httpx", "httpcore", "h11"),
    "requests": ("requests", "urllib3", "http"),
}
"""The packages that a call of each goes through."""
FEWEST = 8  # turns of each kind

_MISSING: Any = object()
Surface = dict[tuple[int, str], tuple[Any, Any]]


def surface(packages: tuple[str, ...]) -> Surface:
    """Every function of some packages' modules and classes, with the module or class that it is found in."""
    found: Surface = {}
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] in packages]:
        classes = [value for value in vars(module).values() if isinstance(value, type)]
        for owner in (module, *(each for each in classes if each.__module__.partition(".")[0] in packages)):
            for name, value in list(vars(owner).items()):
                if callable(value) and not isinstance(value, type):
                    found[id(owner), name] = owner, value
    return found


def exchanged(before: Surface, after: Surface) -> list[tuple[Any, str, Any, Any]]:
    """What is not what it was: its owner, its name there, and what it was and is."""
    places = []
    for (number, name), (owner, new) in after.items():
        _, old = before.get((number, name), (owner, _MISSING))
        if new is not old:
            places.append((owner, name, old, new))
    return places


def measure(tracer: str, workload: str, count: int, seconds: float) -> float:
    """Microseconds of CPU that a tracer adds to one operation, export included; the median of the differences."""
    packages = LIBRARIES[workload.partition("_")[0]]
    call = workloads.WORKLOADS[workload](lambda app: None)
    call(count)  # whatever is imported on first use is there then; these tracers patch what is there as well
    before = surface(packages)
    flush = tracers.start(tracer, os.environ["SINK_PORT"], workload)
    places = exchanged(before, surface(packages))
    if not places:
        raise SystemExit(f"{tracer} has replaced nothing in {', '.join(packages)}")

    def turn(on: bool) -> float:
        for owner, name, old, new in places:
            if on or old is not _MISSING:
                setattr(owner, name, new if on else old)
            else:
                delattr(owner, name)
        call(count // 4)  # the interpreter learns again what the names stand for
        flush()
        cpu = time.process_time()
        call(count)
        flush()
        return (time.process_time() - cpu) / count * 1e6

    turn(True)
    turn(False)
    differences: list[float] = []
    begun = time.monotonic()
    while time.monotonic() - begun < seconds or len(differences) < FEWEST:
        first = bool(len(differences) % 2)
        one, other = turn(first), turn(not first)
        differences.append(one - other if first else other - one)
    return statistics.median(differences)


def child(tracer: str, workload: str, count: int, seconds: float) -> None:
    """The same, printed by a process that ends with it."""
    print(json.dumps(measure(tracer, workload, count, seconds)), flush=True)
    os._exit(0)
