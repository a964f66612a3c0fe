from __future__ import annotations

import dataclasses
import os
import shutil

import anndata
import helpers.results
import numpy as np
import pandas as pd
import pytest
import spatialdata

from napari_srast.errors import InputError, OutputError
from napari_srast.io import pixel_classes
from napari_srast.io.atomic import write_lock
from napari_srast.io.pixel_classes import add_pixel_classes, read_pixel_classes
from napari_srast.io.result_reader import read_result
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import write_store


@pytest.fixture(scope="module")
def written(make_result, make_slide, make_store, tmp_path_factory):
    """A result of a slide on disk, and its store, which tests copy."""
    folder = tmp_path_factory.mktemp("written")
    write_store(make_store(make_slide(5, 6, n_genes=4)), folder / "slide.zarr")
    result = make_result(read_slide(folder / "slide.zarr"), run="r")
    return result, write_result(result, folder / "fine.zarr")


@pytest.fixture
def stored(written, tmp_path):
    """A result, its store, and classes of its pixels."""
    result, original = written
    path = tmp_path / "fine.zarr"
    shutil.copytree(original, path)
    classes = pd.Categorical.from_codes(np.arange(result.n_pixels) % 3, ["1", "2", "3"])
    return result, path, classes


def content(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_classes_reopen_as_a_column_and_as_labels(stored):
    result, path, classes = stored
    add_pixel_classes(result, path, "domains", classes, {"resolution": 0.5, "genes": ["A", "B"]})
    store = spatialdata.read_zarr(path)
    table = store.tables["srast_r_table"]
    assert list(table.obs["domains"].cat.categories) == ["1", "2", "3"]
    np.testing.assert_array_equal(table.obs["domains"].cat.codes, classes.codes)
    assert table.uns["domains"]["resolution"] == 0.5
    labels = store.labels["srast_r_domains"].to_numpy()
    np.testing.assert_array_equal(labels[result.raster.row, result.raster.col], classes.codes + 1)
    assert (labels > 0).sum() == result.n_pixels
    transformation = spatialdata.transformations.get_transformation
    both = [transformation(store.labels[name], get_all=True) for name in ("srast_r_labels", "srast_r_domains")]
    assert both[0] == both[1]


def test_result_and_table_open_as_before(stored):
    result, path, classes = stored
    add_pixel_classes(result, path, "domains", classes, {})
    assert (read_result(path).counts != result.counts).nnz == 0
    direct = anndata.read_zarr(path / "tables" / "srast_r_table")
    np.testing.assert_array_equal(direct.obs["domains"].cat.codes, classes.codes)


def test_two_sets_of_classes_fit_in_one_store(stored):
    _, path, classes = stored
    for name in ("coarse", "fine"):
        add_pixel_classes(read_result(path), path, name, classes, {})
    table = spatialdata.read_zarr(path).tables["srast_r_table"]
    assert {"coarse", "fine"} <= set(table.obs)


@pytest.mark.parametrize("failing", ["_write_column", "_list_nodes", "_write_labels", "merge_locked"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failure_at_any_step_restores_every_byte(stored, monkeypatch, failing, after):
    result, path, classes = stored
    before, original = content(path), getattr(pixel_classes, failing)

    def fail(*arguments):
        if after and failing != "merge_locked":
            original(*arguments)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pixel_classes, failing, fail)
    with pytest.raises(OutputError, match="No space left"):
        add_pixel_classes(result, path, "domains", classes, {})
    assert content(path) == before
    assert os.listdir(path.parent).count("fine.zarr") == 1
    assert not [name for name in os.listdir(path.parent) if name.endswith((".merging", ".partial"))]


def test_no_other_writer_comes_between_the_column_and_the_labels(stored, monkeypatch):
    result, path, classes = stored
    original, refused = pixel_classes._write_labels, []

    def write(*arguments):
        try:
            with write_lock(path):
                pass
        except OutputError:
            refused.append(True)
        original(*arguments)

    monkeypatch.setattr(pixel_classes, "_write_labels", write)
    add_pixel_classes(result, path, "domains", classes, {})
    assert refused


@pytest.mark.parametrize(
    ("name", "message"),
    [("domains", "already holds 'domains'"), ("spot", "already holds 'spot'"), ("a/b", "is not a name")],
)
def test_taken_and_invalid_names_are_refused(stored, name, message):
    result, path, classes = stored
    add_pixel_classes(result, path, "domains", classes, {})
    before = content(path)
    with pytest.raises(OutputError, match=message):
        add_pixel_classes(result, path, name, classes, {})
    assert content(path) == before


def test_other_results_are_refused(stored, make_result, tmp_path):
    result, path, classes = stored
    with pytest.raises(InputError, match="holds no run 'other'"):
        add_pixel_classes(make_result(run="other"), path, "domains", classes, {})
    finer = dataclasses.replace(helpers.results.make_result(result.slide), run="r")
    with pytest.raises(InputError, match="has other pixels"):
        add_pixel_classes(finer, path, "domains", pd.Categorical(["1"] * finer.n_pixels), {})
    with pytest.raises(InputError, match="cannot store labels"):
        add_pixel_classes(result, tmp_path / "fine.h5ad", "domains", classes, {})


def damage(path, name):
    """Overwrite the codes of a column."""
    for file in (path / "tables" / "srast_r_table" / "obs" / name / "codes").rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            file.write_bytes(b"damaged")


def test_classes_are_read_as_they_were_added_in_their_order(stored):
    result, path, classes = stored
    assert read_pixel_classes(path, "r") == {}
    for name in ("zones", "areas"):
        add_pixel_classes(result, path, name, classes.rename_categories({"1": name}), {"kind": name, "genes": ["A"]})
    found = read_pixel_classes(path, "r")
    assert list(found) == ["zones", "areas"]
    for name, one in found.items():
        np.testing.assert_array_equal(one.labels.codes, classes.codes)
        assert list(one.labels.categories) == [name, "2", "3"]
        assert one.settings["kind"] == name
        assert list(one.settings["genes"]) == ["A"]
    assert read_pixel_classes(path, "other") == {}
    with pytest.raises(InputError, match="check the path"):
        read_pixel_classes(path / "missing", "r")


def test_damaged_classes_are_named_and_left_out_on_request(stored):
    result, path, classes = stored
    for name in ("good", "bad"):
        add_pixel_classes(result, path, name, classes, {"kind": name})
    damage(path, "bad")
    with pytest.raises(InputError, match=r"'bad' of run 'r' .* is damaged .* restore the store from a copy"):
        read_pixel_classes(path, "r")
    damages = []
    assert list(read_pixel_classes(path, "r", on_damage=damages.append)) == ["good"]
    assert len(damages) == 1
