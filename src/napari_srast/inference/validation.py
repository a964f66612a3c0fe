"""Validate every result, at once or tile by tile: conserved counts, no missing pixel, no invalid value."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_srast.arrays import PixelCounts, PixelRows, SpotCounts
from napari_srast.core.mass_balance import MASS_TOLERANCE, iterate_spot_sums, max_relative_difference
from napari_srast.errors import InternalError
from napari_srast.geometry.raster import Raster

__all__ = ["ResultValidator"]


class ResultValidator:
    """Validate a result at once or tile by tile.

    Parameters
    ----------
    spot_counts
        Counts of all spots that ``raster.parent`` indexes, shape (N, G).
    raster
        The pixels and their parents.
    run
        Name of the run, for the error message.
    integer
        Whether every count must be an integer and every sum exact (mode "integer").
    """

    def __init__(self, spot_counts: SpotCounts, raster: Raster, *, run: str, integer: bool = False) -> None:
        self._spot_counts = spot_counts
        self._raster = raster
        self._run = run
        self._integer = integer
        self._received = np.zeros(raster.n_pixels, dtype=bool)
        self._max_error = 0.0
        if raster.n_pixels and not (0 <= raster.parent.min() and raster.parent.max() < spot_counts.shape[0]):
            self._fail(["a pixel belongs to no spot"])

    def add(self, rows: PixelRows, counts: PixelCounts) -> None:
        """Validate some pixels: all pixels of each of their spots.

        Parameters
        ----------
        rows
            Rows of the pixels in the result, shape (q,).
        counts
            Counts of the pixels, shape (q, G).

        Raises
        ------
        InternalError
            A count was lost, a value is negative or not finite, or a pixel was computed twice. The cause is a bug in
            this package, never the input.
        """
        n_genes = self._spot_counts.shape[1]
        problems = []
        if counts.shape != (len(rows), n_genes):
            problems.append(f"it has shape {counts.shape} for {len(rows)} pixels and {n_genes} genes")
        if self._received[rows].any():
            problems.append("a pixel was computed twice")
        self._received[rows] = True
        n_negative = int((counts.data < 0).sum())
        if n_negative:
            problems.append(f"{n_negative} values are negative")
        if not np.isfinite(counts.data).all():
            problems.append("a value is not finite")
        if self._integer and np.any(counts.data != np.rint(counts.data)):
            problems.append("a count is not an integer")
        if not problems:
            problems = self._check_sums(rows, counts)
        if problems:
            self._fail(problems)

    def _check_sums(self, rows: np.ndarray, counts: sparse.csr_matrix) -> list[str]:
        """Compare the sums over the pixels of each spot with the spot's counts."""
        max_error, exact = 0.0, True
        for summed, measured in iterate_spot_sums(self._raster.parent[rows], counts, self._spot_counts):
            max_error = max(max_error, max_relative_difference(summed, measured))
            exact = exact and (not self._integer or (summed - measured).count_nonzero() == 0)
        self._max_error = max(self._max_error, max_error)
        if not max_error <= MASS_TOLERANCE:
            return [f"its sums differ from the counts of the spots by {max_error:.2g} of them"]
        return [] if exact else ["its sums are not exactly the counts of the spots"]

    def figures(self) -> dict[str, float]:
        """Return ``max_relative_mass_error`` and ``negative_pixels`` for the provenance, after the last tile.

        Raises
        ------
        InternalError
            A pixel is missing.
        """
        if not self._received.all():
            self._fail([f"{np.count_nonzero(~self._received)} pixels are missing"])
        return {"max_relative_mass_error": self._max_error, "negative_pixels": 0}

    def _fail(self, problems: list[str]) -> None:
        raise InternalError(
            f"The result of run {self._run} failed its own checks ({', '.join(problems)}), so it was discarded and "
            "nothing was written; this is a bug in napari-srast: please report it with this sentence."
        )
