from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import cKDTree

from napari_srast.core.slide import Slide
from napari_srast.gui.state import spatial_structure as module
from napari_srast.gui.state.spatial_structure import interest_order, spatial_structure

pytestmark = pytest.mark.gui


def test_spatial_structure_equals_morans_i(make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(lattice="hex", rows=9, cols=9)
    structure = spatial_structure(slide)
    neighbors = cKDTree(slide.centers).query(slide.centers, k=7)[1][:, 1:]
    dense = slide.counts.toarray().astype(float)
    z = np.log1p(1e4 * dense / dense.sum(axis=1, keepdims=True))
    z -= z.mean(axis=0)
    with np.errstate(invalid="ignore"):
        expected = (z * z[neighbors].mean(axis=1)).sum(axis=0) / (z**2).sum(axis=0)
    finite = np.isfinite(expected)
    np.testing.assert_allclose(structure[finite], expected[finite], atol=0.02)  # ties among the neighbors at the rim
    assert np.isnan(structure[2])  # zero everywhere
    assert structure[0] > structure[4]  # a slope is smoother than a wave


def test_sample_of_a_large_slide_gives_about_the_same(
    make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = make_slide(60, 60, n_genes=5)
    rare = slide.counts.toarray()
    rare[:, 3] = 0
    rare[:40, 3] = 1  # side by side, in fewer than twenty spots of the sample
    slide = make_slide(60, 60, counts=rare)
    whole = spatial_structure(slide)
    monkeypatch.setattr(module, "_MAX_ENTRIES", 3000)
    monkeypatch.setattr(module, "_MIN_SAMPLED", 900)
    sampled = spatial_structure(slide)
    np.testing.assert_array_equal(sampled, spatial_structure(slide))
    np.testing.assert_allclose(sampled[[0, 1, 4]], whole[[0, 1, 4]], atol=0.05)
    assert not np.array_equal(sampled[0], whole[0])
    assert np.isfinite(whole[3])
    assert np.isnan(sampled[3])


def test_spots_in_one_place_are_not_their_own_neighbors(make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(6, 6)
    centers = slide.centers.copy()
    centers[:12] = centers[0]
    assert np.isfinite(spatial_structure(dataclasses.replace(slide, centers=centers))[0])


def test_structured_genes_are_listed_first_and_housekeeping_genes_last() -> None:
    genes = ["MT-CO1", "Rps3", "ERBB2", "RPE", "KRT19"]
    structure = np.array([0.9, 0.8, 0.1, np.nan, 0.5])
    assert [genes[i] for i in interest_order(genes, structure)] == ["KRT19", "ERBB2", "RPE", "MT-CO1", "Rps3"]
    assert interest_order(genes, None).tolist() == [0, 1, 2, 3, 4]
