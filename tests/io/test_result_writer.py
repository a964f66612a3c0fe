from __future__ import annotations

import dataclasses
import gzip
import os
import shutil
import threading
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import spatialdata
from scipy import ndimage, sparse
from spatialdata.transformations import get_transformation

from napari_srast.core.mass_balance import max_relative_mass_error
from napari_srast.core.region import Region
from napari_srast.errors import InputError, OutputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.io import result_elements, result_writer
from napari_srast.io.result_elements import image_genes, result_names, to_anndata, to_spatialdata
from napari_srast.io.result_reader import list_runs, read_result
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.transforms import to_matrix


def assert_same_result(got, expected):
    """Check that two results have equal counts, pixels, settings and names."""
    np.testing.assert_array_equal(got.counts.toarray(), expected.counts.toarray())
    assert got.counts.dtype == np.float32
    np.testing.assert_array_equal(got.genes, expected.genes)
    np.testing.assert_array_equal(got.skill, expected.skill)
    np.testing.assert_array_equal(got.method, expected.method)
    for field in ("row", "col", "parent", "affine", "shape", "pixel_size", "footprint"):
        np.testing.assert_array_equal(getattr(got.raster, field), getattr(expected.raster, field))
    assert got.raster.lattice == expected.raster.lattice
    assert got.settings == expected.settings
    assert got.run == expected.run


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
    assert list(table.var) == ["skill", "method"]
    assert list(table.obs["spot"]) == list(result.slide.spot_ids[result.raster.parent])
    np.testing.assert_array_equal(table.obs["instance_id"], pixels.index)
    np.testing.assert_allclose(table.obsm["spatial"], result.raster.centers)
    provenance = table.uns["napari_srast"]
    assert provenance["format_version"] == 1
    assert provenance["seed"] == 7
    assert provenance["model"]["sha256"] == "0" * 64
    assert list(provenance["weights"]) == [0.5, 1]


