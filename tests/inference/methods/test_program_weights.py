"""The check of what genes share is honest about genes without a pattern; every gene comes to its own column."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy import sparse

from napari_srast.api import upsample
from napari_srast.core.slide import Slide
from napari_srast.inference.methods import srast as module
from napari_srast.inference.methods.program_weights import _at_entries_of, _skill
from napari_srast.inference.methods.srast import _genes_for_the_flow, _without

MakeSlide = Callable[..., Slide]
PATTERNED = 40


def slide_with_noise(make_slide: MakeSlide) -> Slide:
    """Return 40 genes that follow stripes, and 300 that lie anywhere, of 30 to 60 counts each."""
    rng = np.random.default_rng(0)
    column = np.tile(np.arange(20), 20)
    wave = 1 + 0.9 * np.sin(column / 3)[:, None] * np.where(np.arange(PATTERNED) % 2, 1, -1)
    noise = np.zeros((400, 300))
    for gene in range(300):
        np.add.at(noise[:, gene], rng.integers(0, 400, rng.integers(30, 60)), 1)
    return make_slide(20, 20, counts=sparse.csr_matrix(np.hstack([rng.poisson(4 * wave), noise])))


@pytest.fixture
def shared_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PER_GENE_LIMIT", 3)
    monkeypatch.setattr(module, "FLOW_PAIR_BUDGET", 0)


@pytest.mark.usefixtures("shared_only")
def test_skill_is_not_learned_from_the_counts_that_it_is_asked_for(make_slide: MakeSlide) -> None:
    result = upsample(slide_with_noise(make_slide))
    of_noise = result.skill[PATTERNED:]
    error = np.nanstd(of_noise) / np.sqrt(np.isfinite(of_noise).sum())
    assert np.nanmean(of_noise) < 2 * error
    assert np.nanmean(result.skill[:PATTERNED]) > np.nanmean(of_noise) + 0.004
    assert (result.method[PATTERNED:] == "uniform").mean() > 0.05


@pytest.mark.parametrize("mode", ["mean", "integer"])
def test_genes_by_the_flow_and_by_shared_maps_come_to_their_own_columns(
    make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    slide = slide_with_noise(make_slide)
    genes = [*slide.genes[:30], *slide.genes[PATTERNED : PATTERNED + 30]]
    one_by_one = upsample(slide, genes=genes, mode=mode)
    monkeypatch.setattr(module, "PER_GENE_LIMIT", 3)
    monkeypatch.setattr(module, "FLOW_PAIR_BUDGET", 9000)
    mixed = upsample(slide, genes=genes, mode=mode)
    deep = ~np.isin(mixed.method, ["srast-programs", "uniform"]) | (mixed.method == one_by_one.method)
    assert 2 < (mixed.method == "srast").sum() < 40
    assert (mixed.method == "srast-programs").any()
    same = mixed.method == "srast"
    np.testing.assert_allclose(mixed.counts[:, same].toarray(), one_by_one.counts[:, same].toarray(), rtol=1e-5)
    np.testing.assert_allclose(mixed.skill[same], one_by_one.skill[same], rtol=1e-6)
    assert deep.sum() < len(genes)
    sums = mixed.raster.sum_to_spots(mixed.counts.toarray().astype(np.float64))
    np.testing.assert_allclose(sums, slide.counts[:, slide.gene_indices(genes)].toarray(), rtol=1e-6)
    if mode == "integer":
        np.testing.assert_array_equal(mixed.counts.data, np.rint(mixed.counts.data))


def test_the_deepest_genes_go_first_and_a_region_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(np.linspace(0.05, 3, 50), size=(200, 50)).astype(np.float32))

    def chosen(n_pixels: np.ndarray) -> np.ndarray:
        job = SimpleNamespace(counts=counts, columns=np.arange(50), layout=SimpleNamespace(n_pixels_per_spot=n_pixels))
        return _genes_for_the_flow(cast(Any, job), cast(Any, SimpleNamespace(coarse=())))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FLOW_PAIR_BUDGET", 2000)
        whole = chosen(np.full(200, 4))
        totals = np.asarray(counts.sum(axis=0)).ravel()
        assert totals[whole].min() >= totals[~whole].max()
        n_pairs = counts.getnnz(axis=0)
        price = n_pairs + 0.2 * (200 - n_pairs)
        assert price[whole].sum() <= 2000 < price[whole].sum() + price[~whole].max()
        np.testing.assert_array_equal(whole, chosen(np.where(np.arange(200) < 20, 4, 0)))
        assert chosen(np.full(200, 16)).sum() < whole.sum()
        patch.setattr(module, "FLOW_PAIR_BUDGET", 0)
        assert chosen(np.full(200, 4)).sum() == 1


def test_skill_and_its_error_by_hand() -> None:
    mass = sparse.csc_matrix(np.array([[10.0, 1.0], [30.0, 0.0]]))
    gain = sparse.csc_matrix(np.array([[2.0, 0.5], [1.0, 0.0]]))
    skill, error = _skill([gain], [mass])
    assert skill[0] == pytest.approx(3 / 40)
    assert error[0] == pytest.approx(np.hypot(2 - 10 * 3 / 40, 1 - 30 * 3 / 40) / 40)
    assert np.isnan(skill[1])  # one count tells nothing
    again, twice = _skill([gain, gain], [mass, mass])
    assert again[0] == pytest.approx(skill[0])
    assert twice[0] == pytest.approx(error[0])  # the same spots again


def test_values_are_found_at_the_entries_of_a_pattern() -> None:
    values = sparse.csr_matrix(np.array([[1.0, 0, 2, 3], [0, 0, 0, 0], [4, 5, 0, 0]]))
    pattern = sparse.csr_matrix(np.array([[0, 1.0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 1]]))
    np.testing.assert_array_equal(_at_entries_of(pattern, values), [0, 2, 0, 4, 0])


def test_columns_are_taken_out() -> None:
    counts = sparse.csr_matrix(np.array([[1.0, 0, 2], [0, 3, 4]]))
    left = _without(counts, np.array([False, True, True]))
    np.testing.assert_array_equal(left.toarray(), [[1, 0, 0], [0, 0, 0]])


@pytest.mark.usefixtures("shared_only")
def test_a_slide_too_small_to_be_checked_takes_the_fleets_weights(make_slide: MakeSlide) -> None:
    slide = make_slide(2, 3, 8)
    result = upsample(slide)
    np.testing.assert_allclose(
        result.raster.sum_to_spots(result.counts.toarray().astype(np.float64)), slide.counts.toarray(), rtol=1e-6
    )
    assert result.provenance["calibration"]["shared"]["source"] == "fleet"


@pytest.mark.usefixtures("shared_only")
def test_what_splits_can_be_sent_elsewhere(make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_srast.inference.executors import local

    slide = make_slide(8, 8, 8)
    here = upsample(slide)
    split = local._split_unit

    def elsewhere(splitter: Any, packed: Any, *others: Any) -> Any:
        return split(*pickle.loads(pickle.dumps((splitter, packed))), *others)

    monkeypatch.setattr(local, "_split_unit", elsewhere)
    there = upsample(slide)
    assert here.counts.data.tobytes() == there.counts.data.tobytes()
