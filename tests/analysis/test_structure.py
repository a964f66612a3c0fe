from __future__ import annotations

import numpy as np
import pytest
from helpers.slides import make_slide
from scipy import sparse

from napari_srast.analysis.structure import colocalization, spatially_variable
from napari_srast.errors import Cancelled, InputError, SettingsError

SIDE = 14


def random_slide(n_genes=400, seed=0, **fields):
    """Build a slide whose spots are in random order, with frequent and rare genes."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(2.0, 1.0, (SIDE * SIDE, 1)) * 10 ** rng.uniform(-1.5, 1, n_genes)
    counts = rng.poisson(rates).astype(np.float32)
    return make_slide(SIDE, SIDE, n_genes, counts=sparse.csr_matrix(counts), **fields)


@pytest.mark.parametrize("seed", range(2))
def test_genes_of_permuted_spots_are_called_variable_at_the_stated_rate(seed):
    table = spatially_variable(random_slide(seed=seed), seed=seed)
    n = table["p"].notna().sum()
    error = 2 * np.sqrt(0.05 * 0.95 / n)
    assert (table["p"] <= 0.05).sum() / n <= 0.05 + error
    assert (table["q"] <= 0.05).sum() <= 2


def test_structured_genes_come_first_with_the_smallest_p():
    table = spatially_variable(make_slide(SIDE, SIDE, 5, depth=50.0))
    assert table["p"].iloc[0] == 1 / 200
    assert table["moran_i"].iloc[0] > 0.5
    assert table["gene"].iloc[-1] == "Gene2"  # zero everywhere
    assert np.isnan(table[["moran_i", "p", "q"]].iloc[-1]).all()


def test_note_says_when_permutations_are_too_few_for_a_small_q():
    slide = random_slide(n_genes=60)
    counts = slide.counts.toarray()
    counts[: SIDE * SIDE // 2, 0] += 50
    slide = make_slide(SIDE, SIDE, 60, counts=sparse.csr_matrix(counts))
    note = spatially_variable(slide, permutations=19).attrs["note"]
    assert "with 19 permutations no p is below 1 / 20" in note
    assert "199 permutations." in note
    assert "permutations" not in spatially_variable(slide, ["Gene0", "Gene1"], permutations=99).attrs["note"]


def test_same_seed_and_any_block_size_give_the_same_table(monkeypatch):
    slide = random_slide(n_genes=40)
    first = spatially_variable(slide, permutations=49)
    monkeypatch.setattr("napari_srast.analysis.structure._VALUES_AT_ONCE", 3 * SIDE * SIDE)
    second = spatially_variable(slide, permutations=49)
    np.testing.assert_allclose(first["moran_i"], second["moran_i"])
    assert first["p"].tolist() == second["p"].tolist()


def test_genes_of_one_pattern_are_colocalized_and_others_are_not():
    rng = np.random.default_rng(0)
    checks = np.kron(rng.integers(0, 2, (SIDE // 2, SIDE // 2)), np.ones((2, 2))).ravel()
    noise = np.full(SIDE * SIDE, 40.0)
    rates = np.column_stack([20 + 60 * checks, 10 + 80 * checks, noise, noise, 20 + 60 * (1 - checks), 400 + noise])
    slide = make_slide(SIDE, SIDE, 6, counts=sparse.csr_matrix(rng.poisson(rates).astype(np.float32)))
    table = colocalization(slide, ["Gene0", "Gene1", "Gene2", "Gene4"], block=3).set_index(["gene_a", "gene_b"])
    assert table.index[0] == ("Gene0", "Gene1")
    assert table.loc[("Gene0", "Gene1"), "low"] > 0.6
    assert table.loc[("Gene0", "Gene4"), "high"] < -0.4
    assert abs(table.loc[("Gene0", "Gene2"), "correlation"]) < 0.35
    assert (table["low"] <= table["correlation"]).all()
    assert (table["correlation"] <= table["high"]).all()


def test_a_constant_gene_has_no_correlation():
    table = colocalization(make_slide(SIDE, SIDE, 5), ["Gene0", "Gene1", "Gene2"], block=3)  # Gene2 is zero everywhere
    figures = table.set_index(["gene_a", "gene_b"])
    assert figures.loc[("Gene0", "Gene1")].notna().all()
    assert figures.drop(index=[("Gene0", "Gene1")]).isna().all(axis=None)


def test_wrong_requests_are_refused():
    slide = random_slide(n_genes=4)
    with pytest.raises(SettingsError, match="at least 19"):
        spatially_variable(slide, permutations=5)
    with pytest.raises(SettingsError, match="seed is -1, but must be between 0"):
        spatially_variable(slide, seed=-1)
    with pytest.raises(InputError, match="too few to test"):
        spatially_variable(make_slide(3, 4))
    with pytest.raises(InputError, match="no gene 'Nothing'"):
        spatially_variable(slide, ["Nothing"])
    with pytest.raises(SettingsError, match="at least two genes"):
        colocalization(slide, ["Gene1"])
    with pytest.raises(InputError, match="1 block of 20 pitches, too few"):
        colocalization(slide, ["Gene1", "Gene2"], block=20)


def test_progress_counts_permutations_and_pairs():
    slide, steps = random_slide(n_genes=3), []
    spatially_variable(slide, permutations=19, progress=steps.append)
    assert [step.done for step in steps] == list(range(1, 20))
    assert steps[-1].fraction == 1
    steps.clear()
    colocalization(slide, slide.genes, block=3, draws=100, progress=steps.append)
    assert [(step.done, step.total) for step in steps] == [(0, 3), (1, 3), (2, 3)]


def test_cancellation_stops():
    slide = random_slide(n_genes=3)
    with pytest.raises(Cancelled):
        spatially_variable(slide, should_stop=lambda: True)
    with pytest.raises(Cancelled):
        colocalization(slide, slide.genes, block=3, should_stop=lambda: True)
