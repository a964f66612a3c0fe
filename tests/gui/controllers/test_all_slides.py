"""All open slides next to each other, through the check box of the panel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from helpers.spot_layers import spot_colors, spot_positions
from helpers.window import PATIENCE, SQUARE, click, visible, wait_ready, wait_shown
from napari.layers import Shapes
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QListView

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.controllers import all_slides
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.layers.regions import shape_polygons
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.gene_values import ValueView
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def show(qtbot: Any, widget: SRastWidget, slide: Slide, result: UpsampleResult | None = None) -> SlideSession:
    """Open a slide, and a result of it that shows its first gene."""
    controller = widget.controller
    controller.slides.show(LoadedSlide(slide=slide, source=None))
    wait_ready(qtbot, widget)
    session = controller.slides.current
    assert session is not None
    if result is not None:
        controller.results.add_saved(session, prepare_for_display(result))
        wait_shown(qtbot, widget)
        widget.result_panel.model.check(["Gene0"], only=True)
        wait_shown(qtbot, widget)
        widget.tabs.setCurrentIndex(0)
    return session


def switch_on(qtbot: Any, widget: SRastWidget) -> None:
    box = widget.slide_panel.all_slides
    qtbot.waitUntil(box.isVisible, timeout=PATIENCE)
    click(qtbot, box)
    wait_settled(qtbot, widget)


def wait_settled(qtbot: Any, widget: SRastWidget) -> None:
    pictures = widget.controller.all_slides
    qtbot.wait(40)  # a change is followed when the window was drawn
    qtbot.waitUntil(lambda: pictures.is_settled, timeout=PATIENCE)


def state_of(viewer: Any) -> list[tuple[Any, ...]]:
    """Return everything that a user sees of each layer, in their order, and of the camera."""
    camera = viewer.scene.camera
    state: list[tuple[Any, ...]] = [(tuple(camera.center), camera.zoom)]
    for layer in viewer.layers:
        limits = tuple(getattr(layer, "contrast_limits", ()))
        affine = np.asarray(layer.affine.affine_matrix).tobytes()
        colors = np.asarray(getattr(layer, "face_color", 0)).tobytes()
        colormap = getattr(getattr(layer, "colormap", None), "name", None)
        units = tuple(map(str, layer.units))
        state.append((layer.name, layer.visible, layer.opacity, affine, *layer.scale, limits, colors, colormap, units))
    return state


@pytest.fixture
def two_results(
    widget: SRastWidget, qtbot: Any, make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> list[SlideSession]:
    """Two slides with results; the second has ten times the counts, and is the current one."""
    slides = [make_slide(6, 7), make_slide(8, 5, depth=200.0, seed=1)]
    return [show(qtbot, widget, slide, make_result(slide)) for slide in slides]


def test_switching_off_restores_everything(widget: SRastWidget, qtbot: Any, two_results: list[SlideSession]) -> None:
    controller, viewer = widget.controller, widget.controller.viewer
    controller.regions.add(SQUARE)
    first, second = two_results
    first.overlay.set_style("Gene0", limits=(1.0, 3.0))
    controller.results.overlay.set_style("Gene0", limits=(0.5, 40.0))
    before, genes = state_of(viewer), [one.overlay.genes for one in two_results]
    switch_on(qtbot, widget)
    assert len(visible(widget, "neighbor")) == 3  # names, backdrop and pixels
    assert state_of(viewer) != before
    controller.slides.switch(first)  # takes over genes and limits of the second
    wait_settled(qtbot, widget)
    assert first.overlay.shown[0].limits == second.overlay.shown[0].limits
    controller.slides.switch(second)
    wait_settled(qtbot, widget)
    click(qtbot, widget.slide_panel.all_slides)
    assert [one.overlay.genes for one in two_results] == genes
    viewer.scene.camera.center, viewer.scene.camera.zoom = before[0]  # after switching it fits the current slide
    assert state_of(viewer) == before
    switch_on(qtbot, widget)
    click(qtbot, widget.slide_panel.all_slides)
    assert state_of(viewer) == before  # without switching, the camera is back, too


def test_results_share_gene_colors_and_limits(widget: SRastWidget, qtbot: Any, two_results: list[SlideSession]) -> None:
    first, second = two_results
    high = [one.overlay.shown[0].limits[1] for one in two_results]
    widget.controller.slides.switch(first)
    switch_on(qtbot, widget)
    (style,) = first.overlay.shown
    assert style.limits[1] == pytest.approx(max(high))
    assert max(high) > 3 * high[0]
    (pixels,) = (one for one in widget.controller.viewer.layers if "copy of SRast compared pixels" in one.name)
    raster = second.result.result.raster
    drawn = np.asarray(pixels.data)[raster.row, raster.col]
    expected = style.rgba(second.result.values.of_pixels("Gene0", ValueView()))
    np.testing.assert_allclose(drawn, expected, atol=1e-5)
    assert "same on all slides" in widget.result_panel.legend.all_slides.text()
    widget.result_panel.legend.set_style("Gene0", limits=(0.0, 7.0))
    wait_settled(qtbot, widget)
    drawn = np.asarray(pixels.data)[raster.row, raster.col]
    expected = first.overlay.shown[0].rgba(second.result.values.of_pixels("Gene0", ValueView()))
    np.testing.assert_allclose(drawn, expected, atol=1e-5)
    click(qtbot, widget.slide_panel.all_slides)
    assert first.overlay.shown[0].limits == (0.0, 7.0)  # the user's choice stays


def test_measured_counts_share_the_limit(
    widget: SRastWidget, qtbot: Any, make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_slides, "ENTRIES_AT_ONCE", 0)  # counts are found in the background
    deep = make_slide(8, 5, depth=200.0, seed=1)
    show(qtbot, widget, deep)
    shallow = show(qtbot, widget, make_slide(6, 7))
    controller = widget.controller
    controller.preview.show("Gene1")
    own = controller.preview.text
    switch_on(qtbot, widget)
    assert controller.preview.text.endswith("on all slides")
    (spots,) = (one for one in controller.viewer.layers if one.visible and "copy of slide spots" in one.name)
    real = next(layer for layer in shallow.layers if role_of(layer) == "spots")
    assert spots.contrast_limits == real.contrast_limits
    assert spots.contrast_limits[1] > 100
    controller.preview.show("Gene2")  # zero everywhere
    wait_settled(qtbot, widget)
    assert spots.contrast_limits == real.contrast_limits == [0, 1]
    controller.preview.show("Gene1")
    wait_settled(qtbot, widget)
    click(qtbot, widget.slide_panel.all_slides)
    assert controller.preview.text == own


def test_switching_keeps_the_view_and_regions_go_to_the_current_slide(
    widget: SRastWidget, qtbot: Any, make_slide: Callable[..., Slide]
) -> None:
    sessions = [show(qtbot, widget, make_slide(6, 7, unit="mm")), show(qtbot, widget, make_slide(6, 7, unit="um"))]
    first, second = sessions
    controller, viewer = widget.controller, widget.controller.viewer
    controller.preview.show("Gene4")
    switch_on(qtbot, widget)

    def on_screen(session: SlideSession) -> np.ndarray:
        """Return where the spots of a slide are on the canvas, in pixels relative to its center."""
        names = ("slide spots", "slide spots [1]")
        layers = [one for one in viewer.layers if one.visible and one.name.removeprefix("SRast copy of ") in names]
        is_current = session is controller.slides.current
        (layer,) = (one for one in layers if (role_of(one) == "spots") == is_current)
        center = np.asarray(viewer.scene.camera.center)[-2:][::-1]
        return (spot_positions(layer, session.slide) - center) * viewer.scene.camera.zoom

    before = [on_screen(session) for session in sessions]
    controller.slides.switch(first)
    wait_settled(qtbot, widget)
    for session, positions in zip(sessions, before, strict=True):
        np.testing.assert_allclose(on_screen(session), positions, atol=1e-3)
    assert controller.preview.gene == "Gene4"
    assert {str(unit) for layer in viewer.layers for unit in layer.units} == {"millimeter"}
    controller.regions.add(SQUARE)
    assert controller.regions.n_spots_inside() == 9
    assert second.region_layer.layer is None
    click(qtbot, widget.slide_panel.all_slides)
    assert controller.preview.gene is None


def test_what_does_not_fit_next_to_other_slides_hides_them(
    widget: SRastWidget, qtbot: Any, two_results: list[SlideSession]
) -> None:
    controller = widget.controller
    for act in (
        lambda: click(qtbot, widget.result_panel.views["side_by_side"]),
        lambda: controller.viewer.layers.remove("SRast names of slides"),
        lambda: click(qtbot, widget.slide_panel.close_slide),
    ):
        switch_on(qtbot, widget)
        act()
        qtbot.waitUntil(lambda: not controller.all_slides.is_on, timeout=PATIENCE)
        qtbot.waitUntil(lambda: visible(widget, "neighbor") == [], timeout=PATIENCE)
        assert not widget.slide_panel.all_slides.isChecked()
        widget.result_panel.set_view("after")
    assert not widget.slide_panel.all_slides.isVisible()  # one slide is left


def test_spots_and_results_alternate_on_all_slides(
    widget: SRastWidget, qtbot: Any, two_results: list[SlideSession]
) -> None:
    switch_on(qtbot, widget)
    pictures = ("SRast copy of SRast backdrop", "SRast copy of SRast compared pixels")
    assert [name for name in visible(widget, "neighbor") if "copy" in name] == [*pictures]
    widget.controller.preview.show("Gene1")  # as a click in the list of genes does
    wait_settled(qtbot, widget)
    assert [name for name in visible(widget, "neighbor") if "copy" in name] == ["SRast copy of slide spots"]
    widget.tabs.setCurrentIndex(1)
    wait_settled(qtbot, widget)
    assert [name for name in visible(widget, "neighbor") if "copy" in name] == [*pictures]
    click(qtbot, widget.result_panel.views["before"])
    wait_settled(qtbot, widget)
    assert "SRast copy of SRast measured spots" in visible(widget, "neighbor")


def test_names_state_what_is_missing(
    widget: SRastWidget,
    qtbot: Any,
    make_slide: Callable[..., Slide],
    make_result: Callable[..., UpsampleResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        all_slides.AllSlides, "_caption_pixels", lambda self, place: 500.0
    )  # the canvas of a test is small
    show(qtbot, widget, make_slide(6, 6, unit="unknown"))
    coarse = make_slide(5, 5, pitch=300.0, spot_diameter=300.0)
    show(qtbot, widget, coarse, make_result(coarse, genes=["Gene3", "Gene4"]))
    slide = make_slide(6, 7)
    show(qtbot, widget, slide, make_result(slide))
    switch_on(qtbot, widget)
    layer = widget.controller.viewer.layers["SRast names of slides"]
    assert list(layer.text.values) == [
        "slide (1) (not to scale, no result)",
        "slide (2) (without Gene0)",
        "slide (3) (current)",
    ]
    assert "differ in size" not in widget.result_panel.legend.all_slides.text()
    widget.result_panel.model.check(["Gene3"], only=True)
    wait_settled(qtbot, widget)
    assert "differ in size" in widget.result_panel.legend.all_slides.text()


def test_pictures_are_not_listed_and_spots_are_on_the_histology(
    open_window: Callable[[], SRastWidget], qtbot: Any, write_slide: Callable[..., Path]
) -> None:
    window = open_window()
    for name in ("breast", "colon"):
        window.open_path(write_slide(name))
        wait_ready(qtbot, window)
    (view,) = (v for v in window.window().findChildren(QListView) if type(v).__name__ == "QtLayerList")

    def listed() -> list[str]:
        rows = [row for row in range(view.model().rowCount()) if not view.isRowHidden(row)]
        return [view.model().index(row, 0).data(Qt.ItemDataRole.UserRole).name for row in rows]

    click(qtbot, window.slide_panel.all_slides)
    wait_settled(qtbot, window)
    qtbot.waitUntil(lambda: listed() == ["colon spots", "colon histology"], timeout=PATIENCE)
    viewer, slide = window.controller.viewer, window.controller.slides.sessions[0].slide
    histology, spots = (viewer.layers[f"SRast copy of breast {what}"] for what in ("histology", "spots"))
    corner = np.array(histology.data_to_world((-0.5, -0.5)))[::-1]
    to_world = slide.to_cs @ slide.image.to_intrinsic[0]
    shift = corner - to_world[:2, 2]
    np.testing.assert_allclose(
        spot_positions(spots, slide), apply_affine(slide.to_cs, slide.centers) + shift, atol=1e-3
    )
    assert spot_colors(spots, slide)[:, 3].max() > 0


def test_regions_are_drawn_on_all_slides(widget: SRastWidget, qtbot: Any, two_results: list[SlideSession]) -> None:
    controller, viewer = widget.controller, widget.controller.viewer
    (first, second), below = two_results, SQUARE + np.array([0, 150])
    controller.slides.switch(first)
    controller.regions.add(SQUARE)
    controller.regions.add(below)
    controller.slides.switch(second)
    switch_on(qtbot, widget)

    def copies() -> list[Any]:
        return [layer for layer in viewer.layers if isinstance(layer, Shapes) and role_of(layer) == "neighbor"]

    (layer,) = copies()
    assert layer.visible
    place = controller.all_slides._places[first].matrix
    for polygon, corners in zip(shape_polygons(layer), (SQUARE, below), strict=True):
        expected = shapely.Polygon(apply_affine(place, corners))
        assert shapely.Polygon(polygon).symmetric_difference(expected).area < 1e-3 * expected.area
    assert not controller.regions.foreign_shapes()
    assert layer.edge_width[0] > 0

    controller.slides.switch(first)  # its regions are drawn in their own layer again
    wait_settled(qtbot, widget)
    assert not copies()
    assert first.region_layer.layer.visible
    first.region_layer.layer.visible = False
    controller.slides.switch(second)
    wait_settled(qtbot, widget)
    assert not copies()
    click(qtbot, widget.slide_panel.all_slides)
    assert not visible(widget, "neighbor")


def test_a_slide_without_result_and_image_shows_its_spots(
    widget: SRastWidget, qtbot: Any, make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    show(qtbot, widget, make_slide(5, 6))
    slide = make_slide(6, 7)
    show(qtbot, widget, slide, make_result(slide))
    switch_on(qtbot, widget)
    shown = [layer for layer in widget.controller.viewer.layers if role_of(layer) == "neighbor" and layer.visible]
    assert [layer.name for layer in shown if "spots" in layer.name] == ["SRast copy of slide spots"]
