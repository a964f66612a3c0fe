from __future__ import annotations

import gzip
import os
import threading
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import spatialdata
from helpers.results import assert_same_result, with_expression
from scipy import sparse

from napari_srast.errors import InputError, OutputError
from napari_srast.io import result_writer
from napari_srast.io.result_elements import result_names
from napari_srast.io.result_reader import list_runs, read_result
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide


def test_store_contains_image_circles_and_table(make_result, tmp_path):
    result = make_result()
    path = write_result(result, tmp_path / "out.zarr")
    store = spatialdata.read_zarr(path)
    stem = f"srast_{result.run}"
    assert list(store.images) == [stem]
    assert list(store.shapes) == [f"{stem}_pixels"]
    assert list(store.tables) == [f"{stem}_table"]

    image = store.images[stem]
    assert image.dtype == np.float32
    assert image.dims == ("c", "y", "x")
    assert list(image.coords["c"].values) == list(result.genes)
    assert image.data.chunksize == (1, *result.raster.shape)
    for channel, gene in zip(image.values, result.genes, strict=True):
        np.testing.assert_array_equal(channel, result.gene_image(gene))

    pixels = store.shapes[f"{stem}_pixels"]
    np.testing.assert_allclose(np.column_stack([pixels.geometry.x, pixels.geometry.y]), result.raster.centers)
    assert (pixels["radius"] == result.raster.pixel_size / 2).all()

    table = store.tables[f"{stem}_table"]
    assert sparse.issparse(table.X)
    assert table.X.format == "csr"
    assert table.X.dtype == np.float32
    assert {"spot", "region", "instance_id", "row", "col"} <= set(table.obs)
    assert list(table.var) == ["skill", "method", "expression"]
    assert not table.var["expression"].any()
    assert not table.layers
    assert list(table.obs["spot"]) == list(result.slide.spot_ids[result.raster.parent])
    np.testing.assert_array_equal(table.obs["instance_id"], pixels.index)
    np.testing.assert_allclose(table.obsm["spatial"], result.raster.centers)
    provenance = table.uns["napari_srast"]
    assert provenance["format_version"] == 1
    assert provenance["seed"] == 7
    assert provenance["model"]["sha256"] == "0" * 64
    assert list(provenance["weights"]) == [0.5, 1]


def test_expression_is_a_layer_and_an_image_of_its_genes(make_result, tmp_path):
    result = with_expression(make_result(), [0, 2])
    stem = f"srast_{result.run}"
    store = spatialdata.read_zarr(write_result(result, tmp_path / "out.zarr"))
    assert set(store.images) == {stem, f"{stem}_expression"}
    image, table = store.images[f"{stem}_expression"], store.tables[f"{stem}_table"]
    assert list(image.coords["c"].values) == list(result.genes[[0, 2]])
    values = image.values[:, result.raster.row, result.raster.col]
    np.testing.assert_array_equal(values.T, result.expression.toarray()[:, [0, 2]])
    assert list(table.var["expression"]) == [True, False, True, False]
    assert set(table.layers) == {"expression"}
    assert table.layers["expression"].dtype == np.float32
    np.testing.assert_array_equal(table.layers["expression"].toarray(), result.expression.toarray())
    assert table.uns["napari_srast"]["expression_image"] == f"{stem}_expression"
    assert list(table.uns["napari_srast"]["expression_image_genes"]) == list(result.genes[[0, 2]])


