"""Where the copy of an open slide is shown while another slide is the current one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from napari.layers import Layer

from napari_srast.gui.layers.factory import set_units, swap_axes

__all__ = ["Placement"]


@dataclass(frozen=True, eq=False)
class Placement:
    """Place of the copy of a slide in the world of the current slide.

    Parameters
    ----------
    matrix
        Affine from the world coordinates of the slide to those of the current slide, (x, y) order, shape (3, 3).
    units
        Units of the two world axes, which all layers of the viewer share.
    """

    matrix: np.ndarray
    units: tuple[str, str]

    def equals(self, other: Placement) -> bool:
        """Return whether another placement is the same."""
        return self.units == other.units and np.array_equal(self.matrix, other.matrix)

    def move(self, layer: Layer) -> None:
        """Move a layer whose data are in the world coordinates of the slide."""
        layer.affine = swap_axes(self.matrix)
        set_units(layer, self.units)
