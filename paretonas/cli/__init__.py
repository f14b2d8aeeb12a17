"""The command line; here, what becomes of an error."""

from __future__ import annotations

import linecache
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from typer.exceptions import TyperException

from paretonas._lines import DamagedLineWarning
from paretonas._lock import NoLockWarning
from paretonas._slow_export import SlowExportWarning
from paretonas.cli.commands import app
from paretonas.cli.stop import stoppable
from paretonas.point import FailureWarning

_WARNINGS = (
    DamagedLineWarning,
    FailureWarning,
    NoLockWarning,
    SlowExportWarning,
)  # in words that are meant for the user
_STOPPED = (130, 143)
_INPUT_ERRORS = (ValueError, TypeError, KeyError)
_SHOW_TRACEBACK = "PARETONAS_TRACEBACK"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 success, 2 bad input, 1 failure, 130 Ctrl-C, 143 SIGTERM."""
    code = run(arguments)
    if code in _STOPPED:  # somebody waits, and to take down all modules takes a second
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error becomes one line on stderr and an exit code."""
    plain, said = warnings.formatwarning, set[str]()

    def in_one_line(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if not issubclass(category, _WARNINGS):
            return plain(message, category, filename, lineno, line)
        words = f"paretonas: {_line(str(message))}\n"
        shown = "" if words in said else words  # several rooms may read the same file
        said.add(words)
        return shown

    with warnings.catch_warnings():
        for kind in _WARNINGS:
            warnings.simplefilter("default", kind)
        warnings.formatwarning = in_one_line
        try:
            with stoppable() as stop:
                try:
                    code = _run(arguments)
                except KeyboardInterrupt:  # outside of what typer watches
                    code = 130
                if stop.number is not None:
                    code = 128 + stop.number  # typer turns every interruption into Ctrl-C
                if code in _STOPPED:
                    stop.tell()
                return code
        finally:
            warnings.formatwarning = plain


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = app(
            None if arguments is None else list(arguments),
            prog_name="paretonas",
            standalone_mode=False,
        )
    except TyperException as error:  # a command, option or value that is none
        return _fail(error.exit_code, error.format_message())
    except Exception as error:
        if os.environ.get(_SHOW_TRACEBACK):
            raise
        what = _words(error)
        if not _raised_by_us(error):
            what = f"{type(error).__name__}: {what} (set {_SHOW_TRACEBACK}=1 to see where)"
            return _fail(1, what)
        return _fail(2 if isinstance(error, _INPUT_ERRORS) else 1, what)
    return code if isinstance(code, int) else 0  # typer turns Ctrl-C into 130


def _raised_by_us(error: Exception) -> bool:
    """Whether our own code refused, in words that are meant for the user, rather than tripped."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    file = trace.tb_frame.f_code.co_filename
    statement = linecache.getline(file, trace.tb_lineno).lstrip()
    home = Path(__file__).parents[2]
    ours = {home / "paretonas", home / "search_spaces"}
    return not ours.isdisjoint(Path(file).parents) and statement.startswith("raise ")


def _words(error: Exception) -> str:
    # A KeyError shows its argument in quotes, as a name; here it may be a sentence.
    shown = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join([str(shown), *getattr(error, "__notes__", ())])


def _fail(code: int, what: str) -> int:
    print(f"paretonas: {_line(what)}", file=sys.stderr)
    return code


def _line(text: str) -> str:
    """One line; names from a file may hold control characters, which a terminal would obey."""
    shown = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
