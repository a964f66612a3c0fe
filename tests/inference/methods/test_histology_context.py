"""Tests of the histology's evidence on coarsened slides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from scipy import ndimage, sparse

from napari_srast.calibration.holdout import CoarseSlide
from napari_srast.core.slide import SlideImage
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology.features import extract_features
from napari_srast.inference.methods.histology_context import HistologyContext
from napari_srast.inference.slide_histology import CoarseImage

SIDE, PITCH, PIXELS = 16, 100.0, 24
ORIGIN = np.array([500.0, -300.0])


def _coarse() -> tuple[CoarseSlide, np.ndarray, SlideImage]:
    """Return a coarse slide of two genes, the first of which follows the dark parts of the image, truth and image."""
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.normal(size=(SIDE * PIXELS,) * 2), 0.4 * PIXELS)
    density = np.exp(0.7 * field / field.std())
    half = PIXELS // 2
    quarters = density.reshape(2 * SIDE, half, 2 * SIDE, half).mean(axis=(1, 3))
    row, col = (a.ravel() for a in np.mgrid[:SIDE, :SIDE])
    centers = np.column_stack([col, row]) * PITCH
    layout = SpotPixelMap.of_raster(centers, make_raster(centers, factor=2, spot_diameter=PITCH, spot_shape="square"))
    quarter = np.floor((layout.pixels + PITCH / 2) / (PITCH / 2)).astype(int)
    truth = rng.poisson(np.stack([30 * quarters, np.full_like(quarters, 40.0)]))[:, quarter[:, 1], quarter[:, 0]].T
    slide = CoarseSlide(
        experts=cast(Any, SimpleNamespace(layout=layout)),
        counts=sparse.csr_matrix(layout.membership @ truth),
        truth=sparse.csr_matrix(truth),
        origin=ORIGIN,
    )
    to_intrinsic = np.array([[PITCH / PIXELS, 0, ORIGIN[0] - 50], [0, PITCH / PIXELS, ORIGIN[1] - 50], [0, 0, 1]])
    light = (255 * np.exp(-density[None] / density.max() * np.array([1.2, 1.6, 0.5])[:, None, None])).astype(np.uint8)
    return slide, truth, SlideImage(name="he", levels=(light,), to_intrinsic=(to_intrinsic,))


def test_informative_image_improves_held_out_pixels() -> None:
    slide, truth, image = _coarse()
    layout = slide.experts.layout
    features = extract_features(image, layout.spots + ORIGIN, PITCH)
    even = np.full(truth.shape, -np.log(4.0))

    def gain(coarse_image: CoarseImage | None) -> np.ndarray:
        adjusted = HistologyContext(coarse=((layout, coarse_image),)).adjust(0, even, slide.counts.toarray())
        np.testing.assert_allclose(layout.membership @ np.exp(adjusted), 1.0, rtol=1e-6)
        return np.asarray((truth * (adjusted - even)).sum(axis=0) / truth.sum(axis=0))

    follows, indifferent = gain(CoarseImage.fit(slide, image, features, np.zeros(2), seed=0))
    assert follows > 0.02
    assert abs(indifferent) < 0.01
    turned = SlideImage(name="he", levels=(image.levels[0][:, ::-1, ::-1],), to_intrinsic=image.to_intrinsic)
    wrong = extract_features(turned, layout.spots + ORIGIN, PITCH)
    assert CoarseImage.fit(slide, turned, wrong, np.zeros(2), seed=0) is None
    np.testing.assert_array_equal(gain(None), 0.0)


def test_no_image_leaves_log_ratios_unchanged() -> None:
    coarse_image = np.log(np.array([[0.3], [0.7]]))
    assert HistologyContext().adjust(0, coarse_image, np.ones((1, 1))) is coarse_image
