from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import shapely
from helpers.spot_layers import spot_positions
from napari.components import ViewerModel

from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.state.gene_values import GeneValues

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("system", ["global", "skewed", "turned"])
def test_second_picture_shows_the_same_region(
    system: str, skewed_slide: Slide, make_result: Callable[..., UpsampleResult]
) -> None:
    """Histology and spots of the second picture are shifted by the same vector, in every coordinate system."""
    slide = dataclasses.replace(skewed_slide, coordinate_system=system)
    result = make_result(skewed_slide, Region(shapely.box(-50, -50, 250, 250)))
    viewer = ViewerModel()
    overlay = Overlay(viewer, GeneValues.of(result), lambda: None)
    overlay.set_slide(slide)
    overlay.show(["Gene0"])
    overlay.set_view("side_by_side")
    _, histology, dimmer, spots = (layer for layer in viewer.layers if role_of(layer) == "side_by_side")
    world = spot_positions(spots, slide)
    original = apply_affine(slide.to_cs, slide.centers[result.raster.spots])
    shift = (world - original).mean(axis=0)
    assert shift[0] > 0
    np.testing.assert_allclose(world - original, np.tile(shift, (len(original), 1)), atol=1e-3)
    np.testing.assert_allclose(overlay.offset_at(world[0]), shift, atol=1e-3)
    np.testing.assert_array_equal(overlay.offset_at(original[0]), 0)
    # A pixel of the crop has the color of the histology at the same point.
    pixel = np.array([2, 3])
    point = np.array(histology.data_to_world(pixel))[::-1] - shift
    to_pixels = np.linalg.inv(slide.to_cs @ slide.image.to_intrinsic[0])
    col, row = np.floor(apply_affine(to_pixels, point[None])[0]).astype(int)
    np.testing.assert_array_equal(histology.data[tuple(pixel)], slide.image.levels[0][:, row, col])
    np.testing.assert_allclose(dimmer.affine.affine_matrix, histology.affine.affine_matrix)
    overlay.set_brightness(0.8)
    assert 0 < dimmer.opacity < 1
    overlay.set_view("after")
    assert [role_of(layer) for layer in viewer.layers] == ["dimmer", "gene"]
    overlay.remove()
    assert len(viewer.layers) == 0
