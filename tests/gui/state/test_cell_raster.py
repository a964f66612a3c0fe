from __future__ import annotations

import numpy as np
import pytest
import shapely

from napari_srast.core.cells import CellLabels, CellPolygons
from napari_srast.core.progress import RunMonitor
from napari_srast.errors import Cancelled
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.state import cell_raster as module
from napari_srast.gui.state.cell_raster import CellRaster, draw_cells
from napari_srast.io.cell_reader import encode_labels

pytestmark = pytest.mark.gui
TURNED = np.array([[0.8, -0.6, 10.0], [0.6, 0.8, 20.0], [0.0, 0.0, 1.0]])


def labels(seed: int = 0) -> tuple[np.ndarray, CellLabels]:
    """Return a label image with margins, and its cells in a turned frame."""
    rng = np.random.default_rng(seed)
    image = np.zeros((60, 80), dtype=np.int32)
    for number in range(5, 40, 5):
        row, column = rng.integers(5, 45), rng.integers(8, 60)
        image[row : row + 9, column : column + 12] = number
    cells = encode_labels(image, "nuclei", TURNED)
    assert isinstance(cells, CellLabels)
    return image, cells


@pytest.mark.parametrize("max_pixels", [10**6, 500], ids=["full", "reduced"])
def test_label_image_is_drawn_where_it_is(monkeypatch: pytest.MonkeyPatch, max_pixels: int) -> None:
    monkeypatch.setattr(module, "_MAX_PIXELS", max_pixels)
    image, cells = labels()
    raster = draw_cells(cells)
    assert raster.numbers.size <= 1.3 * max_pixels
    rows, columns = np.indices(raster.numbers.shape)
    points = np.column_stack([columns.ravel() + 0.5, rows.ravel() + 0.5])
    on_image = apply_affine(np.linalg.inv(TURNED) @ raster.to_intrinsic, points)
    column, row = np.floor(on_image).astype(int).T
    inside = (row < image.shape[0]) & (column < image.shape[1])
    expected = np.where(inside, image[np.minimum(row, 59), np.minimum(column, 79)], 0)
    shown = np.concatenate([[0], cells.ids])[raster.numbers.ravel()]
    assert (shown == expected).mean() > 0.99
    assert set(shown) >= set(cells.ids)


def test_polygons_are_drawn_with_holes_and_small_ones_on_top() -> None:
    ring = shapely.box(0, 0, 100, 100).difference(shapely.box(30, 30, 70, 70))
    small, pair = (
        shapely.box(40, 40, 60, 60),
        shapely.MultiPolygon([shapely.box(120, 0, 140, 20), shapely.box(120, 60, 140, 80)]),
    )
    nested = shapely.box(5, 5, 15, 15)
    cells = CellPolygons(name="n", ids=np.arange(4), polygons=np.array([nested, ring, small, pair], dtype=object))
    raster = draw_cells(cells)
    places = {
        (10, 10): 0,
        (20, 50): 1,
        (50, 50): 2,
        (35, 35): None,
        (130, 10): 3,
        (130, 70): 3,
        (130, 40): None,
        (500, 5): None,
    }
    for point, cell in places.items():
        assert raster.at(np.array(point, dtype=float)) == cell, point
    drawn = np.bincount(raster.numbers.ravel(), minlength=5)[1:] * abs(np.linalg.det(raster.to_intrinsic[:2, :2]))
    np.testing.assert_allclose(drawn, [100, ring.area - 100, 400, 800], rtol=0.15)


def test_image_of_far_polygons_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_PIXELS", 10_000)
    polygons = np.array([shapely.Point(x, 0).buffer(5) for x in (0, 20, 5000)], dtype=object)
    raster = draw_cells(CellPolygons(name="n", ids=np.arange(3), polygons=polygons))
    assert raster.numbers.size <= 12_000
    assert set(raster.numbers.ravel()) == {0, 1, 2, 3}


def test_outlines_are_the_outermost_pixels_of_each_cell() -> None:
    numbers = np.zeros((7, 9), dtype=np.int32)
    numbers[1:6, 1:5], numbers[1:6, 5:8] = 1, 2
    outlines = CellRaster(numbers, np.eye(3)).outlines()
    inner = (outlines == 0) & (numbers > 0)
    assert [tuple(place) for place in np.argwhere(inner)] == [(row, col) for row in (2, 3, 4) for col in (2, 3, 6)]
    at_the_edge = CellRaster(np.ones((3, 3), dtype=np.int32), np.eye(3)).outlines()
    assert at_the_edge.sum() == 8


def test_drawing_can_be_canceled() -> None:
    cells = CellPolygons(name="n", ids=np.arange(1), polygons=np.array([shapely.box(0, 0, 1, 1)]))
    with pytest.raises(Cancelled):
        draw_cells(cells, RunMonitor(should_stop=lambda: True))
