"""The command line: thin functions that parse, call and print. Nothing here imports torch before it must."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

RETRY = 0.01
"""Time [s] after which an interruption that got lost is repeated."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; the entry point exits with it.

    A signal ends it with one line, also while modules are imported, where it may come out as another error.
    """
    with _stoppable() as received:
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
def _stoppable() -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM unwind what runs, so that it removes its unfinished files.

    Yields the signals that have arrived. A second Ctrl-C ends the program at once.
    """
    received: list[int] = []
    other_errors = sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    def lost(error: sys.UnraisableHookArgs) -> None:
        if not received or not issubclass(error.exc_type, KeyboardInterrupt):
            other_errors(error)
            return
        # It was raised where Python cannot pass errors on, such as a callback while modules are imported.
        signal.signal(signal.SIGTERM, stop)
        threading.Timer(RETRY, signal.raise_signal, (signal.SIGTERM,)).start()

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    sys.unraisablehook = lost
    try:
        yield received
    finally:
        sys.unraisablehook = other_errors
        for number, handler in before.items():
            signal.signal(number, handler)
