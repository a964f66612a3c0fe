"""Tests of all interpolations: mass balance, invariance, independence of fields, and analytic fields."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.lattices import lattice_points
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_srast.errors import SettingsError
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import INTERPOLATIONS, Interpolator

QUARTER = np.array([[0.0, 1.0], [-1.0, 0.0]])


def spots(kind: str, rows: int = 7, cols: int = 8) -> np.ndarray:
    if kind == "random":
        return np.random.default_rng(0).uniform(0, 7, (rows * cols, 2))
    return lattice_points(kind, rows, cols, pitch=1.0)


def layout_of(centers: np.ndarray, factor: float = 2.0) -> SpotPixelMap:
    return SpotPixelMap.of_raster(centers, make_raster(centers, factor=factor, spot_diameter=1.0))


def smooth_fields(centers: np.ndarray) -> np.ndarray:
    x, y = centers.T
    return np.column_stack([20 + 15 * np.sin(x), 5 * np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 4), 1 + x + 2 * y])


def sums(layout: SpotPixelMap, ratios: np.ndarray) -> np.ndarray:
    return (layout.membership @ ratios.astype(float))[layout.n_pixels_per_spot > 0]


@pytest.mark.parametrize("name", INTERPOLATIONS)
@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(["square", "hex", "random"]),
    fields=hnp.arrays(np.float32, (20, 3), elements=st.floats(0, 1e5, width=32).map(lambda v: v if v > 1e-3 else 0.0)),
)
def test_ratios_are_nonnegative_and_sum_to_one(name: str, kind: str, fields: np.ndarray) -> None:
    layout = layout_of(spots(kind, 4, 5))
    ratios = Interpolator(layout).ratios(name, fields)
    assert ratios.dtype == np.float32
    assert (ratios >= 0).all()
    np.testing.assert_allclose(sums(layout, ratios), 1, atol=1e-5)


@pytest.mark.parametrize("name", INTERPOLATIONS)
@pytest.mark.parametrize(
    "centers",
    [
        np.zeros((1, 2)),
        np.array([[0.0, 0], [1, 0]]),
        np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]]),
        np.array([[0.0, 0], [1, 1], [2, 2], [3, 3.0]]),
        np.repeat(spots("square", 3, 3), 2, axis=0),
    ],
    ids=["one", "two", "line", "diagonal", "duplicates"],
)
def test_degenerate_slides_are_interpolated(name: str, centers: np.ndarray) -> None:
    layout = layout_of(centers)
    fields = np.column_stack([np.arange(len(centers)), np.zeros(len(centers)), np.ones(len(centers))])
    ratios = Interpolator(layout).ratios(name, fields)
    assert np.isfinite(ratios).all()
    np.testing.assert_allclose(sums(layout, ratios), 1, atol=1e-5)
    uniform = 1 / layout.n_pixels_per_spot[layout.parent]
    np.testing.assert_allclose(ratios[:, 1], uniform, atol=1e-6)
    np.testing.assert_allclose(ratios[:, 2], uniform, atol=1e-4)  # a constant field


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_single_pixel_gets_all_counts(name: str) -> None:
    centers = spots("square", 3, 3)
    layout = SpotPixelMap(spots=centers, pixels=centers + 0.1, parent=np.arange(9), pitch=1.0)
    np.testing.assert_allclose(Interpolator(layout).ratios(name, smooth_fields(centers)), 1)


@pytest.mark.parametrize("name", INTERPOLATIONS)
@pytest.mark.parametrize("kind", ["square", "hex", "random"])
def test_spot_order_does_not_change_ratios(name: str, kind: str) -> None:
    centers = spots(kind)
    layout, fields = layout_of(centers), smooth_fields(centers)
    order = np.random.default_rng(1).permutation(len(centers))
    shuffled = SpotPixelMap(
        spots=centers[order] - centers.min(axis=0),
        pixels=layout.pixels,
        parent=np.argsort(order)[layout.parent],
        pitch=layout.pitch,
    )
    np.testing.assert_allclose(
        Interpolator(layout).ratios(name, fields), Interpolator(shuffled).ratios(name, fields[order]), atol=2e-5
    )


@pytest.mark.parametrize("name", INTERPOLATIONS)
@pytest.mark.parametrize("kind", ["square", "hex", "random"])
def test_quarter_turn_does_not_change_ratios(name: str, kind: str) -> None:
    centers = spots(kind)
    layout, fields = layout_of(centers), smooth_fields(centers)
    turned = SpotPixelMap(
        spots=layout.spots @ QUARTER, pixels=layout.pixels @ QUARTER, parent=layout.parent, pitch=layout.pitch
    )
    np.testing.assert_allclose(
        Interpolator(layout).ratios(name, fields), Interpolator(turned).ratios(name, fields), atol=5e-5
    )


@pytest.mark.parametrize("name", INTERPOLATIONS)
@settings(max_examples=5, deadline=None)
@given(x=st.integers(-(10**5), 10**5), y=st.integers(-(10**5), 10**5))
def test_integer_shift_does_not_change_ratios(name: str, x: int, y: int) -> None:
    centers = spots("hex", 5, 5) * 100
    fields = smooth_fields(spots("hex", 5, 5))
    np.testing.assert_allclose(
        Interpolator(layout_of(centers)).ratios(name, fields),
        Interpolator(layout_of(centers + np.array([x, y]))).ratios(name, fields),
        atol=2e-5,
    )


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_field_is_independent_of_other_fields(name: str) -> None:
    centers = spots("hex")
    fields = smooth_fields(centers)
    interpolator = Interpolator(layout_of(centers))
    together = interpolator.ratios(name, fields)
    alone = np.column_stack([interpolator.ratios(name, fields[:, [i]]) for i in range(3)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("kind", ["square", "hex", "random"])
def test_linear_gradient_is_reproduced_inside_the_hull(name: str, kind: str) -> None:
    centers = spots(kind)
    layout = layout_of(centers)
    field = 3 + layout.spots @ np.array([1.0, 2.0])
    expected = layout.normalize((3 + layout.pixels @ np.array([1.0, 2.0]))[:, None])
    middle = np.abs(layout.pixels - layout.spots.mean(axis=0)).max(axis=1) < 2
    is_inner = middle & (np.bincount(layout.parent, middle, layout.n_spots) == layout.n_pixels_per_spot)[layout.parent]
    assert is_inner.sum() > 20
    ratios = Interpolator(layout).ratios(name, field[:, None])
    np.testing.assert_allclose(ratios[is_inner], expected[is_inner], rtol=1e-3)


def test_bilinear_ratios_of_two_spots() -> None:
    layout = layout_of(spots("square", 1, 2) * 10)
    ratios = Interpolator(layout).ratios("bilinear", np.array([[4.0], [8.0]]))[:, 0]
    left = layout.parent == 0
    inner = layout.pixels[:, 0] > 0
    np.testing.assert_allclose(ratios[left & ~inner], 4 / 18)  # clamped at the border: 4, 4, 5, 5
    np.testing.assert_allclose(ratios[left & inner], 5 / 18)


def test_nearest_uses_the_nearest_spot_not_the_parent() -> None:
    layout = SpotPixelMap(
        spots=np.array([[0.0, 0], [1, 0]]),
        pixels=np.array([[0.0, 0], [0.8, 0], [1, 0]]),
        parent=np.array([0, 0, 1]),
        pitch=1.0,
    )
    np.testing.assert_allclose(Interpolator(layout).ratios("nearest", np.array([[1.0], [3.0]]))[:, 0], [0.25, 0.75, 1])


def test_pycnophylactic_smooths_a_step() -> None:
    centers = spots("square", 1, 8)
    layout = layout_of(centers, factor=4)
    field = np.where(np.arange(8) < 4, 10.0, 30.0)[:, None]
    density = Interpolator(layout).ratios("pycnophylactic", field)[:, 0] * field[layout.parent, 0]
    profile = density[np.lexsort((layout.pixels[:, 0], layout.pixels[:, 1]))][:32]
    assert np.abs(np.diff(profile)).max() < 0.5 * (30 - 10) / 16  # half the jump of the uniform split


@pytest.mark.parametrize("kind", ["square", "hex"])
def test_gp_is_best_on_a_noisy_smooth_field(kind: str) -> None:
    centers = spots(kind, 14, 14)
    layout = layout_of(centers)

    def truth(points: np.ndarray) -> np.ndarray:
        return 30 * np.exp(1.2 * np.sin(points[:, :1] / 1.5) * np.cos(points[:, 1:] / 1.7 + np.arange(8) / 2))

    rng = np.random.default_rng(0)
    observed = rng.poisson(truth(layout.spots))
    expected = layout.normalize(truth(layout.pixels))
    weight = truth(layout.spots)[layout.parent]

    def loss(name: str) -> float:
        ratios = np.clip(Interpolator(layout).ratios(name, observed), 1e-6, None)
        return float((weight * expected * np.log(expected / ratios)).sum())

    assert loss("gp") < 0.5 * loss("uniform")
    assert loss("gp") < loss("bilinear")


def test_gp_splits_pure_noise_almost_uniformly() -> None:
    centers = spots("square", 12, 12)
    layout = layout_of(centers)
    ratios = Interpolator(layout).ratios("gp", np.random.default_rng(0).poisson(3, (144, 20)))
    bilinear = Interpolator(layout).ratios("bilinear", np.random.default_rng(0).poisson(3, (144, 20)))
    assert np.mean((ratios - 0.25) ** 2) < 0.1 * np.mean((bilinear - 0.25) ** 2)


def test_given_width_is_used() -> None:
    centers = spots("square")
    interpolator, fields = Interpolator(layout_of(centers)), smooth_fields(centers)
    narrow, wide = (interpolator.ratios("gaussian", fields, width=w) for w in (0.4, 2.5))
    assert np.ptp(narrow) > np.ptp(wide)


def test_unknown_name_and_invalid_width_are_refused() -> None:
    interpolator = Interpolator(layout_of(spots("square", 2, 2)))
    with pytest.raises(SettingsError, match="kriging"):
        interpolator.ratios("kriging", np.ones((4, 1)))
    with pytest.raises(SettingsError, match="width"):
        interpolator.ratios("gaussian", np.ones((4, 1)), width=0)


def test_gp_follows_the_gradient_of_a_large_slide() -> None:
    centers = spots("hex", 28, 28)
    layout = layout_of(centers)
    selected = np.random.default_rng(0).poisson(5 + 4 * np.sin(centers[:, :1] / 3), (784, 10))
    ratios = Interpolator(layout).ratios("gp", selected)
    gradient = np.cos(layout.spots[layout.parent, 0] / 3) * (layout.pixels - layout.spots[layout.parent])[:, 0]
    excess = ratios.mean(axis=1) * layout.n_pixels_per_spot[layout.parent] - 1
    assert np.corrcoef(gradient, excess)[0, 1] > 0.7
