"""The command line: thin functions that parse, call and print. Nothing here imports torch before it must."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

REPEAT_AFTER = 0.5
"""Time [s] after which an interruption that got lost is repeated."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; the entry point exits with it.

    A signal ends it with one line, also while modules are imported, where it may come out as another error.
    """
    with _signals_as_interruptions() as received:
        try:
            from draper.cli.app import run

            code = run(arguments, received)
        except BaseException as error:
            if not received and not isinstance(error, KeyboardInterrupt):
                raise
            number = signal.Signals(received[0] if received else signal.SIGINT)
            sys.stderr.write(f"interrupted by {number.name}\n")
            return 128 + number
        return 128 + received[0] if received else code


@contextmanager
def _signals_as_interruptions() -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM unwind what runs, so that it removes its unfinished files.

    Yields the signals that have arrived. A second Ctrl-C ends the program at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    received: list[int] = []
    ended, main_thread = threading.Event(), threading.get_ident()
    hook = sys.unraisablehook

    def repeat() -> None:
        # An interruption can get lost: in a callback or a foreign library while modules are imported, say.
        while not ended.wait(REPEAT_AFTER):
            signal.pthread_kill(main_thread, signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        if not received:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            repeater.start()
        received.append(number)
        if not ended.is_set() and not _is_unwinding():
            raise KeyboardInterrupt

    def hide_interruptions(error: sys.UnraisableHookArgs) -> None:
        if not issubclass(error.exc_type, KeyboardInterrupt):
            hook(error)

    repeater = threading.Thread(target=repeat, daemon=True)
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    sys.unraisablehook = hide_interruptions
    try:
        yield received
    finally:
        ended.set()
        if received:
            repeater.join()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_unwinding() -> bool:
    """Whether an interruption is on its way up, through blocks that remove unfinished files."""
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
