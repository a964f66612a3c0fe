from __future__ import annotations

import dataclasses
import json

import geopandas
import numpy as np
import pytest
import shapely
import spatialdata
import tifffile
from helpers.results import make_result, with_random_shares
from helpers.slides import make_slide
from spatialdata.models import Labels2DModel, ShapesModel
from spatialdata.transformations import Affine, Identity, Scale

from napari_srast.analysis.cells import cells
from napari_srast.core.cells import CellLabels, CellPolygons
from napari_srast.core.slide import SlideImage
from napari_srast.errors import InputError
from napari_srast.io.cell_reader import cell_elements, read_cells
from napari_srast.io.result_writer import write_result

SCALED = {"global": np.eye(3), "scaled": np.diag([0.5, 0.5, 1.0])}


@pytest.fixture(scope="module")
def slide():
    return make_slide(5, 6, n_genes=4, transforms=SCALED)


def square(x, y, side=60.0):
    return shapely.box(x, y, x + side, y + side)


def write(path, **elements):
    spatialdata.SpatialData(**elements).write(path)
    return path


def label_image():
    image = np.zeros((40, 50), dtype=np.int32)
    image[10:16, 5:11], image[20:26, 25:31] = 7, 12
    return image


def test_labels_and_shapes_of_the_same_cells_agree_in_any_coordinate_system(slide, tmp_path):
    half = Affine(np.diag([0.5, 0.5, 1.0]), input_axes=("x", "y"), output_axes=("x", "y"))
    squares = [square(50, 100), square(250, 200)]
    frame, same = (geopandas.GeoDataFrame(geometry=squares, index=[7, 12]) for _ in range(2))
    path = write(
        tmp_path / "slide.zarr",
        labels={
            "masks": Labels2DModel.parse(
                label_image(), dims=("y", "x"), transformations={"global": Scale([10, 10], ("x", "y"))}
            )
        },
        shapes={
            "cellpose_boundaries": ShapesModel.parse(frame, transformations={"global": Identity()}),
            "scaled_only": ShapesModel.parse(same, transformations={"scaled": half}),
        },
    )
    result = with_random_shares(make_result(slide))
    found = [cells(result, name, slide=path) for name in ("masks", "cellpose_boundaries", "scaled_only")]
    assert isinstance(found[0].cells, CellLabels)
    for one in found:
        assert one.cells.ids.tolist() == [7, 12]
        np.testing.assert_allclose(one.counts.toarray(), found[0].counts.toarray(), rtol=1e-5)
        np.testing.assert_allclose(one.obs["area"], 3600)


def test_circles_are_cells_of_their_radius(slide, tmp_path):
    circles = ShapesModel.parse(np.array([[100.0, 100.0]]), geometry=0, radius=30.0, index=np.array(["nucleus"]))
    path = write(tmp_path / "slide.zarr", shapes={"nuclei": circles})
    found = read_cells("nuclei", slide, path)
    assert found.ids.tolist() == ["nucleus"]
    np.testing.assert_allclose(shapely.area(found.polygons), np.pi * 900, rtol=1e-3)


def test_space_ranger_geojson_keeps_its_cell_ids(slide, tmp_path):
    features = [
        {
            "type": "Feature",
            "geometry": json.loads(shapely.to_geojson(square(50 * i, 0))),
            "properties": {"cell_id": i + 5},
        }
        for i in range(2)
    ]
    path = tmp_path / "cell_segmentations.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found = read_cells(path, slide, coordinate_system="global")
    assert found.ids.tolist() == [5, 6]
    assert found.polygons[1].equals(square(50, 0))
    assert read_cells(path, slide, coordinate_system="scaled").polygons[1].equals(square(100, 0, 120))
    assert read_cells(path, make_slide(5, 6)).polygons[1].equals(square(50, 0))
    with pytest.raises(
        InputError, match="names no coordinate system, and the slide has several; name that of the file"
    ):
        read_cells(path, slide)


