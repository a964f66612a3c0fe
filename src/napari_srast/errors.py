"""Errors for users: each message names the element, what is wrong with it, and the next step.

::

    Exception
    ├── SrastError           anything that the user can fix
    │   ├── InputError       a slide, table, image, gene list or file
    │   │   └── ChoiceError  several elements or sections of a slide match, and none was named
    │   ├── RegionError      a region of interest
    │   ├── SettingsError    the value of an option
    │   ├── ModelError       a checkpoint or an encoder
    │   ├── DeviceError      the compute device, or the memory of this computer
    │   └── OutputError      the place where a result is written
    ├── Cancelled            the caller stopped the run
    └── InternalError        a bug of this package, found by its own checks

The command line prints the message of an :class:`SrastError` as one sentence and exits with status 2; the window shows
it as a notification. Every other exception, except :class:`Cancelled`, is a bug of this package and not a problem of
the input.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = [
    "Cancelled",
    "ChoiceError",
    "DeviceError",
    "InputError",
    "InternalError",
    "ModelError",
    "OutputError",
    "RegionError",
    "SettingsError",
    "SrastError",
    "invalid_choice",
    "is_memory_error",
    "out_of_memory_message",
    "translate_memory_errors",
    "value_out_of_range",
]

_CLOSE_PROGRAMS = "close other programs, or {}"
# PyTorch reports a failed CPU allocation as a RuntimeError; the text differs on Windows.
_PYTORCH_MEMORY_TEXTS = ("can't allocate memory", "DefaultCPUAllocator: not enough memory")


class SrastError(Exception):
    """Base class of all errors that the user can fix."""


class InputError(SrastError):
    """A slide, table, image, gene list or file cannot be used as it is."""


class ChoiceError(InputError):
    """Several elements or sections of a slide match, and none was named.

    Parameters
    ----------
    message
        The sentence for the user.
    option
        Parameter of :func:`napari_srast.read_slide` that chooses: "spots", "table", "image", "library" or "counts".
    names
        The values that it accepts.
    """

    def __init__(self, message: str, option: str = "", names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.option = option
        self.names = tuple(names)


class RegionError(SrastError):
    """A region is empty, encloses no spot, or is not a polygon."""


class SettingsError(SrastError):
    """An option has an invalid value, alone or in combination with another option."""


class ModelError(SrastError):
    """A checkpoint is missing, damaged, or has another format version."""


class DeviceError(SrastError):
    """The compute device failed, or memory ran out; the message contains nothing about the slide."""


class OutputError(SrastError):
    """A result cannot be written to the requested path."""


class Cancelled(Exception):
    """The caller stopped the run; nothing was written."""


class InternalError(Exception):
    """A result violates a guarantee of this package; it was discarded, and nothing was written."""


def invalid_choice(name: str, value: object, choices: Sequence[str]) -> SettingsError:
    """Build the error for an option whose value is not one of its choices.

    Parameters
    ----------
    name
        Name of the option.
    value
        The invalid value.
    choices
        The valid values.
    """
    return SettingsError(f"{name} is '{value}', but must be one of: {', '.join(choices)}.")


def value_out_of_range(name: str, value: float, limits: str, advice: str = "") -> SettingsError:
    """Build the error for a number outside the valid range of its option.

    Parameters
    ----------
    name
        Name of the option.
    value
        The invalid value.
    limits
        The valid range in words, such as "above 0".
    advice
        The next step; empty where the range says enough.
    """
    number = f"{value:g}" if isinstance(value, float) else str(value)
    return SettingsError(f"{name} is {number}, but must be {limits}{f'; {advice}' if advice else ''}.")


def out_of_memory_message(
    when: str = "", advice: str = _CLOSE_PROGRAMS.format("work on less data at once"), *, what: str = "This computer"
) -> str:
    """Build the sentence for exhausted memory.

    Parameters
    ----------
    when
        When it happened, such as "while reading the slide"; empty if unknown.
    advice
        What the user can do.
    what
        What has no memory left: this computer, or a device.
    """
    return f"{what} ran out of memory{f' {when}' if when else ''}; {advice}."


def is_memory_error(error: BaseException) -> bool:
    """Return whether an error means that this computer's main memory is full.

    A caller that blames a file for an exception checks this first, because the file may be fine.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _PYTORCH_MEMORY_TEXTS)
    )


@contextmanager
def translate_memory_errors(when: str, advice: str) -> Iterator[None]:
    """Convert the exceptions of full main memory to one :class:`DeviceError`; also usable as a decorator.

    Parameters
    ----------
    when
        When it happened, such as "while reading the slide".
    advice
        What the user can do instead of closing other programs.

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
        raise DeviceError(out_of_memory_message(when, _CLOSE_PROGRAMS.format(advice))) from error
