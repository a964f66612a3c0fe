"""The command line: parse arguments, call the library, print results.

Exit status: 0 success; 2 wrong input or arguments (one sentence on standard error); 1 anything else.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from types import FrameType

import typer

from napari_srast.cli.analysis_app import app
from napari_srast.cli.errors import DEBUG_VARIABLE, explain
from napari_srast.errors import Cancelled

__all__ = ["app", "main"]

_INTERRUPTED = 130  # typer's exit status for Ctrl-C
# Newer versions of typer bundle click; this finds the class in both cases
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments
        Arguments after the program name; ``sys.argv[1:]`` by default.
    """
    debug = os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")
    if not debug:
        _silence_third_parties()
    command = typer.main.get_command(app)
    interrupt = _InterruptRecord()
    try:
        with interrupt:
            status = command.main(
                args=None if arguments is None else list(arguments), prog_name="napari-srast", standalone_mode=False
            )
    except _UsageError as error:
        return _fail(2, _usage_sentence(error))
    except (Cancelled, KeyboardInterrupt, typer.Abort) as stopped:
        return _fail(1, str(stopped) or "Stopped; nothing was written.")
    except Exception as error:
        if interrupt.received:  # the import of an extension module turns a KeyboardInterrupt into an ImportError
            return _fail(1, "Stopped; nothing was written.")
        if debug:
            raise
        return _fail(*explain(error))
    if status == _INTERRUPTED:
        return _fail(1, "Stopped; nothing was written.")
    return status if isinstance(status, int) else 0


class _InterruptRecord:
    """Record whether Ctrl-C was pressed while a block runs; it still raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.received = False
        self._installed = False

    def __enter__(self) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._record)
            self._installed = True

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        signal.default_int_handler(number, frame)


def _usage_sentence(error: BaseException) -> str:
    """Return one sentence about a wrong option or argument."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "napari-srast"
    return f"{' '.join(text.split()).rstrip('.')}; see '{path} --help'."


def _fail(status: int, sentence: str) -> int:
    sys.stderr.write(f"napari-srast: {sentence}\n")
    return status


def _ignore(*_: object) -> None:
    """Replace Python's hooks for uncaught errors; ``main`` catches every error that matters."""


def _silence_third_parties() -> None:
    """Hide warnings and log lines of libraries, which a user cannot act on."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # for worker processes
    logging.disable(logging.WARNING)
    # On a full disk, h5py reports a second error when it releases its files, directly on the terminal.
    sys.excepthook = _ignore
    sys.unraisablehook = _ignore
