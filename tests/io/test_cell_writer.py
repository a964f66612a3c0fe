from __future__ import annotations

import dataclasses

import anndata
import numpy as np
import pandas as pd
import pytest
import shapely
import spatialdata
from helpers.results import make_result, with_random_shares
from spatialdata import match_element_to_table

from napari_srast.analysis.cells import cells
from napari_srast.core.cells import CellLabels, CellPolygons
from napari_srast.errors import InputError, OutputError
from napari_srast.io.result_reader import list_runs, read_result
from napari_srast.io.result_writer import write_result


def polygons():
    return CellPolygons(
        name="n",
        ids=np.array(["c-1", "c-2"]),
        polygons=np.array([shapely.Point(110, 120).buffer(40), shapely.box(200, 200, 260, 290)]),
    )


def labels():
    return CellLabels(
        name="n",
        ids=np.array([4, 9]),
        owner=np.array([0, 0, 1]),
        row=np.array([3, 4, 8]),
        start=np.array([2, 2, 1]),
        stop=np.array([7, 7, 9]),
        shape=(12, 15),
        to_intrinsic=np.diag([20.0, 20.0, 1.0]),
    )


@pytest.fixture(scope="module")
def result():
    plain = with_random_shares(make_result(factor=3.0), run="r")
    return dataclasses.replace(plain, std=0.5 * plain.counts)


@pytest.mark.parametrize("shapes", [polygons(), labels()], ids=["polygons", "labels"])
def test_store_of_the_result_gets_cells_that_its_table_annotates(result, tmp_path, shapes):
    path = write_result(result, tmp_path / "fine.zarr", include_image=False)
    found = cells(result, shapes)
    found.write(path, "nuclei")
    store = spatialdata.read_zarr(path)
    table = store.tables["srast_r_nuclei_table"]
    np.testing.assert_array_equal(table.X.toarray(), found.counts.toarray())
    np.testing.assert_array_equal(table.layers["std"].toarray(), found.std.toarray())
    assert table.obs["instance_id"].tolist() == shapes.ids.tolist()
    assert {"n_pixels", "n_spots", "n_sharing", "area", "covered"} < set(table.obs)
    if isinstance(shapes, CellLabels):
        image = store.labels["srast_r_nuclei"].to_numpy()
        assert image[3:5, 2:7].tolist() == [[4] * 5] * 2
        assert image[8, 1:9].tolist() == [9] * 8
        assert np.count_nonzero(image) == 18
    else:
        assert store.shapes["srast_r_nuclei"].geometry.to_numpy().tolist() == shapes.polygons.tolist()
        assert match_element_to_table(store, "srast_r_nuclei", "srast_r_nuclei_table")[1].n_obs == 2
    outside = store.tables["srast_r_nuclei_outside"]
    total = table.X.sum(axis=0) + outside.X.sum(axis=0)
    np.testing.assert_allclose(total, result.slide.counts.sum(axis=0), rtol=1e-6)
    assert list_runs(path) == {"r": "srast_r_table"}
    np.testing.assert_array_equal(read_result(path).counts.toarray(), result.counts.toarray())
    with pytest.raises(OutputError, match="already holds"):
        found.write(path, "nuclei")


def test_written_cells_can_be_read_as_cells_again(result, tmp_path):
    path = cells(result, polygons()).write(tmp_path / "cells.zarr")
    again = cells(result, "srast_r_cells", slide=path)
    np.testing.assert_array_equal(again.counts.toarray(), cells(result, polygons()).counts.toarray())


def test_files_have_a_row_per_cell_and_per_spot_outside(result, tmp_path):
    found = cells(result, polygons())
    table = anndata.read_h5ad(found.write(tmp_path / "cells.h5ad"))
    assert table.obs["kind"].value_counts().to_dict() == {"cell": 2, "outside": 30}
    assert table.obs["id"].tolist()[:2] == ["c-1", "c-2"]
    np.testing.assert_allclose(table.X.sum(axis=0), result.slide.counts.sum(axis=0), rtol=1e-6)
    assert table.uns["cells"]["run"] == "r"
    frame = pd.read_csv(found.write(tmp_path / "cells.csv"))
    np.testing.assert_allclose(frame[result.genes.astype(str)].to_numpy(), table.X.toarray(), rtol=1e-6)
    np.testing.assert_allclose(frame[["x", "y"]], table.obsm["spatial"])


def test_store_of_another_result_is_refused(result, tmp_path):
    path = write_result(dataclasses.replace(result, run="other"), tmp_path / "fine.zarr", include_image=False)
    with pytest.raises(InputError, match="holds no run 'r'"):
        cells(result, polygons()).write(path)


@pytest.mark.parametrize(("path", "name"), [("cells.txt", "cells"), ("cells.h5ad", "a b")])
def test_wrong_names_are_refused(result, tmp_path, path, name):
    with pytest.raises(OutputError, match=r"no known ending|is not a name"):
        cells(result, polygons()).write(tmp_path / path, name)
