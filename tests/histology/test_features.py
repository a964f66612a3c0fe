"""Test image statistics and features."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.core.slide import SlideImage
from napari_srast.histology.features import StainTexture, disk_offsets, extract_features
from napari_srast.histology.streaming_statistics import level_for, stream_image_statistics


def _image(values: np.ndarray, side: float = 1.0) -> SlideImage:
    return SlideImage(name="he", levels=(values,), to_intrinsic=(np.diag([side, side, 1.0]),))


def _spots(size: float, n: int = 5) -> np.ndarray:
    along_side = (np.arange(n) + 0.5) * size / n
    x, y = np.meshgrid(along_side, along_side)
    return np.column_stack([x.ravel(), y.ravel()])


def test_strips_do_not_change_the_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 300, 280), dtype=np.uint8)
    values[:, :80] = 250
    at_once = stream_image_statistics(_image(values), _spots(280), 56.0)
    monkeypatch.setattr("napari_srast.histology.streaming_statistics._STRIP_VALUES", 1)
    strips = stream_image_statistics(_image(values), _spots(280), 56.0)
    np.testing.assert_allclose(strips.mean, at_once.mean, rtol=1e-5)
    np.testing.assert_allclose(strips.square, at_once.square, rtol=1e-5)


def test_coarsest_sufficient_level_is_chosen() -> None:
    levels = tuple(np.zeros((3, 512 // 2**i, 512 // 2**i), dtype=np.uint8) for i in range(4))
    affines = tuple(np.diag([2.0**i, 2.0**i, 1.0]) for i in range(4))
    image = SlideImage(name="he", levels=levels, to_intrinsic=affines)
    assert level_for(image, 4.0) == (2, pytest.approx(4.0))
    assert level_for(image, 3.9) == (1, pytest.approx(2.0))
    assert level_for(image, 0.5) == (0, pytest.approx(1.0))


def test_features_follow_rotation_and_scale() -> None:
    values = np.full((3, 240, 240), 240, dtype=np.uint8)
    values[:, 100:140, 160:200] = 90  # middle at pixel (180, 120)
    rotation = np.array([[0.0, -3.0, 500.0], [3.0, 0.0, -40.0], [0.0, 0.0, 1.0]])
    image = SlideImage(name="he", levels=(values,), to_intrinsic=(rotation,))
    spots = np.column_stack([500 - 3 * _spots(240)[:, 1], 3 * _spots(240)[:, 0] - 40])
    features = StainTexture().extract(image, spots, 144.0)
    red = features.names.index("mean_red_0.1")
    dark = np.array([[500 - 3 * 120.0, 3 * 180.0 - 40]])
    assert features.sample(dark)[0, red] == pytest.approx(np.log(240 / 90), rel=0.05)
    assert features.sample(dark + np.array([200.0, 0.0]))[0, red] == pytest.approx(0.0, abs=0.02)
    assert features.tissue_fraction(dark, 400.0)[0] == pytest.approx(1.0)


def test_features_are_cached_per_image_and_spots() -> None:
    class CountingExtractor:
        name, n_calls = "counting", 0

        def extract(self, image: SlideImage, spots: np.ndarray, pitch: float):
            self.n_calls += 1
            return StainTexture().extract(image, spots, pitch)

    counting, image = CountingExtractor(), _image(np.full((3, 100, 100), 200, dtype=np.uint8))
    first = extract_features(image, _spots(100), 20.0, counting)
    assert extract_features(image, _spots(100), 20.0, counting) is first
    extract_features(image, _spots(100) + 1, 20.0, counting)
    assert counting.n_calls == 2


def test_disk_offsets_cover_the_area() -> None:
    points = disk_offsets(9.0, 400)
    assert np.mean((points**2).sum(axis=1)) == pytest.approx(9.0 / np.pi / 2, rel=0.02)  # r^2 / 2
    assert np.abs(points.mean(axis=0)).max() < 0.05
