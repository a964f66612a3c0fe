from __future__ import annotations

import dataclasses
import gzip
import os
import shutil
import threading
import time
from pathlib import Path

import anndata
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import spatialdata
from helpers.results import assert_same_result, with_expression
from scipy import sparse

from napari_srast.core.progress import Progress
from napari_srast.errors import Cancelled, InputError, OutputError, SettingsError
from napari_srast.io import result_writer
from napari_srast.io.element_selection import RESULT_KEY
from napari_srast.io.result_elements import result_names
from napari_srast.io.result_reader import list_runs, read_result
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide


@pytest.mark.contract(
    section="Other programs",
    case="a saved result",
    response="its image and labels are 0 outside, its table annotates circles or labels, and names are unique",
)
def test_store_contains_image_circles_and_table(make_result, tmp_path):
    result = make_result()
    path = write_result(result, tmp_path / "out.zarr")
    store = spatialdata.read_zarr(path)
    stem = f"srast_{result.run}"
    assert list(store.images) == [stem]
    assert list(store.labels) == [f"{stem}_labels"]
    assert list(store.shapes) == [f"{stem}_pixels"]
    assert list(store.tables) == [f"{stem}_table"]

    image = store.images[stem]
    assert image.dtype == np.float32
    assert image.dims == ("c", "y", "x")
    assert list(image.coords["c"].values) == list(result.genes)
    assert image.data.chunksize == (1, *result.raster.shape)
    for channel, gene in zip(image.values, result.genes, strict=True):
        np.testing.assert_array_equal(channel, np.nan_to_num(result.gene_image(gene)))
    labels = store.labels[f"{stem}_labels"]
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels.values > 0, np.isfinite(result.gene_image(str(result.genes[0]))))

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
    assert not set(table.layers) - {None}
    assert list(table.obs["spot"]) == list(result.slide.spot_ids[result.raster.parent])
    np.testing.assert_array_equal(table.obs["instance_id"], pixels.index)
    np.testing.assert_array_equal(table.obs["instance_id"], labels.values[table.obs["row"], table.obs["col"]])
    assert list(table.obs_names[:2]) == [f"{result.run}_1", f"{result.run}_2"]
    np.testing.assert_allclose(table.obsm["spatial"], result.raster.centers)
    provenance = table.uns["napari_srast"]
    assert provenance["format_version"] == 2
    assert provenance["pixel_size"] == result.raster.pixel_size
    assert provenance["labels"] == f"{stem}_labels"
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
    assert set(table.layers) - {None} == {"expression"}  # AnnData 0.13 lists X as None
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


def test_result_whose_name_is_damaged_is_listed_and_refused_in_one_sentence(make_result, tmp_path):
    path = tmp_path / "result.zarr"
    write_result(make_result(run="one"), path)
    (name,) = (path / "tables").glob(f"*/uns/{RESULT_KEY}/run")
    for file in name.rglob("c*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    assert list_runs(path) == {"one": "srast_one_table"}
    with pytest.raises(InputError, match=r"damaged|cannot be read"):
        read_result(path)
    for file in [file for file in name.rglob("c*") if file.is_file()]:
        file.unlink()  # Zarr reads what is missing as an empty text
    assert list_runs(path) == {"one": "srast_one_table"}


def test_into_slide_keeps_existing_elements(make_result, written_slide, tmp_path):
    path = tmp_path / "slide.zarr"
    first, second = make_result(written_slide, run="one"), make_result(written_slide, run="two")
    write_result(first, path, into_slide=True)
    write_result(second, path, into_slide=True, include_image=False)
    store = spatialdata.read_zarr(path)
    assert set(store.images) == {"srast_one"}
    assert set(store.labels) == {"srast_one_labels", "srast_two_labels"}
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


@pytest.mark.contract(
    section="Other programs",
    case="a saved result",
    response="its image and labels are 0 outside, its table annotates circles or labels, and names are unique",
)
def test_table_can_annotate_the_labels_instead_of_the_circles(make_result, tmp_path):
    """The lines are those of docs/result.md; plotting libraries take the rows of a table that name the element."""
    result = make_result()
    store = spatialdata.read_zarr(write_result(result, tmp_path / "out.zarr"))
    names = result_names(result)
    store.tables[names.table].obs["region"] = names.labels
    store.set_table_annotates_spatialelement(names.table, region=names.labels)
    _, table = spatialdata.join_spatialelement_table(
        sdata=store, spatial_element_names=names.labels, table_name=names.table, how="left"
    )
    np.testing.assert_array_equal(table.X.toarray(), result.counts.toarray())


@pytest.fixture
def slide_with_image(make_slide, make_store, tmp_path):
    """Write a slide with an image of two levels, gene ids and columns of the spots; read it."""
    from spatialdata.models import Image2DModel

    from napari_srast.io.transforms import to_affines

    slide = make_slide(5, 6, n_genes=4)
    store = make_store(slide)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 96), dtype=np.uint8)
    to_spots = np.array([[7.0, 0.5, -40], [0.25, 8, -30], [0, 0, 1]])
    store.images["he"] = Image2DModel.parse(
        pixels, c_coords=["r", "g", "b"], scale_factors=[2], transformations=to_affines({"global": to_spots})
    )
    (table,) = store.tables.values()
    table.obs["cluster"] = np.resize(["a", "b", "c"], table.n_obs)
    table.obs["row"] = np.arange(table.n_obs)
    store.write(tmp_path / "slide.zarr")
    return read_slide(tmp_path / "slide.zarr")


