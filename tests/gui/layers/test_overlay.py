from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import shapely
from helpers.spot_layers import spot_colors
from napari.components import ViewerModel
from napari.layers import Layer

from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.layers import overlay as overlay_module
from napari_srast.gui.layers.factory import image_affine, role_of, slide_layer_data
from napari_srast.gui.layers.gene_colors import MAP_NAME, PALETTE, map_colormap
from napari_srast.gui.layers.gene_layer import default_genes
from napari_srast.gui.layers.layer_stack import LayerStack
from napari_srast.gui.layers.overlay import MAX_GENES, Overlay
from napari_srast.gui.state.gene_values import GeneValues

pytestmark = pytest.mark.gui


@pytest.fixture
def setup(
    skewed_slide: Slide, make_result: Callable[..., UpsampleResult]
) -> tuple[Overlay, ViewerModel, UpsampleResult, list[int]]:
    viewer, calls, result = ViewerModel(), [], make_result(skewed_slide, std=True)
    return Overlay(viewer, GeneValues.of(result), lambda: calls.append(1)), viewer, result, calls


def _gene_layers(viewer: ViewerModel) -> list[str]:
    return [layer.name for layer in viewer.layers if role_of(layer) == "gene" and layer.visible]


def test_show_displays_the_expression_of_genes(
    setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]],
) -> None:
    overlay, viewer, result, _ = setup
    overlay.show(["Gene1", "Gene3"])
    assert _gene_layers(viewer) == ["Gene1", "Gene3"]
    np.testing.assert_array_equal(viewer.layers["Gene3"].data, result.gene_image("Gene3", "expression"))
    assert viewer.layers["Gene1"].blending == "additive"
    assert [s.color for s in overlay.shown] == list(PALETTE[:2])


def test_free_layers_are_reused_and_colors_kept(
    setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]],
) -> None:
    overlay, viewer, result, _ = setup
    overlay.show(["Gene0", "Gene1", "Gene3"])
    n_layers = len(viewer.layers)
    overlay.show(["Gene0", "Gene3"])
    assert _gene_layers(viewer) == ["Gene0", "Gene3"]
    overlay.show(["Gene0", "Gene3", "Gene5"])
    assert len(viewer.layers) == n_layers
    assert {s.gene: s.color for s in overlay.shown} == {"Gene0": PALETTE[0], "Gene5": PALETTE[1], "Gene3": PALETTE[2]}
    np.testing.assert_array_equal(viewer.layers["Gene5"].data, result.gene_image("Gene5", "expression"))


def test_at_most_six_genes_are_shown(setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]]) -> None:
    overlay, viewer, result, _ = setup
    overlay.show(list(result.genes[:MAX_GENES]))
    assert len({s.color for s in overlay.shown}) == MAX_GENES
    with pytest.raises(ValueError, match="at most 6"):
        overlay.show(list(result.genes[: MAX_GENES + 1]))
    assert len(_gene_layers(viewer)) == MAX_GENES


def test_one_gene_is_a_perceptual_map_and_several_are_added_colors(
    setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]],
) -> None:
    overlay, viewer, _, _ = setup
    overlay.show(["Gene0"])
    layer = viewer.layers["Gene0"]
    assert (layer.colormap.name, layer.blending) == (MAP_NAME, "translucent_no_depth")
    assert layer.colormap.map(np.zeros(1))[0, 3] == 0  # the histology is visible where there are few counts
    assert layer.colormap.map(np.ones(1))[0, 3] > 0.9
    overlay.show(["Gene0", "Gene1"])
    assert (layer.colormap.name, layer.blending) == (PALETTE[0], "additive")
    np.testing.assert_allclose(layer.colormap.map(np.zeros(1)), [[0, 0, 0, 1]])
    overlay.show(["Gene0"])
    assert (layer.colormap.name, layer.blending) == (MAP_NAME, "translucent_no_depth")


