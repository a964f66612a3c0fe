"""The user-facing errors: each names the element, what is wrong with it, and the next step.

The command line prints the message as one sentence and exits with status 2; the window shows it as a
notification. Anything that is not an :class:`SrastError` is a fault of this package, never of the input; where the
package notices one by itself, it raises :class:`InternalError`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "Cancelled",
    "DeviceError",
    "InputError",
    "InternalError",
    "ModelError",
    "OutputError",
    "RegionError",
    "SettingsError",
    "SrastError",
    "is_memory_error",
    "translate_memory_errors",
]

# torch's own way to say MemoryError, on Windows in other words
_TORCHS_WORDS = ("can't allocate memory", "DefaultCPUAllocator: not enough memory")


class SrastError(Exception):
    """Base of everything a user can mend."""


class InputError(SrastError):
    """A slide, table, image, gene list or file cannot be used as it is."""


class RegionError(SrastError):
    """A region is empty, off the tissue, or not a polygon."""


class SettingsError(SrastError):
    """An option has a value that makes no sense, alone or beside another."""


class ModelError(SrastError):
    """A checkpoint is missing, damaged, or of another format version."""


class DeviceError(SrastError):
    """The device that computes, or the memory of this computer, gave out; the message names nothing of the slide."""


class OutputError(SrastError):
    """A result cannot be written where it was asked for."""


class Cancelled(Exception):
    """The run was stopped by its stop token; nothing was written."""


class InternalError(Exception):
    """A result broke a promise of this package; it was thrown away, and nothing was written."""


def is_memory_error(error: BaseException) -> bool:
    """Tell whether an error says that this computer's own memory is full, and nothing of what was being read."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _TORCHS_WORDS)
    )


@contextmanager
def translate_memory_errors(when: str, advice: str) -> Iterator[None]:
    """Turn what is raised where this computer's memory is full into one sentence; also a decorator.

    Parameters
    ----------
    when
        When it happened, such as "while reading the slide".
    advice
        What to do beside closing other programs.

    Raises
    ------
    DeviceError
        The memory is full.
    """
    try:
        yield
    except Exception as error:
        if not is_memory_error(error):
            raise
        raise DeviceError(f"This computer ran out of memory {when}; close other programs, or {advice}.") from error
