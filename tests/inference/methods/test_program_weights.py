"""Tests of genes that are predicted from shared maps: honest skill, and the right columns."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from helpers.results import same_bytes
from scipy import sparse

from napari_srast._utils.sparse import drop_columns
from napari_srast.api import upsample
from napari_srast.core.slide import Slide
from napari_srast.inference.methods import srast as module
from napari_srast.inference.methods.program_weights import _at_entries_of, _gene_skill
from napari_srast.inference.methods.srast import _high_count_genes

MakeSlide = Callable[..., Slide]
PATTERNED = 40


def slide_with_noise(make_slide: MakeSlide) -> Slide:
    """Return 40 genes that follow stripes, and 300 genes with 30 to 60 counts at random places."""
    rng = np.random.default_rng(0)
    column = np.tile(np.arange(20), 20)
    wave = 1 + 0.9 * np.sin(column / 3)[:, None] * np.where(np.arange(PATTERNED) % 2, 1, -1)
    noise = np.zeros((400, 300))
    for gene in range(300):
        np.add.at(noise[:, gene], rng.integers(0, 400, rng.integers(30, 60)), 1)
    return make_slide(20, 20, counts=sparse.csr_matrix(np.hstack([rng.poisson(4 * wave), noise])))


@pytest.fixture
def programs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PER_GENE_LIMIT", 3)
    monkeypatch.setattr(module, "FLOW_PAIR_BUDGET", 0)


@pytest.mark.usefixtures("programs_only")
def test_expected_skill_of_genes_without_a_pattern_is_below_the_others(make_slide: MakeSlide) -> None:
    result = upsample(slide_with_noise(make_slide), factor=2)
    assert np.nanmean(result.skill[PATTERNED:]) < 0.5 * np.nanmean(result.skill[:PATTERNED])


@pytest.mark.usefixtures("programs_only")
def test_held_out_skill_of_genes_without_a_pattern_is_not_positive(make_slide: MakeSlide) -> None:
    result = upsample(slide_with_noise(make_slide), factor=2, mode="integer")
    of_noise = result.skill[PATTERNED:]
    error = np.nanstd(of_noise) / np.sqrt(np.isfinite(of_noise).sum())
    assert np.nanmean(of_noise) < 2 * error
    assert np.nanmean(result.skill[:PATTERNED]) > np.nanmean(of_noise) + 0.004
    assert (result.method[PATTERNED:] == "uniform").mean() > 0.05


@pytest.mark.parametrize("mode", ["mean", "integer"])
def test_genes_keep_their_columns(make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    slide = slide_with_noise(make_slide)
    genes = [*slide.genes[:30], *slide.genes[PATTERNED : PATTERNED + 30]]
    one_by_one = upsample(slide, genes=genes, mode=mode)
    monkeypatch.setattr(module, "PER_GENE_LIMIT", 3)
    monkeypatch.setattr(module, "FLOW_PAIR_BUDGET", 9000)
    mixed = upsample(slide, genes=genes, mode=mode)
    per_gene = ~np.isin(mixed.method, ["srast-programs", "uniform"]) | (mixed.method == one_by_one.method)
    assert 2 < (mixed.method == "srast").sum() < 40
    assert (mixed.method == "srast-programs").any()
    same = mixed.method == "srast"
    np.testing.assert_allclose(mixed.counts[:, same].toarray(), one_by_one.counts[:, same].toarray(), rtol=1e-5)
    np.testing.assert_allclose(mixed.skill[same], one_by_one.skill[same], rtol=1e-5)
    assert per_gene.sum() < len(genes)
    sums = mixed.raster.sum_to_spots(mixed.counts.toarray().astype(np.float64))
    np.testing.assert_allclose(sums, slide.counts[:, slide.gene_indices(genes)].toarray(), rtol=1e-6)
    if mode == "integer":
        np.testing.assert_array_equal(mixed.counts.data, np.rint(mixed.counts.data))


def test_budget_takes_high_count_genes_first() -> None:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(np.linspace(0.05, 3, 50), size=(200, 50)).astype(np.float32))

    def chosen(n_pixels: np.ndarray) -> np.ndarray:
        job = SimpleNamespace(counts=counts, columns=np.arange(50), layout=SimpleNamespace(n_pixels_per_spot=n_pixels))
        return _high_count_genes(cast(Any, job), cast(Any, SimpleNamespace(coarse=())))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FLOW_PAIR_BUDGET", 2000)
        whole = chosen(np.full(200, 4))
        totals = np.asarray(counts.sum(axis=0)).ravel()
        assert totals[whole].min() >= totals[~whole].max()
        n_pairs = counts.getnnz(axis=0)
        cost = n_pairs + 0.2 * (200 - n_pairs)
        assert cost[whole].sum() <= 2000 < cost[whole].sum() + cost[~whole].max()
        np.testing.assert_array_equal(whole, chosen(np.where(np.arange(200) < 20, 4, 0)))
        assert chosen(np.full(200, 16)).sum() < whole.sum()
        patch.setattr(module, "FLOW_PAIR_BUDGET", 0)
        assert chosen(np.full(200, 4)).sum() == 1
        patch.setattr(module, "MAX_WHOLE_ROWS", 100)
        patch.setattr(module, "LARGE_SLIDE_PAIR_BUDGET", 2000)
        np.testing.assert_array_equal(chosen(np.full(200, 4)), whole)


def test_gene_skill_equals_a_ratio_estimate() -> None:
    mass = sparse.csc_matrix(np.array([[10.0, 1.0], [30.0, 0.0]]))
    gain = sparse.csc_matrix(np.array([[2.0, 0.5], [1.0, 0.0]]))
    skill, error = _gene_skill([gain], [mass])
    assert skill[0] == pytest.approx(3 / 40)
    assert error[0] == pytest.approx(np.hypot(2 - 10 * 3 / 40, 1 - 30 * 3 / 40) / 40)
    assert np.isnan(skill[1])  # too few counts
    again, twice = _gene_skill([gain, gain], [mass, mass])
    assert again[0] == pytest.approx(skill[0])
    assert twice[0] == pytest.approx(error[0])  # the same spots do not add evidence


def test_values_at_the_entries_of_a_pattern() -> None:
    values = sparse.csr_matrix(np.array([[1.0, 0, 2, 3], [0, 0, 0, 0], [4, 5, 0, 0]]))
    pattern = sparse.csr_matrix(np.array([[0, 1.0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 1]]))
    np.testing.assert_array_equal(_at_entries_of(pattern, values), [0, 2, 0, 4, 0])


def test_drop_columns_keeps_the_shape() -> None:
    counts = sparse.csr_matrix(np.array([[1.0, 0, 2], [0, 3, 4]]))
    left = drop_columns(counts, np.array([False, True, True]))
    np.testing.assert_array_equal(left.toarray(), [[1, 0, 0], [0, 0, 0]])


@pytest.mark.usefixtures("programs_only")
def test_tiny_slide_uses_the_prior(make_slide: MakeSlide) -> None:
    slide = make_slide(2, 3, 8)
    result = upsample(slide)
    np.testing.assert_allclose(
        result.raster.sum_to_spots(result.counts.toarray().astype(np.float64)), slide.counts.toarray(), rtol=1e-6
    )
    assert result.provenance["calibration"]["shared"]["source"] == "fleet"


@pytest.mark.usefixtures("programs_only")
def test_predictor_can_be_pickled(make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_srast.inference.executors import fallback

    slide = make_slide(8, 8, 8)
    direct = upsample(slide)
    predict = fallback._predict_tile

    def pickled(predictor: Any, tile_input: Any, *others: Any) -> Any:
        return predict(*pickle.loads(pickle.dumps((predictor, tile_input))), *others)

    monkeypatch.setattr(fallback, "_predict_tile", pickled)
    through_pickle = upsample(slide)
    assert same_bytes(direct.counts, through_pickle.counts)