def test_sums_over_pixels_survive_h5ad(make_result, tmp_path):
    result = make_result()
    table = anndata.read_h5ad(write_result(result, tmp_path / "out.h5ad"))
    sums = pd.DataFrame(table.X.toarray().astype(float)).groupby(table.obs["spot"].to_numpy()).sum()
    expected = result.slide.counts.toarray()
    np.testing.assert_allclose(sums.loc[result.slide.spot_ids].to_numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
def test_written_result_is_read_unchanged(make_result, written_slide, tmp_path, name):
    region = Region.from_polygons([np.array([[-60, -60], [260, -60], [260, 260], [-60, 260]])])
    result = make_result(written_slide, region=region)
    result = dataclasses.replace(result, std=result.counts * 0.5)
    got = read_result(write_result(result, tmp_path / name))
    assert_same_result(got, result)
    np.testing.assert_array_equal(got.std.toarray(), result.std.toarray())
    assert got.region.geometry.equals(region.geometry)
    assert got.slide.n_spots == written_slide.n_spots
    assert got.provenance["seconds"]["total"] == 1.5


def test_result_of_a_deleted_slide_is_read(make_result, written_slide, tmp_path):
    result = make_result(written_slide)
    path = write_result(result, tmp_path / "out.zarr")
    shutil.rmtree(tmp_path / "slide.zarr")
    got = read_result(path)
    assert_same_result(got, result)
    np.testing.assert_allclose(got.slide.counts.toarray(), written_slide.counts.toarray())
    np.testing.assert_array_equal(got.slide.centers, written_slide.centers)
    assert "rebuilt" in got.slide.notices[0]


def test_slide_with_other_coordinates_is_not_used(make_result, make_slide, make_store, written_slide, tmp_path):
    result = make_result(written_slide)
    path = write_result(result, tmp_path / "out.zarr")
    shutil.rmtree(tmp_path / "slide.zarr")
    make_store(make_slide(5, 6, n_genes=4, pitch=50)).write(tmp_path / "slide.zarr")
    assert read_result(path).slide.source.path == result.slide.source.path
    assert "rebuilt" in read_result(path).slide.notices[0]


@pytest.mark.parametrize("change", ["counts", "genes"])
def test_slide_with_other_counts_or_genes_is_not_used(
    make_result, make_slide, make_store, written_slide, tmp_path, change
):
    result = make_result(written_slide)
    path = write_result(result, tmp_path / "out.zarr")
    shutil.rmtree(tmp_path / "slide.zarr")
    slide = make_slide(5, 6, n_genes=4)
    if change == "counts":
        slide = dataclasses.replace(slide, counts=7 * slide.counts)
    else:
        slide = dataclasses.replace(slide, genes=np.array(["A", "B", "C", "D"], dtype=object))
    make_store(slide).write(tmp_path / "slide.zarr")
    got = read_result(path)
    assert "other counts" in got.slide.notices[0]
    assert max_relative_mass_error(got) < 1e-6
    np.testing.assert_array_equal(got.slide.genes, result.genes)


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


@pytest.mark.parametrize("lattice", ["square", "hex"])
def test_pattern_keeps_its_coordinates_in_every_system(make_slide, make_result, awkward_transforms, tmp_path, lattice):
    slide = make_slide(9, 9, n_genes=2, lattice=lattice, transforms=awkward_transforms, depth=100)
    result = make_result(slide)
    # A blob between pixel centers, far from any symmetry of the slide.
    point = slide.centers[30] + [23.4, -11.7]
    blob = np.exp(-np.sum((result.raster.centers - point) ** 2, axis=1) / (2 * 90.0**2))
    counts = sparse.csr_matrix(np.column_stack([blob, np.ones_like(blob)]), dtype=np.float32)
    result = dataclasses.replace(result, counts=counts)

    store = spatialdata.read_zarr(write_result(result, tmp_path / "out.zarr"))
    names = result_names(result)
    image = store.images[names.image]
    row, col = ndimage.center_of_mass(np.nan_to_num(image.values[0]))
    systems = get_transformation(image, get_all=True)
    shape_systems = get_transformation(store.shapes[names.shapes], get_all=True)
    assert set(systems) == set(shape_systems) == set(awkward_transforms)
    table = store.tables[names.table]
    from_table = table.X[:, [0]].toarray()[:, 0] @ table.obsm["spatial"] / table.X[:, 0].sum()
    for system, matrix in awkward_transforms.items():
        expected = apply_affine(matrix, point[None])[0]
        tolerance = 0.1 * result.raster.pixel_size * np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
        # SpatialData puts the center of pixel [0, 0] at (0.5, 0.5).
        in_image = apply_affine(to_matrix(systems[system]), np.array([[col + 0.5, row + 0.5]]))[0]
        in_shapes = apply_affine(to_matrix(shape_systems[system]), from_table[None])[0]
        np.testing.assert_allclose(in_image, expected, atol=tolerance, rtol=0)
        np.testing.assert_allclose(in_shapes, expected, atol=tolerance, rtol=0)


def test_image_and_circles_have_the_same_coordinates(make_slide, make_result, awkward_transforms):
    """The transformed pixel coordinates of the image equal the centers that spatialdata.transform returns."""
    result = make_result(make_slide(4, 5, transforms=awkward_transforms))
    store = to_spatialdata(result)
    names = result_names(result)
    image, pixels = store.images[names.image], store.shapes[names.shapes]
    x = image.coords["x"].values[result.raster.col]
    y = image.coords["y"].values[result.raster.row]
    for system in awkward_transforms:
        by_image = apply_affine(to_matrix(get_transformation(image, system)), np.column_stack([x, y]))
        moved = spatialdata.transform(pixels, to_coordinate_system=system)
        np.testing.assert_allclose(by_image, np.column_stack([moved.geometry.x, moved.geometry.y]), atol=1e-6)


def test_image_shows_the_most_abundant_genes(make_slide, make_result):
    rng = np.random.default_rng(0)
    result = make_result(make_slide(3, 3, counts=rng.poisson(np.linspace(1, 50, 80), size=(9, 80))))
    columns = image_genes(result)
    assert len(columns) == result_elements.MAX_IMAGE_GENES
    assert (np.diff(columns) > 0).all()
    totals = result.counts.toarray().sum(axis=0)
    assert totals[columns].min() >= np.delete(totals, columns).max()
    table = to_anndata(result)
    assert table.n_vars == 80
    assert list(table.uns["napari_srast"]["image_genes"]) == list(result.genes[columns])
    image = to_spatialdata(result).images[result_names(result).image]
    assert list(image.coords["c"].values) == list(result.genes[columns])


def test_image_is_computed_one_gene_at_a_time(make_result, monkeypatch):
    result = make_result()
    image = to_spatialdata(result).images[result_names(result).image]
    calls = []
    raster_type = type(result.raster)
    original = raster_type.to_image
    monkeypatch.setattr(raster_type, "to_image", lambda self, values: calls.append(1) or original(self, values))
    np.testing.assert_array_equal(image[1].values, original(result.raster, result.counts.toarray()[:, 1]))
    assert len(calls) == 1


def test_group_size_of_genes_does_not_change_the_image(make_slide, make_result, monkeypatch):
    result = make_result(make_slide(6, 6, n_genes=7))
    expected = to_spatialdata(result).images[f"srast_{result.run}"].values
    for group_size in (1, 3):
        monkeypatch.setattr(result_elements, "_COLUMN_VALUES", group_size * result.n_pixels)
        image = to_spatialdata(result).images[f"srast_{result.run}"].values
        np.testing.assert_array_equal(image, expected)
    for channel, gene in zip(expected, result.genes, strict=True):
        np.testing.assert_array_equal(channel, result.gene_image(gene))


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


def test_files_without_result_are_refused(written_slide, tmp_path):
    with pytest.raises(InputError, match="no result"):
        read_result(tmp_path / "slide.zarr")
    with pytest.raises(InputError, match="not a SpatialData store"):
        read_result(tmp_path / "missing.zarr")
    with pytest.raises(InputError, match="no result at"):
        read_result(tmp_path / "missing.h5ad")
    anndata.AnnData(np.eye(3, dtype=np.float32)).write_h5ad(tmp_path / "plain.h5ad")
    with pytest.raises(InputError, match="not a result"):
        read_result(tmp_path / "plain.h5ad")


def test_newer_format_is_refused(make_result, tmp_path):
    table = to_anndata(make_result())
    table.uns["napari_srast"]["format_version"] = 99
    table.write_h5ad(tmp_path / "new.h5ad")
    with pytest.raises(InputError, match="update napari-srast"):
        read_result(tmp_path / "new.h5ad")


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