def test_geojson_in_another_coordinate_system_of_the_slide_is_moved(slide, tmp_path):
    feature = {
        "type": "Feature",
        "geometry": json.loads(shapely.to_geojson(square(50, 0))),
        "properties": {"coordinate_system": "scaled"},
    }
    (tmp_path / "a.geojson").write_text(json.dumps(feature))
    found = read_cells(tmp_path / "a.geojson", slide)
    assert found.polygons[0].equals(square(100, 0, 120))
    feature["properties"]["coordinate_system"] = "other"
    (tmp_path / "b.geojson").write_text(json.dumps(feature))
    with pytest.raises(InputError, match="'other', which the slide lacks; save them in one of 'global', 'scaled'"):
        read_cells(tmp_path / "b.geojson", slide)


def test_label_file_has_the_pixels_of_the_image(slide, tmp_path):
    tifffile.imwrite(tmp_path / "masks.tif", label_image())
    levels, to_intrinsic = (
        (np.zeros((3, 40, 50)), np.zeros((3, 20, 25))),
        (np.diag([10.0, 10, 1]), np.diag([20.0, 20, 1])),
    )
    imaged = dataclasses.replace(slide, image=SlideImage(name="he", levels=levels, to_intrinsic=to_intrinsic))
    found = read_cells(tmp_path / "masks.tif", imaged)
    assert found.ids.tolist() == [7, 12]
    np.testing.assert_array_equal(found.to_intrinsic, to_intrinsic[0])
    with pytest.raises(InputError, match="50 x 40 pixels, but the slide has no image"):
        read_cells(tmp_path / "masks.tif", slide)


def test_broken_outlines_are_repaired_and_empty_ones_left_out(slide, tmp_path):
    bow_tie = shapely.Polygon([(0, 0), (60, 60), (60, 0), (0, 60)])
    features = [
        {"type": "Feature", "geometry": json.loads(shapely.to_geojson(one)), "properties": {}}
        for one in (bow_tie, shapely.LineString([(0, 0), (9, 9)]), square(100, 100))
    ]
    (tmp_path / "a.geojson").write_text(json.dumps(features))
    found = read_cells(tmp_path / "a.geojson", slide, coordinate_system="global")
    assert isinstance(found, CellPolygons)
    assert found.ids.tolist() == [1, 3]
    np.testing.assert_allclose(shapely.area(found.polygons), [1800, 3600])
    assert found.notices == (
        "Repaired 1 invalid outline of 'a.geojson'.",
        "Left out 1 shape of 'a.geojson' without an area.",
    )


def test_polygons_of_a_collection_are_a_cell(slide, tmp_path):
    both = shapely.GeometryCollection([square(0, 0), square(100, 0), shapely.Point(300, 300)])
    (tmp_path / "a.geojson").write_text(shapely.to_geojson(both))
    found = read_cells(tmp_path / "a.geojson", slide, coordinate_system="global")
    np.testing.assert_allclose(shapely.area(found.polygons), [7200])
    assert found.notices == ()


def test_polygons_with_a_property_radius_keep_their_outlines(slide, tmp_path):
    frame = geopandas.GeoDataFrame({"radius": [30.0]}, geometry=[square(0, 0)])
    found = read_cells("nuclei", slide, write(tmp_path / "slide.zarr", shapes={"nuclei": ShapesModel.parse(frame)}))
    assert found.polygons[0].equals(square(0, 0))


