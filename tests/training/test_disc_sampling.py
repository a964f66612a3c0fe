"""Pseudo-slides of discs: measured and true counts are disjoint, cells are inside, other samples stay the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch

from napari_srast.models.pcfm.network import DiTConfig
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.training.lattice_sampling import make_pseudo_slides
from napari_srast.training.pseudo_slides import PseudoSlide
from napari_srast.training.sources import PseudoSlideSettings, SourceSlide
from napari_srast.training.trainer import TrainerConfig, _sample_patch, train_flow


@pytest.fixture(scope="module")
def discs(cells: Path, settings: PseudoSlideSettings, sasa: SasaConfig) -> list[PseudoSlide]:
    """One pseudo-slide of whole cells and two of discs, of which the second is a crop."""
    with_discs = replace(
        settings, least_spots=20, discs=2, disc_factors=(4.0,), disc_cells_per_spot=(20.0, 30.0), missing_spots=(0.1,)
    )
    source = SourceSlide(name="cells", study="a", path=cells, resolution="high", cases=1)
    return list(make_pseudo_slides(source, with_discs, sasa, seed=0))


def test_discs_do_not_change_the_other_pseudo_slides(
    discs: list[PseudoSlide], cells: Path, settings: PseudoSlideSettings, sasa: SasaConfig
) -> None:
    source = SourceSlide(name="cells", study="a", path=cells, resolution="high", cases=1)
    (alone,) = make_pseudo_slides(source, replace(settings, least_spots=20), sasa, seed=0)
    assert discs[0].description == alone.description
    torch.testing.assert_close(discs[0].inputs.expert_log_ratios, alone.inputs.expert_log_ratios)
    assert [one.scored for one in discs] == [True, False, False]


def test_spots_measure_their_discs_and_the_truth_covers_their_cells(discs: list[PseudoSlide], cells: Path) -> None:
    table = anndata.read_h5ad(cells)
    for one in discs[1:]:
        fraction = one.inputs.neighborhoods.measured.numpy()
        assert fraction.min() == 0
        assert fraction.max() == 1
        measured = float(one.inputs.counts[:, : one.n_genes].sum())
        truth = one.truth[:, : one.n_genes].numpy()
        true = float(truth.sum())
        # Of counts inside cells, the depth is measured in the discs only.
        depth = float(one.description.split("depth ")[1].split(",")[0])
        expected = fraction.mean() * depth / (1 - depth)
        assert measured / true == pytest.approx(expected, rel=0.25)
        assert measured + true < table.X.sum()
        assert truth[fraction == 0].sum() > 0


def test_cells_of_discs_are_inside_the_slide(discs: list[PseudoSlide]) -> None:
    # The 3,000 cells fill a square evenly, so no spot inside lacks counts in a half of its pixels.
    whole, disc = discs[0], discs[1]

    def emptiest_half(one: PseudoSlide) -> float:
        totals = one.truth[:, : one.n_genes].sum(dim=1).numpy()
        offset = one.layout.pixels - one.layout.spots[one.layout.parent]
        shares = []
        for direction in ([1, 0], [0, 1], [-1, 0], [0, -1]):
            in_half = offset @ direction > 0
            of_half = np.bincount(one.layout.parent[in_half], totals[in_half], minlength=one.layout.n_spots)
            shares.append(of_half / np.maximum(np.bincount(one.layout.parent, totals), 1))
        return float(np.quantile(np.min(shares, axis=0), 0.02))

    assert emptiest_half(disc) > emptiest_half(whole)


def test_network_that_knows_the_support_trains_on_discs_and_whole_cells(discs: list[PseudoSlide]) -> None:
    size = DiTConfig(width=16, depth=1, heads=2, support=True)
    config = TrainerConfig(steps=4, patch_spots=8, patch_fields=4, patch_pixels=200)
    network, losses = train_flow(discs, config, size, accelerator="cpu")
    assert np.isfinite(losses).all()
    assert len(network.feature_mean) == size.n_features
    assert network.feature_std[-2] > 0.1  # the measured fraction varies
    rng = np.random.default_rng(0)
    patch = _sample_patch(discs[1], config, rng)
    assert 0 < len(patch) * discs[1].inputs.neighborhoods.pixel_mask.shape[1] <= 200
