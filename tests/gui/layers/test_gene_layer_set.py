from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.spot_layers import spot_colors
from napari.components import ViewerModel
from napari.layers import Image

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.layers.gene_colors import GeneStyle, colormap_stops
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.state.gene_values import GeneValues

pytestmark = pytest.mark.gui


def test_layer_visibility_selects_the_gene(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    viewer, result = ViewerModel(), make_result(make_slide())
    overlay = Overlay(viewer, GeneValues.of(result), lambda: None)
    overlay.show(["Gene0", "Gene1"])
    viewer.layers["Gene0"].visible = False
    assert overlay.genes == ["Gene1"]
    assert viewer.layers["Gene1"].opacity == 1
    viewer.layers["Gene0"].visible = True
    assert overlay.genes == ["Gene0", "Gene1"]
    overlay.hide()  # another slide becomes the current one
    assert not any(layer.visible for layer in viewer.layers)
    overlay.reveal()
    assert overlay.genes == ["Gene0", "Gene1"]
    assert viewer.layers["Gene0"].visible


@pytest.mark.parametrize(("view", "name"), [("before", "measured"), ("side_by_side", "side-by-side")])
def test_measured_spots_follow_color_and_contrast(
    view: Any, name: str, make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    viewer, result = ViewerModel(), make_result(make_slide())
    overlay = Overlay(viewer, GeneValues.of(result), lambda: None)
    overlay.show(["Gene0"])
    overlay.set_view(view)
    overlay.set_style("Gene0", color="#ff0000", limits=(0.0, 1e9))
    layer = viewer.layers[f"SRast {name} spots"]
    np.testing.assert_allclose(spot_colors(layer, result.slide)[:, :3], 0, atol=1e-6)
    overlay.set_style("Gene0", limits=(0.0, 1e-9))
    counts = result.slide.counts[:, 0].toarray()[:, 0]
    colors = spot_colors(layer, result.slide)[counts > 0, :3]
    np.testing.assert_allclose(colors, [[1, 0, 0]] * int((counts > 0).sum()), atol=1e-6)
    assert overlay.shown == [GeneStyle("Gene0", "#ff0000", (0.0, 1e-9), 1.0)]
    assert viewer.layers["Gene0"].blending == "additive"


def test_one_gene_has_a_color_bar_on_the_canvas(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    viewer, result = ViewerModel(), make_result(make_slide())
    overlay = Overlay(viewer, GeneValues.of(result), lambda: None)
    overlay.show(["Gene0"])
    bar = viewer.layers["Gene0"].colorbar
    assert bar.visible
    assert bar.box_color is not None  # in a light theme, transparent colors would look white
    assert max(bar.box_color[:3]) < 0.3
    overlay.show(["Gene0", "Gene1"])
    assert not any(viewer.layers[gene].colorbar.visible for gene in ("Gene0", "Gene1"))
    overlay.show(["Gene1"])
    assert [viewer.layers[gene].colorbar.visible for gene in ("Gene0", "Gene1")] == [False, True]


def test_before_has_the_color_bar_of_the_map(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    viewer, result = ViewerModel(), make_result(make_slide())
    overlay = Overlay(viewer, GeneValues.of(result), lambda: None)
    overlay.show(["Gene0"])
    extent = viewer.layers.extent.world

    def bars() -> list[str]:
        return [one.name for one in viewer.layers if isinstance(one, Image) and one.visible and one.colorbar.visible]

    def assert_same_scale(gene: str) -> None:
        assert bars() == ["SRast color bar"]
        bar, layer = viewer.layers["SRast color bar"], viewer.layers[gene]
        assert tuple(bar.contrast_limits) == tuple(layer.contrast_limits)
        assert colormap_stops(bar.colormap) == colormap_stops(layer.colormap)

    overlay.set_view("before")
    assert_same_scale("Gene0")
    np.testing.assert_array_equal(viewer.layers.extent.world, extent)
    overlay.set_style("Gene0", limits=(0.25, 3.0))
    assert_same_scale("Gene0")
    viewer.layers["Gene0"].colormap = "viridis"  # in napari's controls
    assert_same_scale("Gene0")
    overlay.show(["Gene0", "Gene1"])
    assert bars() == []
    overlay.show(["Gene1"])
    assert_same_scale("Gene1")
    overlay.set_view("after")
    assert bars() == ["Gene1"]
    overlay.set_view("before")
    overlay.hide()
    assert bars() == []
    overlay.reveal()
    viewer.layers.remove("SRast color bar")
    overlay.set_style("Gene1", limits=(0.5, 2.0))
    assert_same_scale("Gene1")
