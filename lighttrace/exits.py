"""The ways out of a process that `atexit` does not see, and what is still open there.

SIGTERM, where nobody handles it, ends a process on the spot, and `os._exit` is how every forked worker ends
(multiprocessing's, celery's). Both get a moment to send what is queued. A handler of the program's own is never
replaced, and the program sees the handlers that it would see without us.
"""

import _signal  # type: ignore[import-not-found]  # the built-in part: `signal` itself costs a start-up 5 ms
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from lighttrace import forks, guard, semconv
from lighttrace.instrument.imports import forget, when_imported

if TYPE_CHECKING:
    from collections.abc import Callable

    from lighttrace.tracing.pipeline import Pipeline

_AT_ONCE_S = 2.0
"""`os._exit` of the process itself means now: longer than this it does not wait. A forked child always ends so."""

_SIGTERM = 15
_leave: "Callable[[float | None], object] | None" = None
_busy: "Callable[[], bool] | None" = None
_pid = 0
_leaving = False
_forked_at = 0
_real_exit: Any = None
_real_signal: Any = None
_real_getsignal: Any = None


def watch(leave: "Callable[[float | None], object]", busy: "Callable[[], bool]") -> None:
    """From now on, call `leave(seconds)` where the process is about to end unseen; `busy()` says whether that is worth it."""
    global _leave, _busy, _pid, _leaving, _real_exit
    _leave, _busy, _pid, _leaving = leave, busy, os.getpid(), False
    if _real_exit is None:
        _real_exit = os._exit
        os._exit = _exit
    if hasattr(os, "register_at_fork"):  # elsewhere SIGTERM ends a process without asking it
        _arm()
        when_imported("signal", _hide)


def unwatch() -> None:
    """Leave everything as it was found, where nobody has put theirs over it since."""
    global _leave, _busy, _real_exit, _real_signal, _real_getsignal
    _leave = _busy = None
    if _real_exit is not None and os._exit is _exit:
        os._exit, _real_exit = _real_exit, None
    forget("signal", _hide)
    module: Any = sys.modules.get("signal")
    if _real_signal is not None and module.signal is _signal_as_without_us:
        module.signal, _real_signal = _real_signal, None
    if _real_getsignal is not None and module.getsignal is _getsignal_as_without_us:
        module.getsignal, _real_getsignal = _real_getsignal, None
    try:
        if _signal.getsignal(_SIGTERM) is _on_sigterm:
            _signal.signal(_SIGTERM, _signal.SIG_DFL)
    except ValueError:  # not on the main thread; without `_leave` the handler does what the default does
        pass


def in_child(pipeline: "Pipeline") -> None:
    """A forked child: what is open here is its parent's to send, also where a `with` around the fork ends it in both."""
    from lighttrace.tracing.context import read_current, span_of
    from lighttrace.tracing.span import Span

    global _forked_at, _leaving
    _forked_at = at = time.time_ns()
    _leaving = False
    span: Any = span_of(read_current())
    if type(span) is not Span or span._end:
        return
    put, trace_id = pipeline.put, span._trace_id

    def put_own(span: Span) -> None:
        # A span of this trace with a start of its own making in the past is the one thing that this gets wrong.
        if span._trace_id == trace_id and span._start <= at:
            guard.count("spans.of_the_parent_process")
        else:
            put(span)

    pipeline.put = put_own


def end_open(pipeline: "Pipeline") -> int:
    """End the spans that are still open and say so on them; how many there were.

    Nobody keeps a list of open spans, because that would cost each of them something. The collector of garbage has one.
    """
    import gc

    from lighttrace.tracing.span import Span

    found = [
        thing
        for thing in gc.get_objects()
        if type(thing) is Span and hasattr(thing, "_open") and thing._tracer.pipeline is pipeline and thing._start > _forked_at
    ]
    # The innermost end first, as they would have by themselves.
    for span in sorted(found, key=lambda span: span._start, reverse=True):
        span.set_attribute(semconv.INCOMPLETE, True)
        span.end()
    return len(found)


def keep_interrupt() -> None:
    """After Ctrl-C, have the interpreter still die of SIGINT, for the shell to see.

    Whether it does is a flag of CPython's that the next `exec` of a string resets; the modules imported for sending have such.
    """
    if type(getattr(sys, "last_value", None)) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        try:
            exec("raise KeyboardInterrupt")  # noqa: S102  # a constant; the same flag is set by one that ends so
        except KeyboardInterrupt:
            pass


# -- os._exit -------------------------------------------------------------------------------------------------------


def _exit(status: int) -> Any:
    """os._exit, once what is queued has been sent, or a moment has passed."""
    try:
        if _leave is not None and not _leaving and _busy is not None and _busy():
            _go(None if os.getpid() != _pid else _AT_ONCE_S)
    finally:
        (_real_exit or os._exit)(status)


def _go(timeout: float | None) -> None:
    global _leaving
    _leaving = True
    leave = _leave
    if leave is not None:
        try:
            leave(timeout)
        except Exception as error:
            guard.site("exits.leave").failed(error)


# -- SIGTERM --------------------------------------------------------------------------------------------------------


def _arm() -> None:
    """Handle SIGTERM, if nobody does."""
    try:
        if _signal.getsignal(_SIGTERM) == _signal.SIG_DFL and not _caught_in_c():
            _signal.signal(_SIGTERM, _on_sigterm)
    except ValueError:  # not on the main thread
        guard.count("exits.sigterm_not_watched")


def _caught_in_c() -> bool:
    """Whether a server that Python is embedded in handles SIGTERM, or will, of which Python knows nothing."""
    if forks.in_uwsgi():
        return True
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"SigCgt:"):
                    return bool(int(line[7:], 16) >> (_SIGTERM - 1) & 1)
    except (OSError, ValueError):  # no Linux
        pass
    return False


def _on_sigterm(number: int, frame: Any) -> None:
    """What the default does, after sending what is queued.

    Another one meanwhile changes nothing: whoever manages processes may send several, as multiprocessing does to its daemons.
    """
    if _leaving:
        return
    try:
        _go(None)
    finally:
        _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _hide(module: Any) -> None:
    """Have `signal.signal` and `signal.getsignal` tell of the default where our handler stands for it."""
    global _real_signal, _real_getsignal
    if _real_signal is None:
        _real_signal, _real_getsignal = module.signal, module.getsignal
        for ours, theirs in ((_signal_as_without_us, _real_signal), (_getsignal_as_without_us, _real_getsignal)):
            ours.__name__, ours.__qualname__ = theirs.__name__, theirs.__qualname__
            ours.__doc__, ours.__module__ = theirs.__doc__, theirs.__module__
            vars(ours)["__wrapped__"] = theirs
        module.signal, module.getsignal = _signal_as_without_us, _getsignal_as_without_us


def _signal_as_without_us(signalnum: Any, handler: Any) -> Any:
    real = _real_signal or _signal.signal
    stands_in = _leave is not None and signalnum == _SIGTERM and isinstance(handler, int) and handler == _signal.SIG_DFL
    return _shown(real(signalnum, _on_sigterm if stands_in else handler))


def _getsignal_as_without_us(signalnum: Any) -> Any:
    return _shown((_real_getsignal or _signal.getsignal)(signalnum))


def _shown(handler: Any) -> Any:
    return sys.modules["signal"].SIG_DFL if handler is _on_sigterm else handler
