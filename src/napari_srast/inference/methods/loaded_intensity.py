"""The intensity field of a slide, loaded with the fields that a predictor predicts.

Shape legend: N spots of the slide, n spots of a tile, F fields, q pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.inference.methods.base import TileInput
from napari_srast.models.intensity import FittedIntensity, GeneLoadings, IntensityModel, PixelIntensity

__all__ = ["LoadedIntensity"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedIntensity:
    """The intensity model of a slide with the loadings of the predicted fields.

    Parameters
    ----------
    model
        The part of the intensity that all pixels share.
    loadings
        Loadings of the predicted fields.
    """

    model: IntensityModel
    loadings: GeneLoadings

    @classmethod
    def of_fields(cls, fitted: FittedIntensity, fields: sparse.csr_matrix) -> LoadedIntensity:
        """Fit the loadings of fields of all spots, shape (N, F)."""
        return cls(model=fitted.model, loadings=fitted.loadings(fields))

    def bind(self, tile_input: TileInput) -> Callable[[np.ndarray, slice], np.ndarray]:
        """Return the function that predicts log intensities (q, F) of a block of fields from its counts (n, F)."""
        pixels = self.in_pixels(tile_input)
        return lambda counts, block: pixels.log_intensities(counts, self.loadings[block])

    def in_pixels(self, tile_input: TileInput) -> PixelIntensity:
        """Return the intensity in the pixels of a tile, which is the same for all fields."""
        if tile_input.pixel_intensity is not None:
            return tile_input.pixel_intensity
        assert tile_input.intensity is not None
        return PixelIntensity(self.model, tile_input.tile.layout, tile_input.intensity)