def test_sums_over_pixels_survive_h5ad(make_result, tmp_path):
    result = make_result()
    table = anndata.read_h5ad(write_result(result, tmp_path / "out.h5ad"))
    sums = pd.DataFrame(table.X.toarray().astype(float)).groupby(table.obs["spot"].to_numpy()).sum()
    expected = result.slide.counts.toarray()
    np.testing.assert_allclose(sums.loc[result.slide.spot_ids].to_numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz"])
def test_csv_has_one_line_per_pixel(make_result, tmp_path, monkeypatch, name):
    monkeypatch.setattr(result_writer, "_CSV_ROWS", 100)
    result = make_result()
    path = write_result(result, tmp_path / name)
    opener = gzip.open if name.endswith("gz") else open
    with opener(path, "rt") as file:
        frame = pd.read_csv(file)
    assert list(frame) == ["x", "y", "spot", *result.genes]
    np.testing.assert_array_equal(frame[list(result.genes)].to_numpy(np.float32), result.counts.toarray())
    np.testing.assert_allclose(frame[["x", "y"]], result.raster.centers)
    assert list(frame["spot"]) == list(result.slide.spot_ids[result.raster.parent])


def test_csv_has_expression_after_counts(make_result, tmp_path):
    result = with_expression(make_result(), [1, 3])
    frame = pd.read_csv(write_result(result, tmp_path / "out.csv"))
    names = [f"expression:{gene}" for gene in result.genes[[1, 3]]]
    assert list(frame) == ["x", "y", "spot", *result.genes, *names]
    np.testing.assert_array_equal(frame[names].to_numpy(np.float32), result.expression.toarray()[:, [1, 3]])


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad", "out.csv"])
def test_existing_output_is_refused_and_kept(make_result, tmp_path, name):
    (tmp_path / name).write_text("existing")
    with pytest.raises(OutputError, match="exists already"):
        write_result(make_result(), tmp_path / name)
    assert (tmp_path / name).read_text() == "existing"
    assert os.listdir(tmp_path) == [name]


def test_output_inside_the_slide_is_refused(make_result, written_slide):
    for name in ("out.zarr", "tables/out.h5ad"):
        path = Path(written_slide.source.path) / name
        with pytest.raises(OutputError, match="is inside the input"):
            write_result(make_result(written_slide), path)
        assert not path.exists()


def test_unknown_suffix_and_missing_folder_are_refused(make_result, tmp_path):
    with pytest.raises(OutputError, match="known ending"):
        write_result(make_result(), tmp_path / "out.xlsx")
    with pytest.raises(OutputError, match="does not exist"):
        write_result(make_result(), tmp_path / "nowhere" / "out.zarr")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["out.zarr", "out.csv"])
def test_disk_full_leaves_nothing(make_result, tmp_path, monkeypatch, name):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spatialdata.SpatialData, "_write_element", full)
    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_result(make_result(), tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_into_slide_keeps_existing_elements(make_result, written_slide, tmp_path):
    path = tmp_path / "slide.zarr"
    first, second = make_result(written_slide, run="one"), make_result(written_slide, run="two")
    write_result(first, path, into_slide=True)
    write_result(second, path, into_slide=True, include_image=False)
    store = spatialdata.read_zarr(path)
    assert set(store.images) == {"srast_one"}
    assert set(store.shapes) == {"spots", "srast_one_pixels", "srast_two_pixels"}
    assert set(list_runs(path)) == {"one", "two"}
    assert_same_result(read_result(path, run="two"), second)
    with pytest.raises(InputError, match="several results"):
        read_result(path)
    with pytest.raises(InputError, match="no run 'three'"):
        read_result(path, run="three")
    with pytest.raises(OutputError, match="already holds"):
        write_result(first, path, into_slide=True)
    again = read_slide(path)  # results are not read as spots, tables or histology
    assert again.source == written_slide.source
    np.testing.assert_array_equal(again.counts.toarray(), written_slide.counts.toarray())


def test_into_slide_requires_a_store(make_result, tmp_path):
    with pytest.raises(OutputError, match="not a SpatialData store"):
        write_result(make_result(), tmp_path, into_slide=True)


def test_equal_results_have_equal_bytes_of_counts(make_result, tmp_path):
    for name in ("a.zarr", "b.zarr"):
        write_result(make_result(), tmp_path / name)
    table = result_names(make_result()).table
    files = [
        {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
        for root in (tmp_path / n / "tables" / table / "X" for n in ("a.zarr", "b.zarr"))
    ]
    assert files[0] == files[1]
    assert files[0]


def test_stopped_writing_waits_for_other_threads(make_result, make_slide, tmp_path: Path) -> None:
    """The first gene stops the writing while other threads still write, which must end before the clean-up."""
    result = make_result(make_slide(12, 12, n_genes=12))
    lock, second = threading.Lock(), threading.Event()

    def on_progress(done: float) -> None:
        if lock.acquire(blocking=False):
            second.wait(5)  # until another thread writes
            raise KeyboardInterrupt
        second.set()
        time.sleep(0.5)  # so that it writes after the first one was stopped

    with pytest.raises(KeyboardInterrupt):
        write_result(result, tmp_path / "out.zarr", on_progress=on_progress)
    time.sleep(1)
    assert list(tmp_path.iterdir()) == []
