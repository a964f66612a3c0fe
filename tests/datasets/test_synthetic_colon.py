from __future__ import annotations

import functools
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from napari_srast.api import upsample
from napari_srast.datasets import synthetic_colon as module
from napari_srast.datasets.synthetic_colon import synthetic_colon, synthetic_colon_path, synthetic_colon_truth
from napari_srast.geometry.binning import bin_points
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.simulation.colon.layout import CELL_TYPES, SIZE_UM


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return a separate cache folder that contains the slide."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platformdirs.user_cache_path", lambda *_args, **_kwargs: folder)
        patch.setattr(module, "_generate", functools.cache(module._generate))  # generate the slide only once
        synthetic_colon_path()
        yield folder


def test_slide_resembles_visium_and_is_marked_synthetic(cache):
    slide = synthetic_colon()
    assert slide.source.synthetic
    assert "SYNTHETIC" in slide.notices[0]
    assert "synthetic" in slide.image.name
    lattice = detect_lattice(slide.centers)
    assert (lattice.kind, round(lattice.pitch, 6)) == ("hex", 100)
    assert slide.spot_diameter == 55
    assert slide.unit == "um"
    assert 600 <= slide.n_spots <= 900
    assert slide.n_genes == 200
    totals = np.asarray(slide.counts.sum(axis=1)).ravel()
    assert 1000 <= np.median(totals) <= 5000
    per_gene = slide.counts.toarray()
    spread = per_gene.var(axis=0) / per_gene.mean(axis=0)
    assert np.median(spread) > 1.5  # overdispersed


def test_truth_sums_to_the_slide(cache):
    slide, truth = synthetic_colon(), synthetic_colon_truth()
    assert list(truth.var_names) == list(slide.genes)
    assert truth.n_obs > 5000
    assert set(truth.obs["cell_type"]) == set(CELL_TYPES)
    counted = (truth.obs["spot"] != "").to_numpy()
    sums = pd.DataFrame(truth.X[counted].toarray()).groupby(truth.obs["spot"].astype(str)[counted].to_numpy()).sum()
    np.testing.assert_array_equal(sums.loc[slide.spot_ids].to_numpy(), slide.counts.toarray())


def test_spots_count_the_cells_in_their_discs(cache):
    slide, truth = synthetic_colon(), synthetic_colon_truth()
    distance, nearest = cKDTree(slide.centers).query(truth.obsm["spatial"])
    in_disc = distance <= slide.spot_diameter / 2
    spots = truth.obs["spot"].astype(str).to_numpy()
    np.testing.assert_array_equal(spots, np.where(in_disc, slide.spot_ids[nearest], ""))
    assert truth.X[spots == ""].sum() > 2 * slide.counts.sum()  # most of the tissue is between the discs


@pytest.mark.parametrize(("footprint", "measured"), [("cell", False), ("spot", True)])
def test_truth_of_pixels_follows_the_footprint(cache, footprint, measured):
    """Pixels of whole cells have the cells of the gaps too; pixels of discs have nearly the counts of the spots."""
    slide, truth = synthetic_colon(), synthetic_colon_truth()
    result = upsample(slide, genes=["COL1A1", "MUC2"], method="uniform", factor=8, footprint=footprint)
    pixels = bin_points(result.raster, truth.obsm["spatial"], truth[:, list(result.genes)].X)
    ratio = pixels.sum() / result.counts.sum()
    assert 0.95 < ratio < 1.05 if measured else 3 < ratio < 4


def test_markers_are_specific_and_vary_within_types(cache):
    truth = synthetic_colon_truth()
    kind = truth.obs["cell_type"].astype(str).to_numpy()
    for gene, cell_type in (("MUC2", "goblet"), ("MS4A1", "b_cell"), ("DES", "smooth_muscle"), ("VWF", "endothelial")):
        values = truth[:, gene].X.toarray()[:, 0]
        assert values[kind == cell_type].mean() > 10 * values[kind != cell_type].mean(), gene
    crypt = truth[kind == "crypt_cell"]
    stem, depth = crypt[:, "LGR5"].X.toarray()[:, 0], crypt.obsm["spatial"][:, 1]
    assert stem[depth > 950].mean() > 5 * stem[depth < 650].mean()


def test_histology_shows_the_cells(cache):
    slide, truth = synthetic_colon(), synthetic_colon_truth()
    image = slide.image.levels[0].compute()
    assert image.dtype == np.uint8
    assert image.shape[0] == 3
    assert 1500 <= image.shape[2] <= 2500
    assert len(slide.image.levels) > 1
    scale = slide.image.to_intrinsic[0][0, 0]
    assert image.shape[2] * scale == pytest.approx(SIZE_UM[0], rel=0.01)
    cols, rows = (truth.obsm["spatial"] / scale).astype(int).T
    at_nuclei = image[0, rows, cols].mean()
    next_to_nuclei = image[0, rows, np.minimum(cols + 8, image.shape[2] - 1)].mean()
    assert at_nuclei < next_to_nuclei - 30  # hematoxylin absorbs red
    assert image[:, :40, :40].min() > 200  # empty glass


def test_slide_is_written_once_and_again_if_damaged(cache, monkeypatch):
    path = synthetic_colon_path()
    seeds = []
    original = module._generate

    def record_seed(seed):
        seeds.append(seed)
        return original(seed)

    monkeypatch.setattr(module, "_generate", record_seed)
    assert synthetic_colon_path() == path
    assert seeds == []
    shutil.rmtree(path / "tables")
    assert synthetic_colon().n_genes == 200
    assert seeds == [0]
    assert [p.name for p in cache.iterdir()] == [path.parent.name]


@pytest.mark.slow
def test_equal_seeds_give_equal_slides(cache):
    again = module._generate.__wrapped__(0)[0]
    slide = synthetic_colon()
    assert (again.tables["table"].X != slide.counts).nnz == 0
    pixels = again.images[module.IMAGE]["scale0"]["image"].values
    np.testing.assert_array_equal(pixels, slide.image.levels[0].compute())