def test_histology_travels_with_the_result(make_result, slide_with_image, tmp_path):
    image = slide_with_image.image
    levels = [np.asarray(level) for level in image.levels]
    result = make_result(slide_with_image)
    path = write_result(result, tmp_path / "out.zarr")
    without = write_result(result, tmp_path / "without.zarr", include_histology=False)
    write_result(result, tmp_path / "slide.zarr", into_slide=True)
    assert set(spatialdata.read_zarr(tmp_path / "slide.zarr").images) == {"he", f"srast_{result.run}"}
    shutil.rmtree(tmp_path / "slide.zarr")
    copied = read_result(path).slide.image
    assert copied.channels == image.channels == ("r", "g", "b")
    assert len(levels) == 2
    for one, values in zip(copied.levels, levels, strict=True):
        np.testing.assert_array_equal(np.asarray(one), values)
    for one, matrix in zip(copied.to_intrinsic, image.to_intrinsic, strict=True):
        np.testing.assert_allclose(one, matrix)
    assert read_result(without).slide.image is None


def test_stopping_during_the_copy_of_the_histology_leaves_nothing(make_result, slide_with_image, tmp_path):
    before = set(os.listdir(tmp_path))
    reading = threading.Event()

    class Levels(np.ndarray):
        def __getitem__(self, item):
            reading.set()
            return np.asarray(super().__getitem__(item))

    level = np.zeros((3, 1500, 1500), dtype=np.uint8).view(Levels)
    lazy = da.from_array(level, chunks=(3, 500, 500), asarray=False)
    image = dataclasses.replace(slide_with_image.image, levels=(lazy,), to_intrinsic=(np.eye(3),))
    result = make_result(dataclasses.replace(slide_with_image, image=image))

    def stop(_step):
        if reading.is_set():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_result(result, tmp_path / "out.zarr", include_image=False, progress=stop)
    assert reading.is_set()
    assert set(os.listdir(tmp_path)) == before


@pytest.mark.contract(
    section="Other programs",
    case="columns of the spots, asked for",
    response="kept for the pixels",
)
@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
def test_pixels_keep_columns_of_their_spots(make_result, slide_with_image, tmp_path, name):
    result = make_result(slide_with_image)
    path = write_result(result, tmp_path / name, keep_obs=["cluster", "row"])
    folder = path / "tables" / result_names(result).table
    table = anndata.read_zarr(folder) if name.endswith("zarr") else anndata.read_h5ad(path)
    assert list(table.obs["cluster"]) == list(np.array(["a", "b", "c"])[result.raster.parent % 3])
    np.testing.assert_array_equal(table.obs["spot_row"], result.raster.parent)  # row is that of the pixel
    np.testing.assert_array_equal(table.obs["row"], result.raster.row)
    assert_same_result(read_result(path), result)


def test_all_columns_of_spots_are_kept_without_their_links(make_result, slide_with_image, tmp_path):
    path = write_result(make_result(slide_with_image), tmp_path / "out.h5ad", keep_obs="all")
    assert {"cluster", "spot_row"} <= set(anndata.read_h5ad(path).obs)
    assert not {"spot_region", "spot_instance_id"} & set(anndata.read_h5ad(path).obs)


def test_missing_columns_of_spots_are_refused(make_result, make_slide, slide_with_image, tmp_path):
    with pytest.raises(InputError, match="no column 'absent' to keep; it has: cluster, row"):
        write_result(make_result(slide_with_image), tmp_path / "out.h5ad", keep_obs=["absent"])
    with pytest.raises(SettingsError, match="not read from a store"):
        write_result(make_result(), tmp_path / "out.h5ad", keep_obs="all")


def test_gene_ids_are_kept(make_result, make_slide, tmp_path):
    ids = np.array([f"ENSG{i}" for i in range(4)], dtype=object)
    slide = dataclasses.replace(make_slide(5, 6, n_genes=4), gene_ids=ids)
    path = write_result(make_result(slide), tmp_path / "out.h5ad")
    assert list(anndata.read_h5ad(path).var["gene_ids"]) == list(ids)
    assert list(read_result(path).slide.gene_ids) == list(ids)


def test_scanpy_plots_a_result(make_result, tmp_path):
    """The lines are those of docs/result.md."""
    scanpy = pytest.importorskip("scanpy", reason="scanpy is not installed")
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    pyplot.switch_backend("agg")
    result = make_result()
    table = anndata.read_h5ad(write_result(result, tmp_path / "out.h5ad"))
    gene, side = str(result.genes[0]), table.uns["napari_srast"]["pixel_size"]
    axes = scanpy.pl.embedding(table, basis="spatial", color=gene, show=False)
    (points,) = [one for one in axes.collections if len(one.get_offsets()) == result.n_pixels]
    assert side == result.raster.pixel_size
    np.testing.assert_allclose(np.sort(points.get_offsets()[:, 0]), np.sort(result.raster.centers[:, 0]))
    pyplot.close("all")


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

    def progress(step: Progress) -> None:
        if lock.acquire(blocking=False):
            second.wait(5)  # until another thread writes
            raise KeyboardInterrupt
        second.set()
        time.sleep(0.5)  # so that it writes after the first one was stopped

    with pytest.raises(KeyboardInterrupt):
        write_result(result, tmp_path / "out.zarr", progress=progress)
    time.sleep(1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad", "out.csv"])
def test_every_format_asks_for_cancellation(make_result, tmp_path: Path, name: str) -> None:
    with pytest.raises(Cancelled):
        write_result(make_result(), tmp_path / name, should_stop=lambda: True)
    assert list(tmp_path.iterdir()) == []
