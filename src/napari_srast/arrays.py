"""Name the arrays that cross module boundaries, so that a signature states their shape and meaning.

The aliases are plain arrays at run time and for type checkers; the text of each one is the documentation: its shape,
its type where it is fixed, and what it holds. Shape letters are those of the style guide: N spots, G genes, F fields
(genes or programs in work), Q pixels, E experts. A function that works on a tile or on some genes takes the same arrays
with fewer rows or columns.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import numpy as np
from scipy import sparse

__all__ = [
    "Affine",
    "GeneColumns",
    "GeneNames",
    "LogRatios",
    "PixelCenters",
    "PixelCounts",
    "PixelMask",
    "PixelParents",
    "PixelRatios",
    "PixelRows",
    "PixelValues",
    "SkillByGene",
    "SpotCenters",
    "SpotCounts",
    "SpotFields",
    "SpotMask",
]

Affine: TypeAlias = Annotated[np.ndarray, "(3, 3) affine transformation of points (x, y)"]

SpotCenters: TypeAlias = Annotated[np.ndarray, "(N, 2) centers (x, y) of spots in their intrinsic frame"]
SpotCounts: TypeAlias = Annotated[sparse.csr_matrix, "(N, G) raw counts of spots"]
SpotFields: TypeAlias = Annotated[np.ndarray, "(N, F) non-negative counts or intensities of spots"]
SpotMask: TypeAlias = Annotated[np.ndarray, "(N,) bool, which spots are meant"]

GeneNames: TypeAlias = Annotated[np.ndarray, "(G,) names of genes"]
GeneColumns: TypeAlias = Annotated[np.ndarray, "(G,) integer columns of chosen genes in a larger matrix"]
SkillByGene: TypeAlias = Annotated[np.ndarray, "(G,) nats per count over a uniform split, NaN where unknown"]

PixelCenters: TypeAlias = Annotated[np.ndarray, "(Q, 2) centers (x, y) of pixels in the frame of the spots"]
PixelParents: TypeAlias = Annotated[np.ndarray, "(Q,) index of the spot that each pixel belongs to"]
PixelMask: TypeAlias = Annotated[np.ndarray, "(Q,) bool, which pixels are meant"]
PixelRows: TypeAlias = Annotated[np.ndarray, "(Q,) rows that pixels have in the result"]
PixelCounts: TypeAlias = Annotated[sparse.csr_matrix, "(Q, G) float32 counts; those of a spot sum to its counts"]
PixelValues: TypeAlias = Annotated[sparse.csr_matrix, "(Q, G) float32 expression or standard deviations of pixels"]
PixelRatios: TypeAlias = Annotated[np.ndarray, "(Q, F) share of each pixel in its spot; sums to 1 within a spot"]

LogRatios: TypeAlias = Annotated[np.ndarray, "(E, Q, F) log of the ratios that each expert predicts"]
