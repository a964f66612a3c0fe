from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import shapely
from helpers.results import make_result, same_bytes, with_expression, with_random_shares

from napari_srast.analysis.cells import cells
from napari_srast.core.cells import CellLabels, CellPolygons
from napari_srast.errors import Cancelled, InputError, SettingsError


@pytest.fixture(scope="module")
def result():
    return with_random_shares(make_result(factor=3.0))


def circles(result, n=12, seed=0):
    """Return cells that overlap each other, and one outside the pixels."""
    rng = np.random.default_rng(seed)
    low, high = result.raster.centers.min(axis=0), result.raster.centers.max(axis=0)
    points = shapely.points(low + rng.random((n, 2)) * (high - low))
    polygons = shapely.buffer(points, rng.uniform(20, 90, n))
    polygons = np.append(polygons, shapely.Point(high + 1e5).buffer(10))
    return CellPolygons(name="nuclei", ids=np.arange(1, n + 2), polygons=polygons)


def test_cells_and_outside_sum_to_every_spot(result):
    found = cells(result, circles(result))
    total = np.asarray(found.counts.sum(axis=0) + found.outside.sum(axis=0))
    np.testing.assert_allclose(total, np.asarray(result.counts.astype(float).sum(axis=0)), rtol=1e-6)
    parent = result.raster.parent
    for i, spot in enumerate(result.raster.spots):
        pixels = parent == spot
        inside = (found.shares[:, pixels] @ result.counts[pixels]).sum(axis=0)
        together = np.asarray(inside + found.outside[[i]].toarray()).ravel()
        np.testing.assert_allclose(together, result.slide.counts[[spot]].toarray()[0], rtol=1e-6)


def test_cell_gets_the_counts_of_its_part_of_each_pixel(result):
    side, (x, y) = result.raster.pixel_size, result.raster.centers[50]
    cell = shapely.box(x - side / 2, y - side / 2, x, y + side / 2)
    found = cells(result, CellPolygons(name="n", ids=np.array(["a"]), polygons=np.array([cell])))
    np.testing.assert_allclose(found.counts.toarray()[0], result.counts[[50]].toarray()[0] / 2, rtol=1e-6)
    assert found.obs[["n_pixels", "n_spots", "n_sharing"]].iloc[0].tolist() == [1, 1, 0]
    np.testing.assert_allclose(found.obs[["area", "covered"]].iloc[0], [side**2 / 2, 1])
    np.testing.assert_allclose(found.centroids, [[x - side / 4, y]])


def test_denser_cells_get_more_and_all_counts_are_kept(result):
    side, (x, y) = result.raster.pixel_size, result.raster.centers[50]
    cell = shapely.box(x - side / 2, y - side / 2, x, y + side / 2)
    one = CellPolygons(name="n", ids=np.array(["a"]), polygons=np.array([cell]))
    found = cells(result, one, density_ratio=3.0)
    np.testing.assert_allclose(found.counts.toarray()[0], result.counts[[50]].toarray()[0] * 0.75, rtol=1e-6)
    np.testing.assert_allclose(found.obs["area"], side**2 / 2)
    several = cells(result, circles(result), density_ratio=3.0)
    total = np.asarray(several.counts.astype(float).sum(axis=0) + several.outside.astype(float).sum(axis=0))
    np.testing.assert_allclose(total, np.asarray(result.counts.astype(float).sum(axis=0)), rtol=1e-6)
    assert several.fraction_outside < cells(result, circles(result)).fraction_outside
    for ratio in (0, 1e-300, np.nan, np.inf):
        with pytest.raises(SettingsError, match=r"between 0\.001 and 1000"):
            cells(result, one, density_ratio=ratio)


@pytest.mark.parametrize(
    "polygon", [None, shapely.Polygon(), shapely.Polygon([(0, 0), (60, 60), (60, 0), (0, 60)])], ids=str
)
def test_invalid_polygons_of_a_script_are_refused(result, polygon):
    wrong = CellPolygons(name="nuclei", ids=np.arange(2), polygons=np.array([polygon, shapely.box(0, 0, 60, 60)]))
    with pytest.raises(InputError, match="'nuclei' has invalid polygons; repair them"):
        cells(result, wrong)


def test_missing_store_of_the_cells_is_named(result, tmp_path):
    with pytest.raises(InputError, match=r"no store with cells at '.*missing.zarr'"):
        cells(result, "nuclei", slide=tmp_path / "missing.zarr")


