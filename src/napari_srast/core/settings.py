"""TODO docstring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_srast.errors import SettingsError
from napari_srast.geometry.raster import Footprint

if TYPE_CHECKING:
    pass


__all__ = ["METHODS", "Mode", "UpsampleSettings"]

Mode = Literal["mean", "sample", "integer"]
METHODS = ("srast", "uniform", "bilinear", "pycnophylactic", "gp")
_LARGEST_PIXEL = 1e12  # in any unit; its square and that of its inverse are still numbers


@dataclass(frozen=True, kw_only=True)
class UpsampleSettings:
    """How to upsample; the whole of what the command line and the window can set, validated.

    Parameters
    ----------
    factor
        Pixels per pitch; a fraction is allowed. Ignored where ``pixel_size`` is given.
    pixel_size
        Pixel side in units of the chosen coordinate system.
    footprint
        "cell": pixels fill the spot's whole cell; "spot": only its measured area.
    method
        One of :data:`METHODS`.
    mode
        "mean", "sample" (mean and standard deviation) or "integer" (whole counts, one plausible draw).
    draws, steps
        Number of flow samples and Euler steps; None takes the mode's default.
    model
        Name of a shipped checkpoint, or a file.
    device
        "auto", "cpu", "cuda" or "mps".
    seed
        Seeds everything random.
    """

    factor: float = 2.0
    pixel_size: float | None = None
    footprint: Footprint = "cell"
    method: str = "srast"
    mode: Mode = "mean"
    draws: int | None = None
    steps: int | None = None
    model: str = "default"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choice("footprint", self.footprint, ("cell", "spot"))
        _check_choice("method", self.method, METHODS)
        _check_choice("mode", self.mode, ("mean", "sample", "integer"))
        _check_choice("device", self.device, ("auto", "cpu", "cuda", "mps"))
        if self.pixel_size is None and not (1 < self.factor <= 64):
            raise SettingsError(
                f"factor is {self.factor:g}, but must be above 1 and at most 64; 2 or 4 suit most slides."
            )
        if self.pixel_size is not None and not 1 / _LARGEST_PIXEL <= self.pixel_size <= _LARGEST_PIXEL:
            raise SettingsError(
                f"pixel size is {self.pixel_size:g}, but must lie between {1 / _LARGEST_PIXEL:g} and "
                f"{_LARGEST_PIXEL:g}; leave it out to use the factor."
            )
        for name, value, most in (("draws", self.draws, 1000), ("steps", self.steps, 1000)):
            if value is not None and not 1 <= value <= most:
                raise SettingsError(f"{name} is {value}, but must lie between 1 and {most}.")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed is {self.seed}, but must lie between 0 and {2**32 - 1}.")

    @property
    def unused(self) -> tuple[str, ...]:
        """What was asked for and changes nothing, one sentence each."""
        told = []
        if self.method != "srast" and self.mode == "sample":
            told.append(f"Method '{self.method}' draws no samples, so there is no standard deviation; take 'srast'.")
        if self.method != "srast" and self.device not in ("auto", "cpu"):
            told.append(f"Method '{self.method}' runs on the CPU; device '{self.device}' is not used.")
        given = [name for name in ("draws", "steps") if getattr(self, name) is not None]
        if given and (self.method != "srast" or self.mode != "sample"):
            told.append(f"Only method 'srast' in mode 'sample' uses {' and '.join(given)}.")
        return tuple(told)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise SettingsError(f"{name} is '{value}', but must be one of: {', '.join(choices)}.")
