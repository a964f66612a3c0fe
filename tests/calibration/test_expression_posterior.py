"""Test the corrections of the intensity field by the counts of spots, on closed forms and simulated counts."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.calibration.expression_posterior import (
    SHAPES,
    correction_width,
    fit_shapes,
    log_corrections,
    scale_to_counts,
)


def test_correction_is_the_gamma_poisson_posterior() -> None:
    means, counts, shapes = np.array([[2.0], [4.0]]), np.array([[5.0], [0.0]]), np.array([3.0])
    posterior = means * np.exp(log_corrections(means, counts, shapes))
    np.testing.assert_allclose(posterior, [[2 * (5 + 3) / (2 + 3)], [4 * 3 / (4 + 3)]])


def test_counts_that_equal_the_mean_correct_nothing() -> None:
    counts = np.array([[3.0, 7.0]])
    np.testing.assert_allclose(log_corrections(counts, counts, np.array([1.0, 50.0])), 0.0, atol=1e-12)


@pytest.mark.parametrize("shape", [0.5, 2.0, 20.0])
def test_shape_is_found_again(shape: float) -> None:
    rng = np.random.default_rng(0)
    means = rng.uniform(5, 50, (3000, 1))
    counts = rng.poisson(rng.gamma(shape, means / shape))
    assert fit_shapes(means, counts)[0] == shape


def test_poisson_counts_have_the_largest_shape() -> None:
    means = np.full((3000, 1), 5.0)
    assert fit_shapes(means, np.random.default_rng(0).poisson(means))[0] >= SHAPES[-2]


def test_scale_gives_the_field_the_total_of_the_counts() -> None:
    field, counts = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 3.0], [6.0, 9.0]])
    np.testing.assert_allclose((field * scale_to_counts(field, counts)).sum(axis=0), counts.sum(axis=0))


def test_kernel_is_narrower_where_more_is_measured() -> None:
    assert 0.2 < correction_width(1.0) < correction_width(0.3) < 0.45
    assert correction_width(1.5) == correction_width(1.0)
