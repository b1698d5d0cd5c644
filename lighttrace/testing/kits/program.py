"""A program of its own, for what depends on the order of imports. Started by `IntegrationKit`; prints one line of JSON.

`python -m lighttrace.testing.kits.program '{"order": ..., "imports": ..., "uses": {...}, "globals": {...}, "library": ...}'`
"""

import json
import sys
from types import ModuleType
from typing import Any


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the uses in one order of import and init, and count the spans of each."""
    import lighttrace
    from lighttrace.instrument.registry import registry
    from lighttrace.testing import capture

    module = sys.modules["kit_program"] = ModuleType("kit_program")  # a module like any other, found where modules are
    names = vars(module)
    names.update(spec["globals"])

    def init() -> None:
        lighttrace.init(service="kit", team="kit-team", exporter="none")

    teams: set[Any] = set()

    def count() -> dict[str, Any]:
        counts: dict[str, Any] = {}
        for use, code in spec["uses"].items():
            with capture(service="kit", team="kit-team", resolver=None, patch=False) as spans:
                exec(code, names)
                spans.check_ended()
                counts[use] = sum(span.scope.startswith("lighttrace.") for span in spans.waiting)  # a library may make its own
                teams.update(span.attributes.get("team") for span in spans.waiting)
                spans.clear()
        return counts

    def in_a_child() -> dict[str, Any]:
        """Use the library here, then in a forked child, which tells what it saw through a pipe."""
        import os

        count()
        reading, writing = os.pipe()
        with lighttrace.team("kit-scope"):
            pid = os.fork()
            if not pid:
                try:
                    teams.clear()
                    os.write(writing, json.dumps({"uses": count(), "teams": sorted(map(str, teams))}).encode())
                finally:
                    os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said: dict[str, Any] = json.loads(pipe.read() or "null")
        os.waitpid(pid, 0)
        return said

    if spec["order"] == "absent":
        sys.modules[spec["library"]] = None  # type: ignore[assignment]  # so that importing it fails as if it were not there
        init()
        try:
            __import__(spec["library"])
        except ImportError:
            absent = True
        else:
            absent = False
        return {"absent": absent, "report": _report(registry, spec)}
    if spec["order"] == "patch first":
        init()
        exec(spec["imports"], names)
    else:
        exec(spec["imports"], names)
        init()
        init()
    if spec["order"] == "forked":
        return in_a_child()
    result = {"uses": count(), "report": _report(registry, spec)}
    lighttrace.shutdown()
    result["after shutdown"] = count()
    init()
    result["again"] = count()
    return result


def _report(registry: Any, spec: dict[str, Any]) -> Any:
    return next(line for line in registry.report() if line["name"] == spec["name"])


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))  # noqa: T201  # its answer
