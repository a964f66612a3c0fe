"""The command line: it parses, calls and prints.

Exit status: 0 done; 2 the input or the arguments are wrong (one sentence on standard error); 1 anything else.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence

import typer

from napari_srast.cli.app import app
from napari_srast.cli.errors import DEBUG_VARIABLE, explain
from napari_srast.errors import Cancelled

__all__ = ["app", "main"]

_INTERRUPTED = 130  # what typer answers for Ctrl-C
# typer carries its own copy of click from some version on; this class is the same in both
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments
        The words after the program's name; those of this process by default.
    """
    debug = os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")
    if not debug:
        _silence_third_parties()
    command = typer.main.get_command(app)
    try:
        status = command.main(
            args=None if arguments is None else list(arguments), prog_name="napari-srast", standalone_mode=False
        )
    except _UsageError as error:
        return _fail(2, _usage_sentence(error))
    except (Cancelled, KeyboardInterrupt, typer.Abort) as stopped:
        return _fail(1, str(stopped) or "Stopped; nothing was written.")
    except Exception as error:
        if debug:
            raise
        return _fail(*explain(error))
    if status == _INTERRUPTED:
        return _fail(1, "Stopped; nothing was written.")
    return status if isinstance(status, int) else 0


def _usage_sentence(error: BaseException) -> str:
    """Return one sentence for a wrong option or argument."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "napari-srast"
    return f"{' '.join(text.split()).rstrip('.')}; see '{path} --help'."


def _fail(status: int, sentence: str) -> int:
    sys.stderr.write(f"napari-srast: {sentence}\n")
    return status


def _say_nothing(*_: object) -> None:
    """Stand in for Python's own reports of errors that nobody catches; ``main`` catches all that matter."""


def _silence_third_parties() -> None:
    """Keep warnings and log lines of libraries off the terminal: they are nothing that a user could act on."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # for worker processes
    logging.disable(logging.WARNING)
    # On a full disk h5py complains once more when its files are let go: past every handler, straight to the terminal.
    sys.excepthook = _say_nothing
    sys.unraisablehook = _say_nothing
