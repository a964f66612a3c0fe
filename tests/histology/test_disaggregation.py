"""Test the disaggregation model on simulated spots whose rates in points are known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import approx_fprime

from napari_srast.core.progress import RunMonitor
from napari_srast.errors import Cancelled
from napari_srast.histology.disaggregation import (
    CompositionLoss,
    DisaggregationModel,
    SpotSamples,
    TotalsLoss,
    fit_disaggregation,
)
from napari_srast.histology.features import disk_offsets

PITCH = 100.0
TOTALS_EFFECTS = np.array([0.6, 0.0, -0.3])
PROGRAM_EFFECT = 1.2
SIGNATURES = np.array([[8.0, 8, 1, 1, 6], [1, 1, 8, 8, 6]]) / 24  # genes 0 and 1, genes 2 and 3, and both programs


class Simulation(NamedTuple):
    """Features at points of disks, and counts of the disks."""

    features: np.ndarray
    centers: np.ndarray
    counts: np.ndarray

    @property
    def samples(self) -> SpotSamples:
        return SpotSamples(
            features=self.features,
            centers=self.centers,
            pitch=PITCH,
            counts=sparse.csr_matrix(self.counts, dtype=np.float32),
        )


def _field(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return three features of mean 0 and variance 1 that vary within a fraction of a pitch."""
    frequency = rng.normal(size=(40, 2, 3)) * (3.0 / PITCH)
    phase = rng.uniform(0, 2 * np.pi, (40, 3))
    waves = np.cos(np.einsum("nmx,kxd->nmkd", points, frequency) + phase)
    return np.asarray(waves.sum(axis=2) / np.sqrt(20))


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    """Return disks that measure a part of the slide, with a trend of the position and different efficiencies."""
    rng = np.random.default_rng(0)
    centers = np.argwhere(np.ones((26, 26))) * PITCH
    points = centers[:, None] + disk_offsets(np.pi * (0.275 * PITCH) ** 2, 32)[None]
    features = _field(points, rng)
    rate = np.exp(features @ TOTALS_EFFECTS)
    fraction = 1 / (1 + np.exp(-PROGRAM_EFFECT * features[:, :, 1]))
    programs = np.stack([(rate * fraction).mean(axis=1), (rate * (1 - fraction)).mean(axis=1)], axis=1)
    efficiency = np.exp(0.2 * rng.normal(size=len(centers)) + 0.5 * np.sin(centers[:, 0] / (8 * PITCH)))
    return Simulation(features, centers, rng.poisson(400 * efficiency[:, None] * (programs @ SIGNATURES)))


@pytest.fixture(scope="module")
def model(simulation: Simulation) -> DisaggregationModel:
    return fit_disaggregation(simulation.samples)


def _assert_gradient_is_exact(loss: TotalsLoss | CompositionLoss, parameters: np.ndarray) -> None:
    numeric = approx_fprime(parameters, lambda p: loss(p)[0], 1e-7)
    np.testing.assert_allclose(loss(parameters)[1], numeric, atol=3e-6 * np.abs(numeric).max() + 1e-7)


def test_gradient_of_the_totals_equals_finite_differences() -> None:
    rng = np.random.default_rng(1)
    loss = TotalsLoss(
        features=rng.normal(size=(12 * 5, 4)),
        position=rng.random((12, 3)),
        totals=rng.poisson(30, 12).astype(float),
        n_points=5,
    )
    assert loss.start().shape == (4 + 3 + 2,)
    _assert_gradient_is_exact(loss, loss.start() + 0.4 * rng.normal(size=9))


def test_gradient_of_the_composition_equals_finite_differences() -> None:
    rng = np.random.default_rng(2)
    weights = rng.random((12, 5))
    loss = CompositionLoss(
        features=rng.normal(size=(12 * 5, 4)),
        weights=weights / weights.sum(axis=1, keepdims=True),
        observed=rng.poisson(8, (12, 6)).astype(float),
    )
    start = loss.start(rng.dirichlet(np.ones(6), 3))
    assert [part.shape for part in loss.split(start)] == [(4, 3), (3,), (3, 6)]
    _assert_gradient_is_exact(loss, start + 0.4 * rng.normal(size=len(start)))