@pytest.mark.parametrize(("name", "blending"), [("viridis", "translucent_no_depth"), ("magenta", "additive")])
def test_colormap_of_naparis_controls_is_kept(
    name: str, blending: str, setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]]
) -> None:
    overlay, viewer, result, _ = setup
    overlay.show(["Gene0"])
    layer = viewer.layers["Gene0"]
    layer.colormap = name
    assert layer.blending == blending
    (style,) = overlay.shown
    values = np.linspace(*style.limits, 7)
    expected = layer.colormap.map(np.linspace(0, 1, 7))
    np.testing.assert_allclose(style.rgba(values), expected, atol=0.03)
    overlay.set_view("before")
    spots = viewer.layers["SRast measured spots"]
    measured = result.slide.counts[:, 0].toarray()[:, 0] / result.raster.n_pixels_per_spot
    np.testing.assert_allclose(spot_colors(spots, result.slide)[:, :3], style.rgba(measured)[:, :3], atol=1e-5)
    overlay.show(["Gene0", "Gene1"])
    assert layer.colormap.name == name
    overlay.show(["Gene1"])
    overlay.show(["Gene1", "Gene3"])  # the layer of another gene forgets it
    assert layer.colormap.name != name


def test_opacity_decreases_with_the_number_of_genes(
    setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]],
) -> None:
    overlay, viewer, result, _ = setup
    overlay.show(list(result.genes[:1]))
    assert viewer.layers["Gene0"].opacity == 1
    overlay.show(list(result.genes[:4]))
    assert {viewer.layers[str(gene)].opacity for gene in result.genes[:4]} == {0.5}


def test_what_is_shown_first_is_no_gene_of_a_few_lucky_counts(
    skewed_slide: Slide, make_result: Callable[..., UpsampleResult]
) -> None:
    result = make_result(skewed_slide)
    counts = result.counts.tolil()
    counts[1:, 8] = 0
    skill = np.array([0.01, 0.03, np.nan, 0.02, -0.5, 0.0, 0.0, 0.0, 0.9])
    result = dataclasses.replace(result, counts=counts.tocsr(), skill=skill)
    totals = np.asarray(counts.sum(axis=0)).ravel()
    assert default_genes(result, totals) == [f"Gene{np.argmax(np.nan_to_num(skill) * totals)}"] != ["Gene8"]


def test_before_has_the_scale_of_after(
    setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]],
) -> None:
    overlay, viewer, result, _ = setup
    overlay.show(["Gene0"])
    overlay.set_view("before")
    assert _gene_layers(viewer) == []
    spots = viewer.layers["SRast measured spots"]
    assert spots.visible
    low, high = overlay.shown[0].limits
    measured = result.slide.counts[:, 0].toarray()[:, 0] / result.raster.n_pixels_per_spot
    level = np.clip((measured - low) / (high - low), 0, 1)
    colors = spot_colors(spots, result.slide)
    np.testing.assert_allclose(colors, map_colormap().map(level), atol=0.02)
    assert spots.blending == viewer.layers["Gene0"].blending == "translucent_no_depth"
    assert colors[level == 0, 3].max(initial=0) == 0  # a spot without counts shows the tissue below it
    overlay.set_view("after")
    assert not spots.visible
    assert _gene_layers(viewer) == ["Gene0"]


def test_unchanged_layers_emit_no_events(
    setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]],
) -> None:
    overlay, viewer, _, _ = setup
    overlay.show(["Gene0", "Gene1"])
    overlay.set_view("before")
    overlay.set_view("after")
    changes: list[str] = []
    for layer in viewer.layers:
        for name in ("visible", "opacity", "set_data"):
            layer.events[name].connect(lambda event: changes.append(event.type))
    overlay.show(["Gene0", "Gene1"])
    assert changes == []
    overlay.set_view("before")
    assert changes.count("visible") == 3  # two genes go, the spots come
    overlay.show(["Gene0", "Gene1"])
    assert changes.count("visible") == 3


def test_std_view_shows_the_standard_deviation(
    setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]],
) -> None:
    overlay, viewer, result, _ = setup
    overlay.show(["Gene0"])
    overlay.set_view("std")
    np.testing.assert_array_equal(viewer.layers["Gene0"].data, result.gene_image("Gene0", "std"))
    overlay.set_view("after")
    np.testing.assert_array_equal(viewer.layers["Gene0"].data, result.gene_image("Gene0", "expression"))


def test_a_gene_without_counts_is_black(setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]]) -> None:
    overlay, viewer, result, _ = setup
    overlay.show(["Gene2"])  # zero everywhere
    assert result.gene_image("Gene2", "expression").size
    assert overlay.shown[0].limits == (0.0, 1.0)
    assert not np.nansum(viewer.layers["Gene2"].data)


