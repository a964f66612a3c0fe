from __future__ import annotations

import numpy as np
import pytest
import shapely
from helpers.slides import make_slide
from scipy import ndimage, sparse

from napari_srast.analysis.comparison import compare_regions
from napari_srast.core.region import Region
from napari_srast.errors import Cancelled, InputError, SettingsError

SIDE = 24


def halves():
    """Return the left and the right half of the slide."""
    middle, end = SIDE * 50.0 - 50, SIDE * 100.0
    return {
        "left": Region(shapely.box(-60, -60, middle, end)),
        "right": Region(shapely.box(middle + 1, -60, end, end)),
    }


def noisy_slide(seed=0, n_genes=30, changed=()):
    """Build a slide whose genes vary smoothly in space at random; changed genes are fourfold on the left."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.normal(size=(n_genes, SIDE, SIDE)), (0, 0.9, 0.9))
    rates = 30 * np.exp(0.5 * fields / fields.std())
    for gene in changed:
        rates[gene, :, : SIDE // 2] *= 4
    counts = rng.poisson(rates).reshape(n_genes, -1).T
    return make_slide(SIDE, SIDE, n_genes, counts=sparse.csr_matrix(counts, dtype=np.float32))


def test_changed_genes_come_first_with_their_fold_change():
    table = compare_regions(noisy_slide(changed=(3, 7)), halves())
    assert set(table["gene"].head(2)) == {"Gene3", "Gene7"}
    assert (table["low"].head(2) > 0.8).all()
    assert table["log2_fold_change"].head(2).between(1.2, 2.4).all()
    assert table.attrs["blocks"] == {"left": 8, "right": 8}
    assert sum(table.attrs["spots"].values()) == SIDE * SIDE
    assert "no p-values" in table.attrs["note"]


def test_intervals_cover_no_difference_although_spots_are_correlated():
    covered, too_sure = [], []
    for seed in range(20):
        slide = noisy_slide(seed)
        for block, into in ((6.0, covered), (1.0, too_sure)):
            table = compare_regions(slide, halves(), block=block, draws=200)
            into.append(((table["low"] <= 0) & (table["high"] >= 0)).mean())
    assert np.mean(covered) > 0.9
    assert np.mean(too_sure) < 0.6  # single spots are no replicates


def test_fold_change_is_that_of_the_summed_counts():
    slide = noisy_slide()
    table = compare_regions(slide, halves(), genes=["Gene2"])
    left = halves()["left"].spots(slide)
    rates = [1e4 * slide.counts[mask][:, 2].sum() / slide.counts[mask].sum() for mask in (left, ~left)]
    assert table["log2_fold_change"].iloc[0] == pytest.approx(np.log2((rates[0] + 1) / (rates[1] + 1)), rel=1e-5)
    np.testing.assert_allclose(table[["per_10000_left", "per_10000_right"]].iloc[0], rates, rtol=1e-5)


def test_one_region_is_compared_with_the_rest():
    slide = noisy_slide()
    one = compare_regions(slide, {"left": halves()["left"]})
    two = compare_regions(slide, halves())
    assert one["log2_fold_change"].tolist() == two["log2_fold_change"].tolist()
    assert list(one.columns)[-1] == "per_10000_rest"


def test_same_seed_gives_the_same_table():
    slide = noisy_slide()
    assert compare_regions(slide, halves()).equals(compare_regions(slide, halves()))


def test_any_block_of_genes_gives_the_same_table(monkeypatch):
    slide = noisy_slide()
    whole = compare_regions(slide, halves())
    monkeypatch.setattr("napari_srast.analysis.comparison._VALUES_AT_ONCE", 7000)
    assert compare_regions(slide, halves()).equals(whole)


def test_wrong_requests_are_refused():
    slide, regions = noisy_slide(), halves()
    with pytest.raises(SettingsError, match="would be in both 'left' and 'again'"):
        compare_regions(slide, {"left": regions["left"], "again": regions["left"]})
    with pytest.raises(SettingsError, match="One or two regions"):
        compare_regions(slide, {})
    with pytest.raises(SettingsError, match="block is 0, but must be at least 1 pitch"):
        compare_regions(slide, regions, block=0.0)
    with pytest.raises(SettingsError, match="seed is -1, but must be between 0"):
        compare_regions(slide, regions, seed=-1)
    with pytest.raises(SettingsError, match="'rest' is the name of the other spots; choose another name"):
        compare_regions(slide, {"rest": regions["left"]})
    small = Region(shapely.box(-60, -60, 310, 310))
    with pytest.raises(InputError, match="'small' has 16 spots in 1 block of 6 pitches, too few"):
        compare_regions(slide, {"small": small})
    with pytest.raises(InputError, match="contains all spots"):
        compare_regions(slide, {"all": Region(shapely.box(-1e5, -1e5, 1e5, 1e5))})


def test_progress_is_reported_and_cancellation_stops():
    slide, regions, steps = noisy_slide(), halves(), []
    compare_regions(slide, regions, draws=100, progress=steps.append)
    assert [step.fraction for step in steps] == [0, 0.5]  # a block of genes for each region
    with pytest.raises(Cancelled):
        compare_regions(slide, regions, should_stop=lambda: True)