def test_totals_effects_are_recovered_at_the_scale_of_points(model: DisaggregationModel) -> None:
    effects = model.totals_coefficients / model.feature_scale
    np.testing.assert_allclose(effects, TOTALS_EFFECTS, atol=0.12)


def test_program_fractions_are_recovered_in_points(simulation: Simulation, model: DisaggregationModel) -> None:
    points = simulation.features[:, 0]
    specific = sparse.csr_matrix(simulation.counts[:, [0, 2]])
    rates = model.predict(points)[1] @ model.field_loadings(specific)
    contrast = np.log(rates[:, 0] / rates[:, 1])
    fraction = 1 / (1 + np.exp(-PROGRAM_EFFECT * points[:, 1]))
    ratio = np.stack([fraction, 1 - fraction], axis=1) @ SIGNATURES[:, [0, 2]]
    truth = np.log(ratio[:, 0] / ratio[:, 1])
    assert np.corrcoef(contrast, truth)[0, 1] > 0.98
    assert np.polyfit(truth, contrast, 1)[0] == pytest.approx(1.0, abs=0.15)


def test_loadings_tell_specific_genes_from_common_ones(simulation: Simulation, model: DisaggregationModel) -> None:
    loadings = model.field_loadings(simulation.counts)
    by_gene = np.log(loadings.max(axis=0) / loadings.min(axis=0))
    assert by_gene[:4].min() > 4 * by_gene[4]
    np.testing.assert_allclose(loadings, model.field_loadings(sparse.csr_matrix(simulation.counts)), rtol=1e-12)


def test_rare_field_gets_equal_loadings(simulation: Simulation, model: DisaggregationModel) -> None:
    rare = np.zeros((len(simulation.counts), 2))
    rare[3, 0] = 1.0
    loadings = model.field_loadings(rare)
    np.testing.assert_allclose(loadings[:, 0], 1.0, atol=0.1)
    np.testing.assert_allclose(loadings[:, 1], 1.0, atol=1e-6)


def test_fit_depends_on_neither_random_state_nor_origin(simulation: Simulation) -> None:
    part = SpotSamples(
        features=simulation.features[:200],
        centers=simulation.centers[:200],
        pitch=PITCH,
        counts=sparse.csr_matrix(simulation.counts[:200]),
    )
    first = fit_disaggregation(part)
    np.random.seed(12345)  # noqa: NPY002 - the state that must not matter
    moved = SpotSamples(
        features=part.features, centers=part.centers + np.array([1e5 / 3, -2e4 / 7]), pitch=PITCH, counts=part.counts
    )
    again = fit_disaggregation(moved)
    np.testing.assert_allclose(again.totals_coefficients, first.totals_coefficients, atol=1e-4)
    np.testing.assert_allclose(again.spot_programs, first.spot_programs, atol=1e-3)


def test_constant_features_have_no_effect() -> None:
    rng = np.random.default_rng(3)
    samples = SpotSamples(
        features=np.ones((60, 4, 2)),
        centers=rng.random((60, 2)) * 8 * PITCH,
        pitch=PITCH,
        counts=sparse.csr_matrix(rng.poisson(20, (60, 5))),
    )
    log_totals, fractions = fit_disaggregation(samples).predict(np.full((3, 2), 7.0))
    np.testing.assert_array_equal(log_totals, 0.0)
    np.testing.assert_allclose(fractions, fractions[:1].repeat(3, axis=0))


def test_fit_can_be_canceled(simulation: Simulation) -> None:
    with pytest.raises(Cancelled):
        fit_disaggregation(simulation.samples, RunMonitor(should_stop=lambda: True))