def test_expression_of_a_cell_is_its_sum_over_the_area(result):
    found = cells(with_expression(result, [0, 2]), circles(result))
    expected = found.shares @ with_expression(result, [0, 2]).expression
    np.testing.assert_allclose(found.expression.toarray(), expected.toarray(), rtol=1e-6)
    assert cells(result, circles(result)).expression is None


def test_cells_outside_the_pixels_are_left_out_with_a_notice(result):
    found = cells(result, circles(result))
    assert 13 not in found.cells.ids
    assert len(found.obs) == len(found.cells.ids) == found.counts.shape[0] == 12
    assert "Left out 1 cell outside the pixels" in " ".join(found.notices)
    assert "divided equally" in " ".join(found.notices)


def test_number_of_cells_that_share_a_spot(result):
    raster = result.raster
    spot = raster.spots[7]
    centers = raster.centers[raster.parent == spot]
    small = shapely.buffer(shapely.points(centers[[0, 4, 8]]), 3)
    other = shapely.Point(raster.centers[raster.parent == raster.spots[20]].mean(axis=0)).buffer(3)
    found = cells(result, CellPolygons(name="n", ids=np.arange(4), polygons=np.append(small, other)))
    assert found.obs["n_sharing"].tolist() == [2, 2, 2, 0]


def test_std_of_a_multinomial_split_is_binomial():
    result = make_result(factor=3.0)
    x, total = result.counts.toarray(), result.slide.counts.toarray()[result.raster.parent]
    p = np.divide(x, total, out=np.zeros_like(x), where=total > 0)
    result = dataclasses.replace(result, std=type(result.counts)(np.sqrt(total * p * (1 - p))))
    found = cells(result, circles(result))
    portion = found.shares.toarray()
    expected = np.zeros(found.counts.shape)
    for spot in result.raster.spots:
        pixels = result.raster.parent == spot
        inside = portion[:, pixels] @ p[pixels]
        expected += total[pixels][0] * inside * (1 - inside)
    np.testing.assert_allclose(found.std.toarray(), np.sqrt(expected), rtol=1e-4, atol=1e-4)
    assert found.std.max() > 1


def test_cell_that_covers_whole_spots_has_no_deviation():
    result = make_result(factor=3.0, std=True)
    whole = shapely.box(*result.raster.centers.min(axis=0) - 1e3, *result.raster.centers.max(axis=0) + 1e3)
    found = cells(result, CellPolygons(name="n", ids=np.array([1]), polygons=np.array([whole])))
    np.testing.assert_allclose(found.std.toarray(), 0, atol=1e-2)
    np.testing.assert_allclose(found.counts.toarray(), np.asarray(result.counts.astype(float).sum(axis=0)), rtol=1e-6)
    assert found.fraction_outside == 0


def test_labels_and_their_outlines_give_the_same_counts(result):
    low, side = result.raster.centers.min(axis=0), result.raster.pixel_size
    to_intrinsic = np.array([[side / 2, 0, low[0]], [0, side / 2, low[1]], [0, 0, 1]])
    labels = CellLabels(
        name="n",
        ids=np.array([4, 9]),
        owner=np.array([0, 0, 1]),
        row=np.array([3, 4, 8]),
        start=np.array([2, 2, 1]),
        stop=np.array([7, 7, 9]),
        shape=(20, 20),
        to_intrinsic=to_intrinsic,
    )
    outlines = [shapely.box(2, 3, 7, 5), shapely.box(1, 8, 9, 9)]
    moved = shapely.transform(np.array(outlines), lambda points: points * side / 2 + low)
    found, expected = (
        cells(result, one) for one in (labels, CellPolygons(name="n", ids=np.array([4, 9]), polygons=moved))
    )
    np.testing.assert_allclose(found.counts.toarray(), expected.counts.toarray(), rtol=1e-6)
    np.testing.assert_allclose(found.centroids, expected.centroids)
    np.testing.assert_allclose(found.obs["area"], expected.obs["area"])


def test_cells_of_another_place_are_refused(result):
    far = CellPolygons(name="nuclei", ids=np.array([1]), polygons=np.array([shapely.Point(1e6, 1e6).buffer(5)]))
    with pytest.raises(InputError, match="No cell of 'nuclei' overlaps the pixels"):
        cells(result, far)


def test_same_cells_give_the_same_bytes(result):
    first, second = (cells(result, circles(result)).counts for _ in range(2))
    assert same_bytes(first, second)


def test_progress_is_reported_and_cancellation_stops(result):
    steps = []
    cells(result, circles(result), progress=steps.append)
    assert [step.done for step in steps] == [1, 2]
    with pytest.raises(Cancelled):
        cells(result, circles(result), should_stop=lambda: True)
