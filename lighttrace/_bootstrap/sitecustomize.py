"""Runs before the first line of every Python that `lighttrace run` starts: switches tracing on, then steps aside.

PYTHONPATH keeps this directory, so that workers, reloaders and spawned processes come through here too. `sys.path` of
this process loses it, and a `sitecustomize` that the environment had before ours still runs.
"""

import os
import sys


def _start() -> None:
    """Switch tracing on. Whatever goes wrong is told once, by the process that `lighttrace run` became, and goes no further."""
    try:
        try:
            import lighttrace
        except ImportError:
            # Started from a checkout: the package is three levels up. An installed one is not put in front of a foreign
            # Python, whose versions of our dependencies may be others.
            root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
            if os.path.basename(root) in ("site-packages", "dist-packages"):
                raise
            sys.path.append(root)
            import lighttrace

        lighttrace.init()
    except Exception as error:
        if os.environ.get("_LIGHTTRACE_RUN_PID") == str(os.getpid()):
            missing = isinstance(error, ImportError)
            hint = f" (is lighttrace installed in the environment of {sys.executable}?)" if missing else ""
            print(f"lighttrace: this program is not traced: {type(error).__name__}: {error}{hint}", file=sys.stderr)


def _step_aside() -> None:
    """Run the sitecustomize that ours stands in front of, as if ours had never been there."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or os.curdir) != here]
    spec = PathFinder.find_spec("sitecustomize")
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)  # what it raises is its own and is reported by `site`, as without us


_start()
_step_aside()
