"""What must happen in a forked child, also where Python is not told of the fork.

uWSGI forks its workers behind Python's back: no hook of `os.register_at_fork` runs there. Left at that, all its workers
would make the same ids, and wait for a thread that only their master has.
"""

import _thread
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_S = 2.0

still = _thread.allocate_lock()
"""Held by a thread of ours while it imports: what it has half imported at a fork could never be imported in the child."""
_stilled = False
_depth = 0
_watching: "set[str]" = set()
_hooks: "list[Callable[[], object]]" = []
_patchings: "list[tuple[Callable[[], Callable[[], object]], Callable[[], object]]]" = []
_pid = os.getpid()


def after_in_child(hook: "Callable[[], object]") -> None:
    """Call `hook()` in every child, those of uWSGI included, after the hooks that were given before."""
    if not _hooks and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_forked)
    _hooks.append(hook)


def _before() -> None:
    global _stilled
    _stilled = still.acquire(timeout=_LONGEST_S)


def _after() -> None:
    if _stilled:
        still.release()


def _forked() -> None:
    global _pid, still
    _pid = os.getpid()
    still = _thread.allocate_lock()
    for hook in _hooks:
        hook()


def notice() -> None:
    """Do now what should have been done after the fork, if there was one that nobody told of."""
    if _pid != os.getpid():
        _forked()


def in_uwsgi() -> bool:
    """Whether this Python is embedded in uWSGI, which it only says by itself some time after the interpreter's start."""
    if "uwsgi" in sys.modules:
        return True
    try:
        return os.path.basename(os.readlink("/proc/self/exe")).startswith("uwsgi")
    except OSError:  # no Linux
        return False


def watch_uwsgi() -> bool:
    """Within uWSGI, learn of its forks: through its own hook, and at whatever is imported next. Whether we are."""
    if not in_uwsgi():
        return False
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
        _chain()
    return True


class _Finder:
    """Finds nothing. With `--lazy-apps` the application's import is the first thing that happens in a worker."""

    def find_spec(self, *_: Any) -> None:
        notice()
        _chain()


_finder: Any = _Finder()


def _chain() -> None:
    """Stand in front of the hook that the program gave to uWSGI; `uwsgidecorators` replaces ours with its own."""
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None:
        return
    before = getattr(uwsgi, "post_fork_hook", None)
    if getattr(before, "__module__", None) == __name__:
        return

    def post_fork() -> None:
        notice()
        if before is not None:
            before()

    uwsgi.post_fork_hook = post_fork


def around_greenlets(before: "Callable[[], Callable[[], object]]", after: "Callable[[], object]") -> None:
    """When gevent or eventlet is about to patch, call `before()`, which asks threads to end, and what it gives, which waits for them.

    When it has, call `after()`.
    """
    _patchings.append((before, after))


class MakeWay:
    """No thread of ours runs within: it would find half of what it uses patched, or wait for an import that waits for its own."""

    def __enter__(self) -> None:
        global _depth, _stilled
        _depth += 1
        if _depth == 1:
            ending = [before() for before, _ in _patchings]
            _stilled = still.acquire(timeout=_LONGEST_S)
            for wait in ending:
                wait()

    def __exit__(self, *exc: object) -> None:
        global _depth, _stilled
        _depth -= 1
        if _depth == 0:
            if _stilled:
                _stilled = False
                still.release()
            for _, after in _patchings:
                after()


def watch_gevent(monkey: Any) -> None:
    """Make way while gevent patches, of which it tells."""
    if "gevent" in _watching:
        return
    _watching.add("gevent")
    from gevent import events  # type: ignore[import-not-found,import-untyped,unused-ignore]  # not required

    way = MakeWay()

    def watch(event: Any) -> None:
        if isinstance(event, events.GeventWillPatchAllEvent):
            way.__enter__()
        elif isinstance(event, events.GeventDidPatchAllEvent):
            way.__exit__()

    events.subscribers.append(watch)


def watch_eventlet(eventlet: Any) -> None:
    """Make way while eventlet patches, of which it tells nobody.

    Also while it is imported (`MakeWay` around that), which it does in part under the interpreter's lock for all imports.
    """
    if "eventlet" in _watching:
        return
    _watching.add("eventlet")
    from functools import wraps

    patch = eventlet.monkey_patch

    @wraps(patch)
    def monkey_patch(*args: Any, **on: Any) -> Any:
        with MakeWay():
            return patch(*args, **on)

    for module in (eventlet, eventlet.patcher):
        if module.monkey_patch is patch:
            module.monkey_patch = monkey_patch
