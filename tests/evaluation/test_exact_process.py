"""The exact process equals the textbook formulas for predictions, left-out spots and likelihood."""

from __future__ import annotations

import numpy as np

from napari_srast.evaluation.exact_process import NOISES, WIDTHS, ExactProcess, shrink_counts


def spots() -> np.ndarray:
    row, col = (a.ravel().astype(float) for a in np.mgrid[:7, :7])
    return np.column_stack([col, row]) * 10


def kernel(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    d = np.sqrt(3) * np.linalg.norm(a[:, None] - b[None], axis=-1) / width
    return (1 + d) * np.exp(-d)


def textbook(at: np.ndarray, where: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Predict one gene with the width and noise of the largest profile likelihood."""
    n, y = len(at), logs - logs.mean()
    best = (-np.inf, 0.0, 0.0)
    for width in WIDTHS:
        for noise in NOISES:
            covariance = kernel(at, at, 10 * width) + noise * np.eye(n)
            scale = y @ np.linalg.solve(covariance, y) / n
            best = max(best, (-0.5 * n * np.log(scale) - 0.5 * np.linalg.slogdet(covariance)[1], width, noise))
    _, width, noise = best
    covariance = kernel(at, at, 10 * width) + noise * np.eye(n)
    return kernel(where, at, 10 * width) @ np.linalg.solve(covariance, y) + logs.mean()


def test_predictions_equal_the_textbook() -> None:
    at = spots()
    counts = np.random.default_rng(0).poisson(5 * np.exp(np.sin(at / 15))).astype(float)
    where = np.array([[3.0, 4.0], [31, 22]])
    predicted = ExactProcess(at, counts, 10.0).at(where)
    for gene in range(2):
        expected = np.expm1(textbook(at, where, np.log1p(counts[:, gene])))
        np.testing.assert_allclose(predicted[:, gene], expected + 1e-3, rtol=1e-6)


def test_left_out_spots_do_not_use_their_own_counts() -> None:
    at = spots()
    counts = np.random.default_rng(0).poisson(5 * np.exp(np.sin(at[:, :1] / 15))).astype(float)
    process = ExactProcess(at, counts, 10.0)
    ((w, noise, _),) = process._groups()
    logs = np.log1p(counts[:, 0])
    others = np.arange(len(at)) != 17
    covariance = kernel(at[others], at[others], 10 * WIDTHS[w]) + noise * np.eye(len(at) - 1)
    centered = logs - logs.mean()
    expected = (
        kernel(at[[17]], at[others], 10 * WIDTHS[w]) @ np.linalg.solve(covariance, centered[others]) + logs.mean()
    )
    np.testing.assert_allclose(process.left_out()[17], np.expm1(expected) + 1e-3, rtol=1e-6)


def test_posterior_is_between_prior_and_counts() -> None:
    rng = np.random.default_rng(0)
    prior = np.full((400, 2), 4.0)
    flat = rng.poisson(prior).astype(float)
    varied = rng.poisson(rng.gamma(0.5, 8.0, size=prior.shape)).astype(float)
    near_prior, near_counts = shrink_counts(prior, flat), shrink_counts(prior, varied)
    assert near_prior.std() < 0.2 * flat.std()
    assert np.corrcoef(near_counts[:, 0], varied[:, 0])[0, 1] > 0.99
    np.testing.assert_allclose(near_counts.mean(axis=0), varied.mean(axis=0), rtol=0.05)
