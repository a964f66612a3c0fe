from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely
from napari.components import ViewerModel

from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.errors import RegionError
from napari_srast.gui.layers.regions import RegionLayer, without_holes
from napari_srast.io.annotations import Annotation, read_annotations, write_annotations

pytestmark = pytest.mark.gui
HOLES = shapely.union_all([shapely.box(100, 100, 200, 300), shapely.box(250, 0, 260, 9)])
WITH_HOLE = shapely.box(0, 0, 400, 400).difference(HOLES)


def test_region_changes_are_undone_one_by_one() -> None:
    layer = RegionLayer(ViewerModel(), lambda: None)
    box = np.array([[0.0, 0.0], [10, 0], [10, 10], [0, 10]])
    assert not layer.can_undo
    layer.add(box)
    layer.add(box + 100)
    layer.clear()
    areas = []
    while layer.can_undo:
        layer.undo()
        region = layer.region("global")
        areas.append(0 if region is None else region.geometry.area)
    assert areas == [200, 100, 0]


def test_redo_repeats_what_was_undone_until_something_changes() -> None:
    layer = RegionLayer(ViewerModel(), lambda: None)
    box = np.array([[0.0, 0.0], [10, 0], [10, 10], [0, 10]])
    layer.add(box)
    layer.add(box + 100)
    assert layer.layer is not None
    layer.edit([1], name="tumor")
    layer.edit([2], name="stroma")
    layer.add(box + 200)
    for _ in range(4):
        layer.undo()
    assert [len(layer.layer.data), layer.can_redo] == [1, True]
    for _ in range(4):
        layer.redo()
    assert [len(layer.layer.data), layer.can_redo] == [3, False]
    assert list(layer.layer.features["name"])[:2] == ["tumor", "stroma"]
    layer.undo()
    layer.add(box + 300)
    assert not layer.can_redo
    np.testing.assert_array_equal(layer.layer.data[-1][:, 0], box[:, 1] + 300)


def test_region_with_a_hole_is_split_into_polygons() -> None:
    parts = without_holes(Region(WITH_HOLE))
    assert all(not part.interiors for part in parts)
    assert shapely.union_all(parts).equals(WITH_HOLE)


def test_region_layer_draws_a_region_with_a_hole(make_slide: Callable[..., Slide]) -> None:
    layer = RegionLayer(ViewerModel(), lambda: None)
    layer.add_annotations([Annotation(Region(WITH_HOLE))], make_slide())
    assert len(layer.regions("global")) == 1
    assert layer.region("global").geometry.symmetric_difference(WITH_HOLE).area < 1e-3


def test_an_outline_that_napari_cannot_draw_is_refused_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = RegionLayer(ViewerModel(), lambda: None)
    layer.add(np.array([[0, 0], [10, 0], [10, 10], [0, 10]]))

    def fail(*_: object) -> None:
        raise RuntimeError("Triangulation failed.")

    monkeypatch.setattr(layer.layer, "add_polygons", fail)
    with pytest.raises(RegionError, match="simplify it"):
        layer.add_annotations([Annotation(Region(WITH_HOLE))])
    assert [region.is_used for region in layer.regions("global")] == [True]


def test_geojson_round_trip_keeps_holes(tmp_path: Path) -> None:
    path = tmp_path / "regions.geojson"
    write_annotations([Annotation(Region(WITH_HOLE))], path)
    (annotation,) = read_annotations(path)
    assert annotation.region.geometry.equals(WITH_HOLE)
