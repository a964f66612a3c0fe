"""Settings of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from napari_srast.errors import SettingsError, invalid_choice, value_out_of_range
from napari_srast.geometry.raster import Footprint

__all__ = ["EXPRESSION_CHOICES", "METHODS", "Mode", "UpsampleSettings"]

Mode = Literal["mean", "sample", "integer"]

METHODS = ("srast", "uniform", "bilinear", "pycnophylactic", "gp")
EXPRESSION_CHOICES = ("auto", "none")
"""Values of the setting ``expression`` that are not lists of genes."""
_MAX_FACTOR = 64
_MAX_PIXEL_SIZE = 1e12  # in any unit; the squares of this number and of its inverse are finite
_MAX_SAMPLES = 1000
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class UpsampleSettings:
    """Validated settings of a run: all that the command line and the window can set.

    Parameters
    ----------
    factor
        Pixels per pitch, above 1; a fraction is allowed. Ignored if ``pixel_size`` is given.
    pixel_size
        Side of a pixel, in units of the chosen coordinate system; None to use ``factor``.
    footprint
        "cell" for pixels in the whole cell of a spot, "spot" for its measured area only.
    method
        One of :data:`METHODS`.
    mode
        "mean", "sample" (mean and standard deviation) or "integer" (one sample of integer counts).
    draws, steps
        Number of samples of the flow, and of Euler steps per sample; None for the default of the mode.
    model
        Name of a shipped checkpoint, or path of a checkpoint file.
    device
        "auto", "cpu", "cuda" or "mps".
    seed
        Seed of all random numbers, 0 to 4294967295.
    expression
        Genes whose expression is estimated besides the counts: "auto" for all genes of the run, or for those with an
        image channel if the result would be large; "none"; or names of genes of the run.

    Raises
    ------
    SettingsError
        A value is invalid.
    """

    factor: float = 4.0
    pixel_size: float | None = None
    footprint: Footprint = "cell"
    method: str = "srast"
    mode: Mode = "mean"
    draws: int | None = None
    steps: int | None = None
    model: str = "default"
    device: str = "auto"
    seed: int = 0
    expression: str | tuple[str, ...] = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.expression, Iterable) and not isinstance(self.expression, str):
            object.__setattr__(self, "expression", tuple(dict.fromkeys(str(gene) for gene in self.expression)))
        is_list = isinstance(self.expression, tuple) and len(self.expression) > 0
        if not is_list and self.expression not in EXPRESSION_CHOICES:
            raise SettingsError(
                f"expression is {self.expression!r}, but must be 'auto', 'none' or a list of genes; "
                "write ['GENE'] for a single gene."
            )
        _check_choice("footprint", self.footprint, ("cell", "spot"))
        _check_choice("method", self.method, METHODS)
        _check_choice("mode", self.mode, ("mean", "sample", "integer"))
        _check_choice("device", self.device, ("auto", "cpu", "cuda", "mps"))
        if self.pixel_size is None and not (1 < self.factor <= _MAX_FACTOR):
            limits = f"above 1 and at most {_MAX_FACTOR}"
            raise value_out_of_range("factor", float(self.factor), limits, "2 or 4 suit most slides")
        if self.pixel_size is not None and not 1 / _MAX_PIXEL_SIZE <= self.pixel_size <= _MAX_PIXEL_SIZE:
            limits = f"between {1 / _MAX_PIXEL_SIZE:g} and {_MAX_PIXEL_SIZE:g}"
            raise value_out_of_range("pixel size", float(self.pixel_size), limits, "leave it out to use the factor")
        for name, value in (("draws", self.draws), ("steps", self.steps)):
            if value is not None and not 1 <= value <= _MAX_SAMPLES:
                raise value_out_of_range(name, value, f"between 1 and {_MAX_SAMPLES}")
        if not 0 <= self.seed <= _MAX_SEED:
            raise value_out_of_range("seed", self.seed, f"between 0 and {_MAX_SEED}")

    @property
    def ineffective_options(self) -> tuple[str, ...]:
        """Options that were set but have no effect, one sentence each."""
        sentences = []
        if self.method != "srast" and self.mode == "sample":
            sentences.append(
                f"Method '{self.method}' draws no samples, so its counts have no standard deviation; choose 'srast'."
            )
        if self.method != "srast" and self.device not in ("auto", "cpu"):
            sentences.append(f"Method '{self.method}' runs on the CPU; device '{self.device}' is not used.")
        given = [name for name in ("draws", "steps") if getattr(self, name) is not None]
        if given and (self.method != "srast" or self.mode != "sample"):
            sentences.append(f"Only method 'srast' in mode 'sample' uses {' and '.join(given)}.")
        return tuple(sentences)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise invalid_choice(name, value, choices)
