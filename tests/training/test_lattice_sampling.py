"""Sampling of pseudo-slides: truth and counts agree, samples repeat, crops are never scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch

from napari_srast.models.sasa.config import SasaConfig
from napari_srast.training.lattice_sampling import make_pseudo_slides
from napari_srast.training.pseudo_slides import PseudoSlide
from napari_srast.training.sources import PseudoSlideSettings, SourceSlide


def test_truth_sums_to_coarse_counts(pseudo_slides: list[PseudoSlide]) -> None:
    for one in pseudo_slides:
        sums = one.layout.membership @ one.truth.numpy()
        np.testing.assert_allclose(sums, one.inputs.counts.numpy(), rtol=1e-5)
        parents = one.layout.parent[one.edges.numpy()]
        assert (parents[0] != parents[1]).all()


def test_pseudo_slides_repeat_for_a_seed(cells: Path, settings: PseudoSlideSettings, sasa: SasaConfig) -> None:
    source = SourceSlide(name="cells", study="a", path=cells, resolution="high", cases=1)
    first, again = (next(iter(make_pseudo_slides(source, settings, sasa, seed=3))) for _ in range(2))
    assert first.description == again.description
    torch.testing.assert_close(first.inputs.expert_log_ratios, again.inputs.expert_log_ratios)


@pytest.fixture
def grid(tmp_path: Path) -> SourceSlide:
    """A low-resolution slide of 20 x 20 spots."""
    rng = np.random.default_rng(0)
    row, col = (a.ravel() for a in np.mgrid[:20, :20])
    table = anndata.AnnData(X=rng.poisson(5 + 4 * np.sin(col / 3)[:, None] * np.ones(6)).astype(np.float32))
    table.obsm["spatial"] = np.column_stack([col, row]) * 100.0
    table.write_h5ad(tmp_path / "slide.h5ad")
    return SourceSlide(name="slide", study="s", path=tmp_path / "slide.h5ad", resolution="low", cases=1)


def test_low_resolution_slide_is_its_own_truth(
    grid: SourceSlide, settings: PseudoSlideSettings, sasa: SasaConfig
) -> None:
    (pseudo_slide,) = make_pseudo_slides(grid, settings, sasa, seed=0)
    assert pseudo_slide.layout.n_spots == 100
    assert (pseudo_slide.layout.n_pixels_per_spot == 4).all()


def test_crops_are_smaller_and_never_scored(
    grid: SourceSlide, cells: Path, settings: PseudoSlideSettings, sasa: SasaConfig
) -> None:
    high = SourceSlide(name="cells", study="a", path=cells, resolution="high", cases=1)
    with_crops = replace(settings, windows=4, missing_spots=(0.1,))
    for source in (grid, high):
        (original,) = make_pseudo_slides(source, settings, sasa, seed=0)
        same, *crops = make_pseudo_slides(source, with_crops, sasa, seed=0)
        torch.testing.assert_close(same.inputs.expert_log_ratios, original.inputs.expert_log_ratios)
        assert same.scored
        assert same.coarsened
        assert crops
        assert not any(crop.scored or crop.coarsened for crop in crops)
        assert all("crop" in crop.description for crop in crops)
        sums = [crop.layout.membership @ crop.truth.numpy() for crop in crops]
        for crop, total in zip(crops, sums, strict=True):
            nonempty = crop.layout.n_pixels_per_spot > 0
            np.testing.assert_allclose(total[nonempty], crop.inputs.counts.numpy()[nonempty], rtol=1e-5)
        if source is grid:
            assert min(crop.layout.n_spots for crop in crops) < original.layout.n_spots
