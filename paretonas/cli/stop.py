"""How a command ends that is stopped: by Ctrl-C, or by SIGTERM, as a queue of jobs sends it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SOON = 1.5  # seconds in which what is interrupted must have ended


class Stop:
    """What stops a command, and what is said then.

    Attributes:
        number: of the signal that came; None: none did.
        again: the command that goes on; empty: there is none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.again = ""

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: always, so that what is at work can tidy up.
        """
        self.number = number
        raise KeyboardInterrupt

    def tell(self) -> None:
        """Say that it is stopped, and how to go on."""
        with suppress(OSError, ValueError):  # nobody listens any more
            print(self.words, file=sys.stderr, flush=True)

    @property
    def words(self) -> str:
        """What is said, in one line."""
        how = f"; to go on: {self.again}" if self.again else ""
        return f"paretonas: stopped{how}"


_now = Stop()  # of the command that runs
_put_back: Callable[[], None] | None = None  # the handlers of signals from before it


def go_on_with(again: str) -> None:
    """What to say if this command is stopped from now on.

    Args:
        again: the command that goes on.
    """
    _now.again = again


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let signals interrupt what is inside.

    If it does not end soon after, the process ends at once: it may be inside a long operation of C,
    or in code that takes the interruption for an error. Every file is whole at any moment.
    """
    global _now, _put_back
    stop = _now = Stop()
    if threading.current_thread() is not threading.main_thread():  # no other one gets signals
        yield stop
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as in the background of a shell
        numbers.append(signal.SIGINT)
    # Python's own handlers wait for the operation at hand; the system writes here at once.
    heard, wakes = socket.socketpair()
    wakes.setblocking(False)
    ended = threading.Event()

    def watch() -> None:
        while came := heard.recv(1):
            if came[0] in numbers and not ended.wait(SOON):
                with suppress(OSError, ValueError):
                    if sys.stdout.isatty():
                        os.write(1, b"\x1b[?25h")  # the cursor, which a bar hides
                    os.write(2, f"{stop.words}\n".encode())  # a print may wait for the other thread
                os._exit(128 + came[0])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    before = {number: signal.signal(number, stop.interrupt) for number in numbers}
    woken = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(woken)

    _put_back = put_back
    try:
        yield stop
    finally:
        _put_back = None
        put_back()
        ended.set()
        wakes.shutdown(socket.SHUT_RDWR)  # a forked child may hold it, too
        wakes.close()
        watcher.join()
        heard.close()


def _begin_child() -> None:
    # A signal to a forked child, such as one that loads data, is not for this command.
    if _put_back is not None:
        _put_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