def test_a_layer_that_the_user_deletes_is_forgotten(
    setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]],
) -> None:
    overlay, viewer, _, calls = setup
    overlay.show(["Gene0", "Gene1"])
    calls.clear()
    viewer.layers.remove("Gene0")
    assert calls
    assert overlay.genes == ["Gene1"]
    overlay.show(["Gene0", "Gene1"])
    assert sorted(_gene_layers(viewer)) == ["Gene0", "Gene1"]


@pytest.mark.parametrize("works", [0, 1, 2])
def test_no_image_of_another_view_is_left_after_an_error(
    works: int, skewed_slide: Slide, make_result: Callable[..., UpsampleResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, result, errors = ViewerModel(), make_result(skewed_slide, std=True), []
    overlay = Overlay(viewer, GeneValues.of(result), lambda: None, on_error=errors.append)
    overlay.show(["Gene0", "Gene1", "Gene3", "Gene4"])
    overlay.show(["Gene0", "Gene1", "Gene3"])
    error, paint, calls = MemoryError("full"), overlay_module.render_gene, []

    def paint_some(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > works:
            raise error
        return paint(*args)

    with monkeypatch.context() as full:
        full.setattr(overlay_module, "render_gene", paint_some)
        overlay.set_view("std")
    assert errors == [error]
    assert overlay.view == "std"
    assert overlay.genes == _gene_layers(viewer) == ["Gene0", "Gene1"][:works]
    for gene in overlay.genes:
        np.testing.assert_array_equal(viewer.layers[gene].data, result.gene_image(gene, "std"))
    overlay.show(["Gene1", "Gene3", "Gene4"])
    for gene in ("Gene1", "Gene3", "Gene4"):
        np.testing.assert_array_equal(viewer.layers[gene].data, result.gene_image(gene, "std"))
    with monkeypatch.context() as full:
        full.setattr(overlay_module, "render_gene", paint_some)
        overlay.show(["Gene1", "Gene5"])  # in the layer of another gene
    assert errors == [error, error]
    assert overlay.genes == _gene_layers(viewer) == ["Gene1"]
    overlay.set_view("after")
    overlay.show(["Gene1", "Gene5"])
    for gene in ("Gene1", "Gene5"):
        np.testing.assert_array_equal(viewer.layers[gene].data, result.gene_image(gene, "expression"))
    assert len(errors) == 2


def test_layers_are_added_one_per_step_with_a_scheduler(
    skewed_slide: Slide, make_result: Callable[..., UpsampleResult]
) -> None:
    viewer, result, queue = ViewerModel(), make_result(skewed_slide), []
    overlay = Overlay(viewer, GeneValues.of(result), lambda: None, queue.append)
    genes = ["Gene0", "Gene1", "Gene3"]
    overlay.show(genes)
    seen = []
    while queue:
        assert overlay.genes == genes
        seen.append((len(viewer.layers), len(_gene_layers(viewer)), len(overlay.shown)))
        (show_next,) = queue
        queue.clear()
        show_next()
    # The backdrop first, then each gene: its layer is added, and drawn the next time.
    assert seen == [(0, 0, 0), (1, 0, 0), (2, 0, 0), (2, 1, 1), (3, 1, 1), (3, 2, 2), (4, 2, 2)]
    assert _gene_layers(viewer) == genes
    assert {viewer.layers[gene].opacity for gene in genes} == {3**-0.5}

    overlay.show([*genes, "Gene4", "Gene5"])
    queue.pop()()
    assert len(viewer.layers) == 5
    assert _gene_layers(viewer) == genes
    overlay.show(["Gene4"])  # its layer is there already, so it is shown at once
    assert _gene_layers(viewer) == ["Gene4"]
    overlay.show([*genes, "Gene4", "Gene5", "Gene6"])
    late = list(queue)
    overlay.remove()
    for show_next in late:  # too late: the result is gone
        show_next()
    assert len(viewer.layers) == 0


def test_replacing_the_result_reuses_the_layers(
    skewed_slide: Slide,
    setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]],
    make_result: Callable[..., UpsampleResult],
) -> None:
    overlay, viewer, _, _ = setup
    overlay.show(["Gene0", "Gene1"])
    overlay.set_view("std")
    n_layers = len(viewer.layers)
    finer = make_result(skewed_slide, Region(shapely.box(-50, -50, 250, 250)), factor=3.0)
    overlay.replace(GeneValues.of(finer))
    assert _gene_layers(viewer) == []
    overlay.show(["Gene1", "Gene4"])
    assert len(viewer.layers) == n_layers
    assert _gene_layers(viewer) == ["Gene1", "Gene4"]
    for name in ("Gene1", "Gene4"):
        np.testing.assert_array_equal(viewer.layers[name].data, finer.gene_image(name, "expression"))
        np.testing.assert_allclose(
            viewer.layers[name].affine.affine_matrix, image_affine(skewed_slide.to_cs @ finer.raster.affine)
        )


def test_layers_follow_the_slide_below_the_region(
    skewed_slide: Slide, setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]]
) -> None:
    from napari_srast.gui.layers.regions import RegionLayer

    overlay, viewer, result, _ = setup
    RegionLayer(viewer, lambda: None).draw("polygon")
    overlay.show(["Gene0"])
    overlay.set_view("before")
    assert role_of(viewer.layers[-1]) == "region"
    turned = dataclasses.replace(skewed_slide, coordinate_system="turned")
    overlay.set_slide(turned)
    overlay.show(["Gene0", "Gene4"])  # a new gene is in the new system, too
    for name in ("Gene0", "Gene4"):
        np.testing.assert_allclose(
            viewer.layers[name].affine.affine_matrix, image_affine(turned.to_cs @ result.raster.affine)
        )
    overlay.remove()
    assert [role_of(layer) for layer in viewer.layers] == ["region_halo", "region"]


