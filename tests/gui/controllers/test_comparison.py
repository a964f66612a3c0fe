"""Compare a result with another one on the same pixels, such as the run without histology."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spatialdata
from helpers.window import PATIENCE, click, layer_names, open_slide, run, visible, wait_ready
from napari.components import ViewerModel
from spatialdata.models import Image2DModel

from napari_srast import api
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.comparison import comparable, counterpart, image_difference, meaning_of
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import image_affine
from napari_srast.gui.layers.gene_colors import gene_colormap
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.state.displayed_result import DisplayedResult, prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.state.workspace import Workspace
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui
WITH_IMAGE = {"calibration": {"image": {"used": True, "nats_expected_by_gene": [0.01] * 9}}}


@pytest.fixture
def pair(skewed_slide: Slide, make_result: Callable[..., UpsampleResult]) -> tuple[DisplayedResult, DisplayedResult]:
    """A result with histology and one without: fast interpolations that are labeled as results of srast."""
    results = [make_result(skewed_slide, method=method) for method in ("bilinear", "uniform")]
    settings = UpsampleSettings()
    with_image = dataclasses.replace(results[0], settings=settings, provenance=WITH_IMAGE)
    without = dataclasses.replace(results[1], settings=settings, provenance={"calibration": {}})
    return prepare_for_display(with_image), prepare_for_display(without)


def _overlay(shown: DisplayedResult) -> tuple[Overlay, ViewerModel]:
    viewer = ViewerModel()
    overlay = Overlay(viewer, shown.values, lambda: None)
    overlay.show(["Gene0", "Gene3"])
    return overlay, viewer


def _expected(overlay: Overlay, other: DisplayedResult) -> np.ndarray:
    """Return the RGB image of the other result with the colors and contrast of the shown genes."""
    total = np.zeros((*other.result.raster.shape, 3))
    for paint in overlay.shown:
        low, high = paint.limits
        share = np.clip((np.nan_to_num(other.result.gene_image(paint.gene, "expression")) - low) / (high - low), 0, 1)
        colors = gene_colormap(paint.color).map(share.ravel()).reshape(*share.shape, 4)
        total += colors[..., :3] * 0.5**0.5  # two genes share the brightness
    return np.minimum(total, 1)


def test_compared_result_has_the_same_colors_and_contrast(
    pair: tuple[DisplayedResult, DisplayedResult],
) -> None:
    shown, other = pair
    overlay, viewer = _overlay(shown)
    overlay.compare_with(other)
    overlay.set_view("before")
    pixels = viewer.layers["SRast compared pixels"]
    assert pixels.visible
    assert not viewer.layers["Gene0"].visible
    np.testing.assert_allclose(pixels.data[..., :3], _expected(overlay, other), atol=0.02)
    np.testing.assert_array_equal(pixels.affine.affine_matrix, viewer.layers["Gene0"].affine.affine_matrix)
    assert meaning_of(overlay) == "expression, counts per pixel: without the image"
    overlay.set_style("Gene0", limits=(0.0, 100.0))
    np.testing.assert_allclose(pixels.data[..., :3], _expected(overlay, other), atol=0.02)

    overlay.set_view("side_by_side")
    second = viewer.layers["SRast side-by-side pixels"]
    assert not pixels.visible
    assert viewer.layers["Gene0"].visible
    np.testing.assert_allclose(second.data[..., :3], _expected(overlay, other), atol=0.02)
    step = second.affine.translate[-2:] - viewer.layers["Gene0"].affine.translate[-2:]
    assert step[1] > 0
    assert step[0] == pytest.approx(0)

    overlay.compare_with(None)
    assert "SRast side-by-side pixels" not in viewer.layers
    assert viewer.layers["SRast side-by-side spots"].visible
    assert "measured" in meaning_of(overlay)


def test_comparison_follows_the_coordinate_system_and_ends_with_the_result(
    pair: tuple[DisplayedResult, DisplayedResult], skewed_slide: Slide
) -> None:
    shown, other = pair
    overlay, viewer = _overlay(shown)
    overlay.compare_with(other)
    overlay.set_view("before")
    turned = dataclasses.replace(skewed_slide, coordinate_system="turned")
    overlay.set_slide(turned)
    np.testing.assert_allclose(
        viewer.layers["SRast compared pixels"].affine.affine_matrix,
        image_affine(turned.to_cs @ other.result.raster.affine),
    )
    overlay.replace(other.values)
    assert overlay.compared is None
    assert "SRast compared pixels" not in viewer.layers


def test_only_results_on_the_same_pixels_are_comparable(
    pair: tuple[DisplayedResult, DisplayedResult], skewed_slide: Slide, make_result: Callable[..., UpsampleResult]
) -> None:
    shown, other = pair
    session = Workspace(ViewerModel()).new_session(LoadedSlide(slide=skewed_slide, source=None))
    finer = prepare_for_display(make_result(skewed_slide, factor=3.0))
    session.results = [shown, finer]
    session.result = shown
    assert comparable(session) == []
    without = counterpart(session)
    assert without is not None
    assert without.image is None
    assert without.source.image is None
    session.results.append(other)
    assert comparable(session) == [other]
    assert counterpart(session) is None
    assert image_difference(shown.result, other.result) == "without the image"
    session.results, session.result = [other], other
    assert counterpart(session) is skewed_slide
    assert image_difference(other.result, shown.result) == "with the image"
    session.result = finer  # an interpolation does not use the image
    assert counterpart(session) is None


def test_run_without_image_is_compared_with_the_run_with_it(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Choose an image, run, compare with the run without it, then open the slide without the image."""
    sdata = spatialdata.read_zarr(store)
    first = next(iter(sdata.images.values()))
    first = first["scale0"]["image"] if hasattr(first, "children") else first
    sdata.images["second"] = Image2DModel.parse(255 - first.data[:, :-1], dims=("c", "y", "x"))  # the smaller one
    sdata.write_element("second")
    seen: list[str | None] = []
    true_steps = api.upsample_steps

    def steps(slide: Slide, region: Any, genes: Any, settings: UpsampleSettings, **options: Any) -> Any:
        """Replace the method, which takes half a minute: use another interpolation with the image than without."""
        seen.append(None if slide.image is None else slide.image.name)
        fast = dataclasses.replace(settings, method="uniform" if slide.image is None else "bilinear")
        made = yield from true_steps(slide, region, genes, fast, **options)
        calibration = {} if slide.image is None else {"image": {"used": True, "nats_expected_by_gene": [0.02]}}
        return dataclasses.replace(made, settings=settings, provenance={"calibration": calibration})

    window = open_window()
    controller, explore = window.controller, window.result_panel
    slide = open_slide(qtbot, window, store)
    chooser = window.slide_panel.image
    names = [chooser.itemText(i) for i in range(chooser.count())]
    assert names == [slide.source.image, "second", "none"]
    assert chooser.currentText() == slide.source.image
    _choose(qtbot, window, chooser, "second")
    assert controller.slides.slide.image.name == "second"

    monkeypatch.setattr(api, "upsample_steps", steps)
    monkeypatch.setattr(SRastWidget, "confirm_whole_slide", lambda _self, _text: True)
    window.gene_panel.model.check(["Gene3"], only=True)
    run(qtbot, window)
    assert "nats per count: Gene3 +0.020." in explore.export_panel.quality.text()
    assert explore.compare.currentText() == "measured counts"
    index = explore.compare.findText("without the image (run it)")
    explore.compare.setCurrentIndex(index)
    explore.compare.activated.emit(index)
    assert controller.tasks.state is AppState.RUNNING
    wait_ready(qtbot, window)
    assert seen == ["second", None]
    assert controller.results.current is controller.results.all[0]
    assert explore.compare.currentText() == "without the image (2)"
    assert explore.views["side_by_side"].isChecked()
    assert "right: without the image" in explore.meaning.text()
    qtbot.waitUntil(lambda: "SRast side-by-side pixels" in layer_names(window), timeout=PATIENCE)
    assert controller.viewer.layers["SRast side-by-side pixels"].visible
    assert "without the image" in explore.results.itemText(1)
    click(qtbot, explore.views["before"])
    assert visible(window) == []
    assert controller.viewer.layers["SRast compared pixels"].visible
    click(qtbot, explore.views["after"])
    assert visible(window) == ["Gene3"]

    _choose(qtbot, window, chooser, "none")
    assert controller.slides.slide.image is None
    assert chooser.currentText() == "none"
    _choose(qtbot, window, chooser, "second")
    assert controller.slides.slide.image.name == "second"


def _choose(qtbot: Any, window: SRastWidget, chooser: Any, name: str) -> None:
    chooser.setCurrentText(name)
    chooser.textActivated.emit(name)
    wait_ready(qtbot, window)
