"""How a command ends that is stopped: by Ctrl-C, or by SIGTERM, as a queue of jobs sends it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer


@contextmanager
def stoppable(again: str | None = None) -> Iterator[None]:
    """Say so, and how to go on, if what is inside is stopped; the code is 130, or 143 for SIGTERM.

    SIGTERM interrupts what is inside as Ctrl-C does, so that nothing is left half written.

    Args:
        again: the command that goes on, if one does.
    """
    terminated = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt

    catches = threading.current_thread() is threading.main_thread()  # no other thread can
    before = signal.signal(signal.SIGTERM, interrupt) if catches else None
    try:
        yield
    except KeyboardInterrupt:
        how = f"; to go on: {again}" if again else ""
        print(f"paretonas: stopped{how}", file=sys.stderr)
        if terminated:
            raise typer.Exit(128 + signal.SIGTERM) from None
        raise
    finally:
        if catches:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
