"""Validation of results: whatever is wrong with the counts of a tile is found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import sparse

from napari_srast.errors import InternalError
from napari_srast.geometry.raster import Raster, make_raster
from napari_srast.inference.validation import ResultValidator

SPOT_COUNTS = sparse.csr_matrix(np.array([[4, 0], [8, 4], [0, 0], [12, 8]], dtype=np.float32))


@pytest.fixture(scope="module")
def raster() -> Raster:
    return make_raster(np.array([[0.0, 0.0], [10, 0], [0, 10], [10, 10]]), factor=2)


def _even(raster: Raster) -> np.ndarray:
    return SPOT_COUNTS.toarray()[raster.parent] / 4


def _validator(raster: Raster, *, integer: bool = False) -> ResultValidator:
    return ResultValidator(SPOT_COUNTS, raster, run="test", integer=integer)


def test_valid_counts_pass_as_a_whole_and_tile_by_tile(raster: Raster) -> None:
    counts = sparse.csr_matrix(_even(raster))
    for tiles in ([np.arange(raster.n_pixels)], [np.flatnonzero(raster.parent == spot) for spot in range(4)]):
        validator = _validator(raster, integer=True)
        for rows in tiles:
            validator.add(rows, counts[rows])
        assert validator.figures() == {"max_relative_mass_error": 0.0, "negative_pixels": 0}


def _lost(counts: np.ndarray) -> None:
    counts[0, 0] -= 0.5


def _moved_to_another_spot(counts: np.ndarray) -> None:
    counts[0] -= 1
    counts[-1] += 1


def _negative(counts: np.ndarray) -> None:
    counts[0, 0] -= 3
    counts[1, 0] += 3


def _undefined(counts: np.ndarray) -> None:
    counts[0, 0] = np.nan


@pytest.mark.parametrize("change", [_lost, _moved_to_another_spot, _negative, _undefined])
def test_invalid_counts_are_refused(raster: Raster, change: Callable[[np.ndarray], None]) -> None:
    counts = _even(raster)
    change(counts)
    with pytest.raises(InternalError, match="run test failed its own checks"):
        _validator(raster).add(np.arange(raster.n_pixels), sparse.csr_matrix(counts))


def test_fractions_are_refused_in_integer_mode(raster: Raster) -> None:
    counts = _even(raster)
    first, second = np.flatnonzero(raster.parent == 0)[:2]
    counts[first, 0] += 0.5
    counts[second, 0] -= 0.5
    _validator(raster).add(np.arange(raster.n_pixels), sparse.csr_matrix(counts))
    with pytest.raises(InternalError, match="a count is not an integer"):
        _validator(raster, integer=True).add(np.arange(raster.n_pixels), sparse.csr_matrix(counts))


def test_missing_and_repeated_pixels_are_refused(raster: Raster) -> None:
    counts, validator = sparse.csr_matrix(_even(raster)), _validator(raster)
    rows = np.flatnonzero(raster.parent == 3)
    validator.add(rows, counts[rows])
    with pytest.raises(InternalError, match="12 pixels are missing"):
        validator.figures()
    with pytest.raises(InternalError, match="a pixel was computed twice"):
        validator.add(rows, counts[rows])
