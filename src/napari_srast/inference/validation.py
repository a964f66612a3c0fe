"""What every result has to keep is checked on the result itself: as a whole, or part by part as it comes."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_srast.core.mass_balance import MASS_TOLERANCE, sums_of_spots, worst_relative
from napari_srast.errors import InternalError
from napari_srast.geometry.raster import Raster

__all__ = ["StreamingValidator", "validate_result"]


class StreamingValidator:
    """Checks a result part by part.

    Parameters
    ----------
    spot_counts
        Counts of all spots that ``raster.parent`` indexes, shape (N, G).
    raster
        The pixels and their parents.
    run
        Name of the run, for the report of a fault.
    whole
        Whether every count must be a whole number and every sum exact (mode "integer").
    """

    def __init__(self, spot_counts: sparse.csr_matrix, raster: Raster, *, run: str, whole: bool = False) -> None:
        self._spot_counts = spot_counts
        self._raster = raster
        self._run = run
        self._whole = whole
        self._came = np.zeros(raster.n_pixels, dtype=bool)
        self._worst = 0.0
        if raster.n_pixels and not (0 <= raster.parent.min() and raster.parent.max() < spot_counts.shape[0]):
            self._fail(["a pixel belongs to no spot"])

    def add(self, rows: np.ndarray, counts: sparse.csr_matrix) -> None:
        """Check the pixels of some spots, (Q, G), which are ``rows`` of the result: all pixels of each of these spots.

        Raises
        ------
        FaultError
            A count was lost, a value is negative or not finite, or a pixel is missing or came twice: a fault of this
            package, never of the input.
        """
        n_genes = self._spot_counts.shape[1]
        broken = []
        if counts.shape != (len(rows), n_genes):
            broken.append(f"it has shape {counts.shape} for {len(rows)} pixels and {n_genes} genes")
        if self._came[rows].any():
            broken.append("a pixel came twice")
        self._came[rows] = True
        negative = int((counts.data < 0).sum())
        if negative:
            broken.append(f"{negative} values are negative")
        if not np.isfinite(counts.data).all():
            broken.append("a value is not finite")
        if self._whole and np.any(counts.data != np.rint(counts.data)):
            broken.append("a count is not whole")
        if not broken:
            worst, exact = 0.0, True
            for summed, measured in sums_of_spots(self._raster.parent[rows], counts, self._spot_counts):
                worst = max(worst, worst_relative(summed, measured))
                exact = exact and (not self._whole or (summed - measured).count_nonzero() == 0)
            if not worst <= MASS_TOLERANCE:
                broken.append(f"its sums differ from the counts of the spots by {worst:.2g} of them")
            elif not exact:
                broken.append("its sums are not exactly the counts of the spots")
            self._worst = max(self._worst, worst)
        if broken:
            self._fail(broken)

    def figures(self) -> dict[str, float]:
        """Return ``max_relative_mass_error`` and ``negative_pixels``, once all pixels have come.

        Raises
        ------
        FaultError
            Some did not.
        """
        if not self._came.all():
            self._fail([f"{np.count_nonzero(~self._came)} pixels are missing"])
        return {"max_relative_mass_error": self._worst, "negative_pixels": 0}

    def _fail(self, broken: list[str]) -> None:
        raise InternalError(
            f"The result of run {self._run} failed its own checks ({', '.join(broken)}), so it was thrown away and "
            "nothing was written; this is a fault of napari-srast: please report it with this sentence."
        )


def validate_result(
    counts: sparse.csr_matrix, spot_counts: sparse.csr_matrix, raster: Raster, *, run: str, whole: bool = False
) -> dict[str, float]:
    """Check a whole result.

    Parameters
    ----------
    counts
        Counts of the pixels, shape (Q, G).
    spot_counts, raster, run, whole
        As for :class:`StreamingValidator`.

    Returns
    -------
    dict
        ``max_relative_mass_error`` and ``negative_pixels``.

    Raises
    ------
    FaultError
        As for :meth:`StreamingValidator.add`.
    """
    checks = StreamingValidator(spot_counts, raster, run=run, whole=whole)
    checks.add(np.arange(raster.n_pixels), counts)
    return checks.figures()
