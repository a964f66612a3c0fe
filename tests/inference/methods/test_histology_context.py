"""The image's part in the check of genes on the slide coarsened once."""

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
from napari_srast.inference.methods.histology_context import HistologyContext, _CoarseImage

SIDE, PITCH, PIXELS = 16, 100.0, 24
ORIGIN = np.array([500.0, -300.0])


def _coarse() -> tuple[CoarseSlide, np.ndarray, SlideImage]:
    """Spots of two genes, the first of which lies where the image is dark; and the truth in their quarters."""
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.normal(size=(SIDE * PIXELS,) * 2), 0.4 * PIXELS)
    density = np.exp(0.7 * field / field.std())
    half = PIXELS // 2
    quarters = density.reshape(2 * SIDE, half, 2 * SIDE, half).mean(axis=(1, 3))
    row, col = (a.ravel() for a in np.mgrid[:SIDE, :SIDE])
    centers = np.column_stack([col, row]) * PITCH
    layout = SpotPixelMap.of_raster(centers, make_raster(centers, factor=2, spot_diameter=PITCH, spot_shape="square"))
    place = np.floor((layout.pixels + PITCH / 2) / (PITCH / 2)).astype(int)
    truth = rng.poisson(np.stack([30 * quarters, np.full_like(quarters, 40.0)]))[:, place[:, 1], place[:, 0]].T
    slide = CoarseSlide(
        experts=cast(Any, SimpleNamespace(layout=layout)),
        counts=sparse.csr_matrix(layout.membership @ truth),
        truth=sparse.csr_matrix(truth),
        origin=ORIGIN,
    )
    to_intrinsic = np.array([[PITCH / PIXELS, 0, ORIGIN[0] - 50], [0, PITCH / PIXELS, ORIGIN[1] - 50], [0, 0, 1]])
    light = (255 * np.exp(-density[None] / density.max() * np.array([1.2, 1.6, 0.5])[:, None, None])).astype(np.uint8)
    return slide, truth, SlideImage(name="he", levels=(light,), to_intrinsic=(to_intrinsic,))


def test_the_check_of_a_gene_knows_of_the_image_where_the_coarse_spots_bear_it_out() -> None:
    slide, truth, image = _coarse()
    layout = slide.experts.layout
    features = extract_features(image, layout.spots + ORIGIN, PITCH)
    even = np.full(truth.shape, -np.log(4.0))

    def gain(told: _CoarseImage | None) -> np.ndarray:
        refined = HistologyContext(coarse=(told,)).refine(0, even, slide.counts.toarray())
        np.testing.assert_allclose(layout.membership @ np.exp(refined), 1.0, rtol=1e-6)
        return np.asarray((truth * (refined - even)).sum(axis=0) / truth.sum(axis=0))

    follows, indifferent = gain(_CoarseImage.of(slide, image, features, seed=0))
    assert follows > 0.02
    assert abs(indifferent) < 0.01
    turned = SlideImage(name="he", levels=(image.levels[0][:, ::-1, ::-1],), to_intrinsic=image.to_intrinsic)
    wrong = extract_features(turned, layout.spots + ORIGIN, PITCH)
    assert _CoarseImage.of(slide, turned, wrong, seed=0) is None
    np.testing.assert_array_equal(gain(None), 0.0)


def test_without_an_image_the_check_stays_as_it_was() -> None:
    told = np.log(np.array([[0.3], [0.7]]))
    assert HistologyContext().refine(0, told, np.ones((1, 1))) is told
