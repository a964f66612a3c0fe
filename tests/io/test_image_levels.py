from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import spatialdata
from helpers.results import assert_same_result
from spatialdata.transformations import get_transformation

from napari_srast import api
from napari_srast.errors import Cancelled
from napari_srast.io import image_levels
from napari_srast.io.image_levels import coarser_images, coarser_labels
from napari_srast.io.result_elements import result_names
from napari_srast.io.result_reader import read_result
from napari_srast.io.result_writer import write_result
from napari_srast.io.transforms import element_matrices


@pytest.fixture(autouse=True)
def _small_images_have_levels(monkeypatch):
    monkeypatch.setattr(image_levels, "MAX_FLAT_SIDE", 12)
    monkeypatch.setattr(image_levels, "_MIN_LEVEL_SIDE", 4)


def test_levels_are_means_and_conserve_totals():
    values = np.random.default_rng(0).poisson(3, (2, 13, 10)).astype(np.float32)
    levels = [np.asarray(level) for level in coarser_images(da.from_array(values, chunks=(1, 13, 10)))]
    assert [level.shape for level in levels] == [(2, 7, 5), (2, 4, 3)]
    assert all(level.dtype == np.float32 for level in levels)
    np.testing.assert_allclose(levels[0][:, 0, 0], values[:, :2, :2].mean(axis=(1, 2)))
    np.testing.assert_allclose([level.sum() * 4 ** (i + 1) for i, level in enumerate(levels)], values.sum(), rtol=1e-5)
    labels = np.arange(130).reshape(13, 10)
    assert [level.shape for level in coarser_labels(labels)] == [(7, 5), (4, 3)]
    assert set(coarser_labels(labels)[1].ravel()) <= set(labels[::4, ::4].ravel())


def test_small_images_have_no_levels():
    assert coarser_images(da.zeros((1, 12, 12), chunks=(1, 12, 12))) == []
    assert coarser_labels(np.zeros((12, 12), dtype=int)) == []


def test_large_result_is_written_with_levels_and_read_unchanged(make_result, make_slide, awkward_transforms, tmp_path):
    result = make_result(make_slide(7, 8, n_genes=3, transforms=awkward_transforms))
    names = result_names(result)
    path = write_result(result, tmp_path / "fine.zarr")
    store = spatialdata.read_zarr(path)
    for element in (store.images[names.image], store.labels[names.labels]):
        assert [level["image"].shape[-2:] for level in element.values()] == [(21, 24), (11, 12), (6, 6), (3, 3)]
        for level in element.values():
            extent = np.array([*level["image"].shape[:-3:-1], 1.0])
            for system, matrix in element_matrices(level["image"], "level").items():
                corner = awkward_transforms[system] @ result.raster.affine @ [24, 21, 1]
                np.testing.assert_allclose(matrix @ extent, corner)
        assert set(get_transformation(element, get_all=True)) == set(awkward_transforms)
    full = np.asarray(store.images[names.image]["scale0"]["image"])
    np.testing.assert_array_equal(full[0], np.nan_to_num(result.gene_image(str(result.genes[0]))))
    assert_same_result(read_result(path), result)


def test_result_that_is_written_while_it_is_computed_has_the_same_levels(make_slide, tmp_path):
    slide = make_slide(7, 8, n_genes=3)
    options = {"method": "uniform", "factor": 2.0, "seed": 0, "name": "run"}
    write_result(api.upsample(slide, **options), tmp_path / "after.zarr")
    api.upsample_to_store(slide, tmp_path / "during.zarr", **options)
    after, during = (
        spatialdata.read_zarr(tmp_path / name).images["srast_run"] for name in ("after.zarr", "during.zarr")
    )
    for one, other in zip(after.values(), during.values(), strict=True):
        np.testing.assert_array_equal(np.asarray(one["image"]), np.asarray(other["image"]))


def test_result_with_levels_is_added_to_its_slide_and_stopped_writing_leaves_nothing(
    make_result, written_slide, tmp_path
):
    result = make_result(written_slide)
    path = written_slide.source.path
    write_result(result, path, into_slide=True)
    assert "scale1" in spatialdata.read_zarr(path).images[result_names(result).image]

    reports = []

    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Cancelled):
        write_result(result, tmp_path / "stopped.zarr", progress=reports.append, should_stop=lambda: len(reports) > 1)
    assert sorted(tmp_path.rglob("*")) == before
