"""Check the spots of a slide: what is left out, and what may indicate an error in the source of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.core.slide import SlideImage
from napari_srast.errors import InputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.io.spots import Spots
from napari_srast.io.transforms import fit_affine

if TYPE_CHECKING:
    import anndata

__all__ = ["content_notices", "diameter_notices", "image_notices", "position_notices", "spots_in_tissue"]

_NOMINAL_DIAMETER = 0.64, 0.66  # range in pitches: 65 um of 100 um
_SAME = 0.05  # distance up to which two statements of a position agree except for a shift, in pitches
_NOTABLE_SHIFT = 0.02  # in pitches
_MIN_TOTAL, _MIN_COMPARED = 100, 20  # mean counts of a spot, and number of spots, that tell counts from rounded values
_MIN_DISPERSION = 0.1  # variance of the counts of spots divided by their mean, which is at least 1 for random counts
_NOTABLE_OUTSIDE = 0.02  # of the spots, on the image
_NOTABLE_DISTANCE = 0.5  # of a spot from its other position, in pitches


def spots_in_tissue(
    table: anndata.AnnData, name: str, rows: np.ndarray, spot_index: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Leave out the spots that the table marks as outside the tissue, unless it marks all of them."""
    if "in_tissue" not in table.obs:
        return rows, spot_index, ()
    texts = table.obs["in_tissue"].iloc[rows].astype(str).str.strip().str.casefold()
    marks = pd.to_numeric(texts.replace({"false": "0", "no": "0"}), "coerce")
    outside = (marks == 0).to_numpy()
    if not outside.any() or outside.all():
        return rows, spot_index, ()
    return (
        rows[~outside],
        spot_index[~outside],
        (f"{outside.sum()} spots of table '{name}' are outside the tissue (in_tissue is 0) and were left out.",),
    )


def content_notices(counts: sparse.csr_matrix, centers: np.ndarray, table: str, spots: str) -> tuple[str, ...]:
    """Return notices on spots that can be processed, but may indicate a problem in the source of the data.

    Raises
    ------
    InputError
        All counts are zero.
    """
    if counts.nnz == 0:
        raise InputError(f"Table '{table}' holds zeros only; export the slide again with its counts.")
    notices = []
    n_empty = counts.shape[0] - np.count_nonzero(np.diff(counts.indptr))
    if n_empty:
        notices.append(f"{n_empty} spots of table '{table}' hold no counts; their pixels stay zero.")
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    mean = float(totals.mean())
    if len(totals) >= _MIN_COMPARED and mean >= _MIN_TOTAL and totals.var() < _MIN_DISPERSION * mean:
        notices.append(
            f"All spots of table '{table}' have nearly the same total, {mean:.4g}, as values have that were normalized "
            "and rounded; check that these are the raw counts."
        )
    n_duplicates = len(centers) - len(np.unique(centers, axis=0))
    if n_duplicates:
        notices.append(
            f"{n_duplicates} spots of '{spots}' have the same center as another spot; "
            "they share the pixels of that place."
        )
    return tuple(notices)


def image_notices(image: SlideImage | None, centers: np.ndarray) -> tuple[str, ...]:
    """Return a notice if some spots are outside of the histology image.

    Parameters
    ----------
    image
        The image; None if there is none.
    centers
        Spot centers (x, y), shape (N, 2).
    """
    if image is None:
        return ()
    pixels = apply_affine(np.linalg.inv(image.to_intrinsic[0]), centers)
    rows, columns = image.levels[0].shape[1:]
    outside = ~np.all((pixels >= 0) & (pixels <= [columns, rows]), axis=1)
    if outside.mean() <= _NOTABLE_OUTSIDE:
        return ()
    return (
        f"{outside.sum()} of {len(centers)} spots are outside of the image '{image.name}'; check that it is the image "
        "of these spots, or choose another one with --image.",
    )


def diameter_notices(spots: Spots) -> tuple[str, ...]:
    """Return a notice if the spot diameter is the nominal one of Space Ranger, which exceeds that of Visium spots."""
    if spots.shape != "circle" or not spots.diameter or len(spots.centers) < 3:
        return ()
    distance, _ = cKDTree(spots.centers).query(spots.centers, k=[2])
    if not _NOMINAL_DIAMETER[0] < spots.diameter / max(float(np.median(distance)), 1e-12) < _NOMINAL_DIAMETER[1]:
        return ()
    return (
        "The spot diameter is 65 % of the pitch, which is the nominal diameter in Space Ranger; Visium spots measure "
        "55 um. If the diameter matters (footprint 'spot', measured fraction), import the folder with "
        "'napari-srast import'.",
    )


def position_notices(
    stated: np.ndarray, centers: np.ndarray, transforms: Mapping[str, np.ndarray], spots: str
) -> tuple[str, ...]:
    """Compare the centers of the spots with the positions in ``obsm["spatial"]``, and return a notice if they differ.

    Parameters
    ----------
    stated
        Positions (x, y) in the table, shape (N, 2).
    centers
        Spot centers of the element, shape (N, 2).
    transforms
        Matrices from the element to its coordinate systems, in any of which the table may give positions.
    spots
        Name of the element.
    """
    known = np.isfinite(stated).all(axis=1)
    stated, centers = stated[known], centers[known]
    if len(centers) < 3:
        return ()
    sample = centers[:: max(1, len(centers) // 20_000)]
    pitch = float(np.median(cKDTree(centers).query(sample, k=[2])[0]))
    if not np.isfinite(pitch) or pitch <= 0:
        return ()
    best = None
    for matrix in (np.eye(3), *transforms.values()):
        length = pitch * np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
        apart = stated - apply_affine(matrix, centers)
        shift = np.median(apart, axis=0)
        rest = float(np.median(np.hypot(*(apart - shift).T))) / length
        size = float(np.hypot(*shift)) / length
        if rest < _SAME and (best is None or size < best[0]):
            best = size, shift
    if best is not None:
        size, shift = best
        if size < _NOTABLE_SHIFT:
            return ()
        return (
            f"The positions in obsm['spatial'] are shifted from the spots '{spots}' by ({shift[0]:.4g}, "
            f"{shift[1]:.4g}), which is {size:.2g} pitches; those of the spots were used, check which are right.",
        )
    try:
        _, misfit = fit_affine(centers, stated)
        back, _ = fit_affine(stated, centers)
    except InputError:  # on one line
        return ()
    misfit *= np.sqrt(abs(np.linalg.det(back[:2, :2]))) / pitch
    if misfit < _NOTABLE_DISTANCE:  # the same positions in another unit or frame
        return ()
    return (
        f"The positions in obsm['spatial'] differ from the spots '{spots}' by {misfit:.2g} pitches on average after "
        "the best affine fit; those of the spots were used, so check that the table has its rows in the right order.",
    )