@pytest.mark.parametrize("cell_id", [None, [1], {"a": 1}])
def test_ids_that_are_no_numbers_or_texts_are_refused(slide, tmp_path, cell_id):
    features = [
        {"type": "Feature", "geometry": json.loads(shapely.to_geojson(square(0, 0))), "properties": {"cell_id": one}}
        for one in (1, cell_id)
    ]
    (tmp_path / "a.geojson").write_text(json.dumps(features))
    with pytest.raises(InputError, match="as the 'cell_id' of a cell; save ids as numbers or texts"):
        read_cells(tmp_path / "a.geojson", slide, coordinate_system="global")
    del features[1]["properties"]["cell_id"]
    (tmp_path / "a.geojson").write_text(json.dumps(features))
    with pytest.raises(InputError, match="has null as the 'cell_id'"):
        read_cells(tmp_path / "a.geojson", slide, coordinate_system="global")


def test_damaged_labels_of_a_store_are_refused(slide, tmp_path):
    path = write(tmp_path / "slide.zarr", labels={"masks": Labels2DModel.parse(label_image(), dims=("y", "x"))})
    chunks = [file for file in (path / "labels" / "masks").rglob("c/*/*") if file.is_file()]
    assert chunks
    for file in chunks:
        file.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"The labels 'masks' cannot be read \("):
        read_cells("masks", slide, path)


@pytest.mark.parametrize(("name", "content"), [("a.geojson", "{"), ("a.geojson", ""), ("a.tif", "II*\0junk")])
def test_damaged_files_are_refused_by_name(slide, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=rf"{name}' (is not GeoJSON|cannot be read as a label image) \("):
        read_cells(tmp_path / name, slide)


def elements():
    frame = geopandas.GeoDataFrame(geometry=[square(0, 0), square(9, 9)], index=["a", "a"])
    other = geopandas.GeoDataFrame(geometry=[square(0, 0)])
    return {
        "labels": {
            "empty": Labels2DModel.parse(np.zeros((5, 5), dtype=np.int32), dims=("y", "x")),
            "negative": Labels2DModel.parse(np.full((5, 5), -1), dims=("y", "x")),
        },
        "shapes": {
            "twice": ShapesModel.parse(frame),
            "elsewhere": ShapesModel.parse(other, transformations={"other": Identity()}),
        },
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "'empty' hold no cell, only the background 0"),
        ("negative", "negative value -1"),
        ("twice", "several cells with the id 'a'"),
        ("elsewhere", "'elsewhere' is in the coordinate systems 'other', and the slide in 'global', 'scaled'"),
        ("emty", "no labels or shapes 'emty'; it has 'empty'"),
        ("missing.geojson", "no file of cells at 'missing.geojson'"),
    ],
)
def test_cells_that_cannot_be_used_are_refused_in_a_sentence(slide, tmp_path, name, message):
    path = write(tmp_path / "slide.zarr", **elements())
    with pytest.raises(InputError, match=message):
        read_cells(name, slide, path)


def test_elements_that_may_be_cells_are_listed_likely_ones_first(tmp_path):
    result = with_random_shares(make_result(make_slide(5, 6, n_genes=4)))
    result = dataclasses.replace(
        result,
        slide=dataclasses.replace(result.slide, source=dataclasses.replace(result.slide.source, spots="circles")),
    )
    frame = geopandas.GeoDataFrame(geometry=[square(50, 100)], index=[7])
    elsewhere = Affine(np.eye(3), input_axes=("x", "y"), output_axes=("x", "y"))
    shapes = {
        name: ShapesModel.parse(frame.copy(), transformations={system: elsewhere})
        for name, system in (
            ("annotation", "global"),
            ("circles", "global"),
            ("nuclei", "global"),
            ("cells_of_another_slide", "elsewhere"),
        )
    }
    path = write(
        tmp_path / "slide.zarr",
        labels={"cellpose_masks": Labels2DModel.parse(label_image(), dims=("y", "x"))},
        shapes=shapes,
    )
    write_result(result, path, into_slide=True)
    cells(result, read_cells("nuclei", result.slide, path)).write(path, "mine")
    store = spatialdata.read_zarr(path)
    expected = ["cellpose_masks", "nuclei", "annotation", f"srast_{result.run}_mine"]
    assert list(cell_elements(store, result.slide)) == expected
