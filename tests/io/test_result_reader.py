from __future__ import annotations

import dataclasses
import shutil

import anndata
import numpy as np
import pytest
from helpers.results import assert_same_result, with_expression

from napari_srast.analysis.traffic_lights import gene_lights
from napari_srast.core.mass_balance import max_relative_mass_error
from napari_srast.core.region import Region
from napari_srast.errors import InputError
from napari_srast.io.result_elements import result_names, to_anndata, to_spatialdata
from napari_srast.io.result_reader import read_result
from napari_srast.io.result_writer import write_result
from napari_srast.io.store import write_store


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


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
@pytest.mark.parametrize("genes", [("gene1",), ("gene1", "gene3")])
def test_expression_and_its_setting_are_read_unchanged(make_result, written_slide, tmp_path, name, genes):
    columns = np.sort(written_slide.gene_indices([written_slide.genes[1], written_slide.genes[3]][: len(genes)]))
    chosen = tuple(str(gene) for gene in written_slide.genes[columns])
    result = with_expression(make_result(written_slide, expression=chosen), columns, std=True)
    path = write_result(result, tmp_path / name)
    got = read_result(path)
    assert_same_result(got, result)
    assert got.settings.expression == chosen
    np.testing.assert_array_equal(got.gene_image(chosen[0], "expression"), result.gene_image(chosen[0], "expression"))
    with pytest.raises(InputError, match=f"no expression of gene '{got.genes[0]}'"):
        got.gene_image(str(got.genes[0]), "expression")


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
def test_result_whose_expression_was_removed_has_none(make_result, written_slide, tmp_path, name):
    columns = np.arange(2)
    result = with_expression(make_result(written_slide), columns)
    path = write_result(result, tmp_path / name)
    if name.endswith(".zarr"):
        shutil.rmtree(path / "tables" / result_names(result).table / "layers" / "expression")
    else:
        table = anndata.read_h5ad(path)
        del table.layers["expression"]
        table.write_h5ad(path)
    got = read_result(path)
    assert got.expression is None
    assert len(got.expression_columns) == 0
    assert list(write_result(got, tmp_path / "again.csv").read_text().splitlines()[0].split(","))[3:] == list(got.genes)


def test_layer_that_was_not_computed_is_refused(make_result):
    result = make_result()
    gene = str(result.genes[0])
    for layer, message in (
        ("std", "mode 'sample'"),
        ("expression", "no expression"),
        ("expression_std", "mode 'sample'"),
    ):
        with pytest.raises(InputError, match=message):
            result.gene_image(gene, layer)


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


@pytest.mark.parametrize("missing", ["X", "uns/napari_srast/reopen", "uns/napari_srast/reopen/raster"])
def test_incomplete_result_is_refused(make_result, tmp_path, missing):
    result = make_result()
    path = write_result(result, tmp_path / "out.zarr")
    shutil.rmtree(path / "tables" / result_names(result).table / missing)
    with pytest.raises(InputError, match="damaged or incomplete"):
        read_result(path)


def test_store_of_format_1_is_read(make_result, written_slide, tmp_path):
    """Format 1 had no labels, NaN outside the pixels, ids and names from 0, and no column of expression."""
    result = make_result(written_slide)
    names = result_names(result)
    store = to_spatialdata(result)
    del store.labels[names.labels]
    image = store.images[names.image]
    store.images[names.image] = image.where(image > 0)
    store.shapes[names.shapes].index -= 1
    table = store.tables[names.table]
    table.obs["instance_id"] -= 1
    table.obs_names = table.obs["instance_id"].to_numpy().astype(str)
    del table.var["expression"]
    provenance = table.uns["napari_srast"]
    provenance["format_version"] = 1
    for key in ("labels", "pixel_size"):
        del provenance[key]
    del provenance["reopen"]["settings"]["expression"]
    write_store(store, tmp_path / "old.zarr")
    got = read_result(tmp_path / "old.zarr")
    assert_same_result(got, result)
    assert got.expression is None
    assert got.provenance["format_version"] == 1


def test_held_out_gains_of_many_genes_are_read_unchanged(make_result, written_slide, tmp_path):
    result = make_result(written_slide)
    names = [*map(str, result.genes), "HLA-A/B", *(f"Other{i}" for i in range(60))]
    gains = {name: [0.2, 0.1] for name in names}
    result = dataclasses.replace(result, provenance={**result.provenance, "calibration": {"held_out_gain": gains}})
    got = read_result(write_result(result, tmp_path / "out.zarr"))
    assert got.provenance["calibration"]["held_out_gain"] == gains
    assert repr(gene_lights(got)) == repr(gene_lights(result))  # their gains can be NaN
