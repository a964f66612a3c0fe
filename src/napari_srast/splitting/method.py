"""A method that is ready to split: what an interpolation and SASA + PCFM have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast.splitting.job import Tile

__all__ = ["Block", "Method"]

Block = tuple[sparse.csc_matrix, sparse.csc_matrix | None]
"""Counts and, in sample mode, standard deviations of a tile's own pixels and a block of genes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """A method that is ready to split.

    Parameters
    ----------
    open_tile
        Returns for a tile the function that splits a block of the chosen genes.
    skill, method
        Per gene, shape (G,).
    values_per_pixel
        How many dense values the method holds for each pixel and gene: it bounds the blocks.
    record
        Device, checksum and calibration, as fields of :class:`Split`.
    """

    open_tile: Callable[[Tile], Callable[[slice], Block]]
    skill: np.ndarray
    method: np.ndarray
    values_per_pixel: int = 1
    record: dict[str, Any] = field(default_factory=dict)
