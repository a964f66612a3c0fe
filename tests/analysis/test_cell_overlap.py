from __future__ import annotations

import numpy as np
import pytest
import shapely
from helpers.results import make_result, same_bytes

from napari_srast.analysis.cell_overlap import overlap_of_polygons, overlap_of_runs
from napari_srast.core.progress import RunMonitor
from napari_srast.errors import Cancelled
from napari_srast.geometry.affine import apply_affine


@pytest.fixture(scope="module")
def raster():
    return make_result(factor=3.0).raster


def runs_of(image):
    """Return row, start and stop of single pixels, and their owners."""
    row, col = np.nonzero(image)
    return np.column_stack([row, col, col + 1]), np.unique(image[row, col], return_inverse=True)[1]


def boxes(raster):
    """Return the pixels as polygons in the intrinsic frame."""
    squares = shapely.box(raster.col, raster.row, raster.col + 1, raster.row + 1)
    return shapely.transform(squares, lambda points: apply_affine(raster.affine, points))


def test_areas_of_polygons_with_holes_are_exact(raster):
    middle, radius = raster.centers.mean(axis=0), 2.3 * raster.pixel_size
    ring = shapely.Point(middle).buffer(radius).difference(shapely.Point(middle).buffer(radius / 2))
    far = shapely.transform(ring, lambda points: points + 1e6)
    found = overlap_of_polygons(raster, np.array([ring, far]))
    expected = shapely.area(shapely.intersection(ring, boxes(raster))) / raster.pixel_size**2
    np.testing.assert_allclose(found.shares[[0]].toarray()[0], expected, atol=1e-9)
    assert found.shares[1].nnz == 0
    np.testing.assert_allclose(found.area, ring.area / raster.pixel_size**2)
    np.testing.assert_allclose(apply_affine(raster.affine, found.centroid)[0], middle)


def test_area_that_cells_have_in_common_is_divided_equally(raster):
    side, (x, y) = raster.pixel_size, raster.centers[40]
    left = shapely.box(x - 0.5 * side, y - 0.5 * side, x + 0.3 * side, y + 0.5 * side)
    right = shapely.box(x - 0.1 * side, y - 0.5 * side, x + 0.5 * side, y + 0.5 * side)
    found = overlap_of_polygons(raster, np.array([left, right, left]))
    shares = found.shares[:, [40]].toarray()[:, 0]
    np.testing.assert_allclose(shares, [0.4 / 2 + 0.4 / 3, 0.2 + 0.4 / 3, 0.4 / 2 + 0.4 / 3], atol=1e-9)
    assert found.n_overlapping == 3


def test_overlaps_are_found_among_any_number_of_cells_at_once(raster, monkeypatch):
    moved = shapely.transform(boxes(raster), lambda points: points + 0.3 * raster.pixel_size)
    cells = np.concatenate([boxes(raster), moved])
    whole = overlap_of_polygons(raster, cells)
    assert whole.n_overlapping > raster.n_pixels
    monkeypatch.setattr("napari_srast.analysis.cell_overlap._CELLS_AT_ONCE", 7)
    parts = overlap_of_polygons(raster, cells)
    assert parts.n_overlapping == whole.n_overlapping
    assert same_bytes(parts.shares, whole.shares)


def test_neighbors_that_touch_do_not_overlap(raster):
    squares = boxes(raster)
    found = overlap_of_polygons(raster, squares)
    assert found.n_overlapping == 0
    np.testing.assert_allclose(found.shares.toarray(), np.eye(raster.n_pixels), atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, np.pi / 2, 0.4])
def test_labels_have_the_areas_of_their_pixels(raster, angle):
    image = np.random.default_rng(0).integers(0, 4, (23, 31))
    step = 0.37 * raster.pixel_size
    cos, sin = np.cos(angle) * step, np.sin(angle) * step
    x, y = raster.centers.mean(axis=0) - 40
    to_intrinsic = np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]])
    runs, owner = runs_of(image)
    found = overlap_of_runs(raster, runs, owner, to_intrinsic)
    polygons = []
    for label in (1, 2, 3):
        row, col = np.nonzero(image == label)
        union = shapely.union_all(shapely.box(col, row, col + 1, row + 1))
        polygons.append(shapely.transform(union, lambda points: apply_affine(to_intrinsic, points)))
    expected = overlap_of_polygons(raster, np.array(polygons))
    np.testing.assert_allclose(found.shares.toarray(), expected.shares.toarray(), atol=1e-8)
    np.testing.assert_allclose(found.area, expected.area)
    np.testing.assert_allclose(found.centroid, expected.centroid)
    assert found.shares.sum(axis=0).max() <= 1


def test_a_large_cell_covers_every_pixel_once(raster, monkeypatch):
    monkeypatch.setattr("napari_srast.analysis.cell_overlap._PAIRS_AT_ONCE", 7)
    whole = shapely.box(*raster.centers.min(axis=0) - 1e4, *raster.centers.max(axis=0) + 1e4)
    found = overlap_of_polygons(raster, np.array([whole]))
    np.testing.assert_allclose(found.shares.toarray(), 1)


def test_cancellation_stops(raster):
    with pytest.raises(Cancelled):
        overlap_of_polygons(raster, boxes(raster), RunMonitor(should_stop=lambda: True))
