"""The user-facing errors: each names the element, what is wrong with it, and the next step.

The command line prints the message as one sentence and exits with status 2; the window shows it as a
notification. Anything that is not an :class:`SrastError` is a fault of this package, never of the input; where the
package notices one by itself, it raises :class:`FaultError`.
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "DeviceError",
    "FaultError",
    "InputError",
    "ModelError",
    "OutputError",
    "RegionError",
    "SettingsError",
    "SrastError",
]


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
    """The device that computes, or the memory, gave out during a run."""


class OutputError(SrastError):
    """A result cannot be written where it was asked for."""


class Cancelled(Exception):
    """The run was stopped by its stop token; nothing was written."""


class FaultError(Exception):
    """A result broke a promise of this package; it was thrown away, and nothing was written."""
