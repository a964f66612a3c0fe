"""Test the intensity field on planted smooth fields that disks with gaps measure."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse

from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.models.intensity import FittedIntensity, PixelIntensity, fit_intensity, fitting

PITCH = 100.0


class Planted(NamedTuple):
    """Counts of disks, and the true intensities of the pixels."""

    counts: sparse.csr_matrix
    layout: SpotPixelMap
    truth: np.ndarray


def _intensities(points: np.ndarray) -> np.ndarray:
    x, y = points.T / 1000
    patterns = [np.exp(2 * np.sin(5 * x)), np.exp(2 * np.cos(6 * y)), np.exp(1.5 * np.sin(4 * (x + y)))]
    mixing = np.random.default_rng(5).dirichlet(np.ones(3) * 0.5, 12).T
    return np.stack(patterns, axis=1) @ mixing


@pytest.fixture(scope="module")
def planted() -> Planted:
    row, col = (a.ravel() for a in np.mgrid[:14, :14])
    centers = np.column_stack([(col + 0.5 * (row % 2)) * PITCH, row * PITCH * np.sqrt(3) / 2])
    raster = make_raster(centers, factor=4, spot_diameter=55.0)
    counts = np.random.default_rng(0).poisson(6 * _intensities(centers))
    return Planted(
        counts=sparse.csr_matrix(counts.astype(np.float32)),
        layout=SpotPixelMap.of_raster(centers, raster),
        truth=_intensities(raster.centers),
    )


@pytest.fixture(scope="module")
def fitted(planted: Planted) -> FittedIntensity:
    return fit_intensity(planted.counts, planted.layout.spots, PITCH, np.pi / 4 * 55.0**2)


def _predict(fitted: FittedIntensity, planted: Planted, genes: slice = slice(None)) -> np.ndarray:
    counts = planted.counts[:, genes]
    pixels = PixelIntensity(fitted.model, planted.layout, fitted.fields)
    return pixels.log_intensities(counts.toarray(), fitted.loadings(counts))


def test_intensities_follow_the_true_field(planted: Planted, fitted: FittedIntensity) -> None:
    log_intensity, log_truth = _predict(fitted, planted), np.log(planted.truth)
    for gene in range(log_truth.shape[1]):
        assert np.corrcoef(log_intensity[:, gene], log_truth[:, gene])[0, 1] > 0.85


def test_ratios_within_spots_gain_over_the_uniform_split(planted: Planted, fitted: FittedIntensity) -> None:
    layout = planted.layout
    ratio, truth = layout.normalize(np.exp(_predict(fitted, planted))), layout.normalize(planted.truth)
    n_pixels = layout.n_pixels_per_spot[layout.parent][:, None]
    gain = (truth * np.log(ratio * n_pixels)).sum()
    possible = (truth * np.log(truth * n_pixels)).sum()
    assert gain > 0.5 * possible


def test_loadings_of_a_gene_do_not_depend_on_its_company(planted: Planted, fitted: FittedIntensity) -> None:
    together = fitted.loadings(planted.counts)[3:5]
    alone = fitted.loadings(planted.counts[:, 3:5])
    np.testing.assert_array_equal(together.process.point, alone.process.point)
    np.testing.assert_allclose(together.components, alone.components, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(together.programs, alone.programs, rtol=1e-5)


def test_part_of_the_pixels_gets_the_values_of_all(planted: Planted, fitted: FittedIntensity) -> None:
    layout, chosen = planted.layout, slice(200, 260)
    part = SpotPixelMap(
        spots=layout.spots, pixels=layout.pixels[chosen], parent=layout.parent[chosen], pitch=layout.pitch
    )
    of_part = PixelIntensity(fitted.model, part, fitted.fields).log_intensities(
        planted.counts.toarray(), fitted.loadings(planted.counts)
    )
    np.testing.assert_allclose(of_part, _predict(fitted, planted)[chosen], atol=1e-4)


def test_single_precision_changes_little(planted: Planted, fitted: FittedIntensity) -> None:
    single = replace(fitted, model=replace(fitted.model, in_single_precision=True))
    values = _predict(single, planted)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, _predict(fitted, planted), atol=2e-3)


def test_large_slide_is_computed_in_single_precision(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MAX_WHOLE_ROWS", planted.counts.shape[0] - 1)
    large = fit_intensity(planted.counts, planted.layout.spots, PITCH, np.pi / 4 * 55.0**2)
    assert large.model.in_single_precision
    assert _predict(large, planted).dtype == np.float32


def test_loadings_of_a_sample_are_close_to_those_of_all_spots(monkeypatch: pytest.MonkeyPatch) -> None:
    activity = np.random.default_rng(1).gamma(1.0, size=(196, 4)) * 10
    rates = activity @ np.random.default_rng(2).dirichlet(np.ones(12), 4)
    counts = sparse.csr_matrix(np.random.default_rng(3).poisson(10 * rates).astype(np.float32))
    whole = fitting._fit_reference_loadings(counts, activity)
    monkeypatch.setattr(fitting, "MAX_WHOLE_ROWS", 100)
    monkeypatch.setattr(fitting, "spread_sample", lambda n_rows: np.arange(0, n_rows, 2))
    of_half = fitting._fit_reference_loadings(counts, activity)
    assert not np.array_equal(of_half, whole)
    np.testing.assert_allclose(of_half, whole, atol=0.15 * whole.max())


def test_fit_is_reproducible(planted: Planted, fitted: FittedIntensity) -> None:
    again = fit_intensity(planted.counts, planted.layout.spots, PITCH, np.pi / 4 * 55.0**2)
    np.testing.assert_array_equal(again.fields, fitted.fields)
    np.testing.assert_array_equal(again.activity, fitted.activity)


@pytest.mark.parametrize("n_spots", [1, 2, 5])
@pytest.mark.parametrize("n_genes", [1, 3])
def test_few_spots_and_genes_give_finite_values(n_spots: int, n_genes: int) -> None:
    centers = np.column_stack([np.arange(n_spots) * PITCH, np.zeros(n_spots)])
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (n_spots, n_genes)).astype(np.float32))
    fitted = fit_intensity(counts, centers, PITCH, PITCH**2)
    layout = SpotPixelMap(spots=centers, pixels=centers + 20.0, parent=np.arange(n_spots), pitch=PITCH)
    values = PixelIntensity(fitted.model, layout, fitted.fields).log_intensities(
        counts.toarray(), fitted.loadings(counts)
    )
    assert np.isfinite(values).all()


def test_slide_without_counts_gives_finite_values() -> None:
    centers = np.argwhere(np.ones((4, 4))) * PITCH
    counts = sparse.csr_matrix((16, 3), dtype=np.float32)
    fitted = fit_intensity(counts, centers, PITCH, PITCH**2)
    layout = SpotPixelMap(spots=centers, pixels=centers, parent=np.arange(16), pitch=PITCH)
    pixels = PixelIntensity(fitted.model, layout, fitted.fields)
    assert np.isfinite(pixels.log_intensities(counts.toarray(), fitted.loadings(counts))).all()