def test_histology_below_genes_is_its_luminance_unless_it_is_at_full_brightness(
    skewed_slide: Slide, make_result: Callable[..., UpsampleResult]
) -> None:
    viewer, result = ViewerModel(), make_result(skewed_slide)
    layers = [Layer.create(*data) for data in slide_layer_data(skewed_slide)]
    viewer.layers.extend(layers)
    stack = LayerStack(viewer, lambda: layers)
    overlay = Overlay(viewer, GeneValues.of(result), lambda: None, stack=stack)
    overlay.show(["Gene0"])
    backdrop = viewer.layers["SRast backdrop"]
    assert viewer.layers.index(backdrop) == viewer.layers.index(layers[-1]) + 1
    red, green, blue = (channel.astype(float) for channel in skewed_slide.image.levels[0])
    np.testing.assert_allclose(backdrop.data[0], 0.299 * red + 0.587 * green + 0.114 * blue, atol=1)
    np.testing.assert_array_equal(backdrop.affine.affine_matrix, layers[0].affine.affine_matrix)
    overlay.set_brightness(0.5)
    assert backdrop.opacity == 1
    half = backdrop.contrast_limits[1] - backdrop.contrast_limits[0]
    overlay.set_brightness(0.25)
    assert backdrop.contrast_limits[1] - backdrop.contrast_limits[0] == pytest.approx(2**0.8 * half)
    overlay.set_brightness(1.0)
    assert backdrop.opacity == 0
    layers[0].visible = False  # the user hides the histology
    assert backdrop.opacity == 1
    assert backdrop.contrast_limits[1] > 1e4


def test_background_is_black_without_histology(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    viewer, result = ViewerModel(), make_result(make_slide())
    overlay = Overlay(viewer, GeneValues.of(result), lambda: None)
    overlay.show(["Gene0"])
    assert viewer.layers["SRast backdrop"].opacity == 1
    overlay.set_brightness(0.8)
    assert viewer.layers["SRast backdrop"].opacity == 1
    overlay.show([])
    assert not viewer.layers["SRast backdrop"].visible


def test_genes_are_covered_while_an_owner_shows_something_else(
    setup: tuple[Overlay, ViewerModel, UpsampleResult, list[int]],
) -> None:
    overlay, viewer, _, _ = setup
    overlay.show(["Gene1", "Gene3"])
    overlay.cover("cells", is_covered=True)
    overlay.cover("signatures", is_covered=True)
    assert _gene_layers(viewer) == []
    viewer.layers["Gene1"].visible = True
    assert [style.gene for style in overlay.shown] == ["Gene1", "Gene3"]
    overlay.set_view("before")
    assert not any(layer.visible for layer in viewer.layers if role_of(layer) == "measured")
    assert any(layer.visible for layer in viewer.layers if role_of(layer) == "dimmer")
    overlay.cover("cells", is_covered=False)
    overlay.set_view("after")
    assert _gene_layers(viewer) == []
    overlay.cover("signatures", is_covered=False)
    assert _gene_layers(viewer) == ["Gene1", "Gene3"]
