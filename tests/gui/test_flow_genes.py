"""Exploring a result: shown genes, their style, views, values under the cursor, figure and command line."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
from helpers.results import same_bytes
from helpers.spot_layers import spot_positions
from helpers.window import (
    PATIENCE,
    SQUARE,
    canvas_point,
    click,
    open_slide,
    press,
    run,
    tick,
    use_fast_method,
    visible,
    wait_shown,
)
from PIL import Image as PillowImage
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QApplication, QColorDialog, QFileDialog
from typer.testing import CliRunner

from napari_srast.cli.app import app
from napari_srast.core.result import UpsampleResult
from napari_srast.gui.demo import wait_until
from napari_srast.gui.layers.gene_colors import shared_opacity
from napari_srast.gui.layers.side_by_side import side_by_side_bounds
from napari_srast.gui.panels import export
from napari_srast.gui.widget import SRastWidget
from napari_srast.io.result_reader import read_result

pytestmark = pytest.mark.gui


def _run_square(qtbot: Any, window: SRastWidget, store: Path) -> UpsampleResult:
    """Open a slide, upsample nine spots with the uniform split, and show Gene3 and Gene4."""
    open_slide(qtbot, window, store)
    use_fast_method(window)
    window.settings_panel.factor.value = 2
    window.controller.regions.add(SQUARE)
    result = run(qtbot, window)
    window.result_panel.model.check(["Gene3", "Gene4"], only=True)
    wait_shown(qtbot, window)
    return result


@pytest.fixture
def result(widget: SRastWidget, qtbot: Any, store: Path) -> UpsampleResult:
    """Result of nine spots in the widget without a canvas, with Gene3 and Gene4 shown."""
    return _run_square(qtbot, widget, store)


@pytest.mark.usefixtures("result")
def test_quality_checks_are_shown(widget: SRastWidget) -> None:
    text = widget.result_panel.export_panel.quality.text()
    assert text.startswith("Shown: expression, counts per pixel.\nCounts of every spot conserved")
    assert "All genes: method uniform." in text


@pytest.mark.usefixtures("result")
def test_a_gene_list_replaces_the_shown_genes(
    widget: SRastWidget, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "markers.csv").write_text("gene\n" + "\n".join(f"gene{i}" for i in range(8)))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "markers.csv"), ""))
    click(qtbot, widget.result_panel.load)
    wait_shown(qtbot, widget)
    assert sorted(visible(widget)) == [f"Gene{i}" for i in range(6)]
    assert "2 more were left out" in widget.run_bar.status.text()


@pytest.mark.usefixtures("result")
def test_layer_visibility_is_the_check_box(widget: SRastWidget) -> None:
    layers, explore = widget.controller.viewer.layers, widget.result_panel
    layers["Gene3"].visible = False
    assert explore.model.checked == ["Gene4"]
    layers["Gene3"].visible = True
    assert explore.model.checked == ["Gene3", "Gene4"]
    explore.listing.setCurrentIndex(1)
    assert sorted(explore.model.listed) == ["Gene3", "Gene4"]


@pytest.mark.usefixtures("result")
def test_favorites_are_listed_and_marked(widget: SRastWidget, qtbot: Any) -> None:
    explore = widget.result_panel
    explore.view.setCurrentIndex(explore.model.index(explore.model.listed.index("Gene5"), 0))
    qtbot.keyClick(explore.view, Qt.Key.Key_F)
    assert widget.controller.preferences.genes == ["Gene5"]
    explore.listing.setCurrentIndex(2)
    assert explore.model.listed == ["Gene5"]
    model = widget.gene_panel.model
    assert model.data(model.index(model.listed.index("Gene5"), 0)) == "★ Gene5"


@pytest.mark.usefixtures("result")
def test_legend_and_layer_controls_are_in_sync(
    widget: SRastWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = widget.controller.viewer.layers["Gene3"]
    rows = widget.result_panel.legend.rows
    row = next(row for row in rows if row.style is not None and row.style.gene == "Gene3")
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#ff0000"))
    click(qtbot, row.color)
    np.testing.assert_allclose(layer.colormap.colors[-1], [1, 0, 0, 1])
    row.contrast.setValue((0.5, 1.5))
    assert tuple(layer.contrast_limits) == (0.5, 1.5)
    row.opacity.setValue(50)
    assert layer.opacity == pytest.approx(0.5 * shared_opacity(2))
    layer.contrast_limits = (0.25, 2.0)
    assert row.contrast.value() == (0.25, 2.0)
    assert row.scale.text() == "0.25 to 2"


def test_views_and_cursor_on_the_canvas(open_window: Callable[[], SRastWidget], qtbot: Any, store: Path) -> None:
    window = open_window()
    result = _run_square(qtbot, window, store)
    viewer, explore, slide = window.controller.viewer, window.result_panel, window.controller.slides.slide
    viewer.reset_view()
    qtbot.wait(50)
    canvas = napari.current_viewer().window._qt_viewer.canvas.native
    spot = int(result.raster.spots[4])
    qtbot.mouseMove(canvas, canvas_point(window, tuple(slide.centers[spot] + 3)))
    qtbot.waitUntil(lambda: "Spot" in explore.readout.text(), timeout=PATIENCE)
    assert explore.readout.text().startswith(f"Spot {slide.spot_ids[spot]}: ")
    measured = slide.counts[spot, 3]
    assert f"(expression, counts per pixel), spot {measured:,.0f}" in explore.readout.text()

    click(qtbot, explore.views["before"])
    assert visible(window) == []
    assert viewer.layers["SRast measured spots"].visible
    explore.toggle_before_after()
    assert sorted(visible(window)) == ["Gene3", "Gene4"]

    camera = viewer.scene.camera.center, viewer.scene.camera.zoom
    click(qtbot, explore.views["side_by_side"])
    qtbot.waitUntil(lambda: len(visible(window, "side_by_side")) == 4, timeout=PATIENCE)
    rows, cols = viewer.canvas.size
    for corner in side_by_side_bounds(slide, result):
        point = canvas_point(window, tuple(corner))
        assert 0 <= point.x() <= cols
        assert 0 <= point.y() <= rows
    assert sorted(visible(window)) == ["Gene3", "Gene4"]
    spots = viewer.layers["SRast side-by-side spots"]
    centers = spot_positions(spots, slide)
    assert len(centers) == 9
    center = centers[4]
    offset = window.controller.results.overlay.offset_at(center)
    assert offset[0] > 0
    np.testing.assert_allclose(center - offset, slide.centers[spot], atol=1e-6)
    click(qtbot, explore.views["after"])
    assert visible(window, "side_by_side") == []
    assert (viewer.scene.camera.center, viewer.scene.camera.zoom) == camera


def test_figure_has_legend_and_true_scale(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = open_window()
    _run_square(qtbot, window, store)
    viewer, explore = window.controller.viewer, window.result_panel
    saved: list[tuple[np.ndarray, export.Caption]] = []
    save_figure = export.save_figure

    def save(pixels: np.ndarray, caption: export.Caption, path: Path) -> None:
        assert caption.unit == "unknown"  # such a slide has no scale bar
        saved.append((pixels, caption))
        save_figure(pixels, dataclasses.replace(caption, unit="um"), path)

    monkeypatch.setattr(export, "save_figure", save)
    target = tmp_path / "figure.png"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    viewer.reset_view()
    explore.brightness.setValue(100)
    window.region_panel.clear.click()
    explore.export_panel.export_figure.trigger()
    assert wait_until(target.exists, 30)
    with PillowImage.open(target) as picture:
        rows, cols = viewer.canvas.size
        assert picture.size[0] / picture.size[1] == pytest.approx(cols / rows, rel=0.02)
        corner = np.asarray(picture.convert("RGB"))[-picture.size[1] // 8 :]
        assert (corner[:, -picture.size[0] // 3 :] == 255).all(axis=-1).any()  # the scale bar

    ((pixels, caption),) = saved
    across = np.flatnonzero(pixels[pixels.shape[0] // 2, :, :3].max(axis=1) > 30)
    histology = viewer.layers["breast histology"].extent.world
    width = histology[1][-1] - histology[0][-1] + 5.0  # between outer pixel centers, plus one pixel of 5 um
    assert (across[-1] - across[0] + 1) * caption.pixel_length == pytest.approx(width, rel=0.02)


def test_copied_command_repeats_the_result(
    widget: SRastWidget, qtbot: Any, result: UpsampleResult, tmp_path: Path
) -> None:
    click(qtbot, widget.result_panel.export_panel.copy)
    line = QApplication.clipboard().text()
    assert line.startswith("napari-srast upsample ")
    arguments = shlex.split(line)[1:]
    arguments[arguments.index("result.zarr")] = str(tmp_path / "again.zarr")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    again = read_result(tmp_path / "again.zarr")
    assert same_bytes(again.counts, result.counts)
    np.testing.assert_array_equal(again.counts.indices, result.counts.indices)


@pytest.mark.usefixtures("result")
def test_genes_are_ticked_by_keyboard_and_mouse(widget: SRastWidget, qtbot: Any) -> None:
    explore = widget.result_panel
    explore.model.check([], only=True)
    for keys, page in (("Alt+1", 0), ("Alt+2", 1)):
        press(widget, keys)
        assert widget.tabs.currentIndex() == page
    explore.view.setCurrentIndex(explore.model.index(0, 0))
    qtbot.keyClick(explore.view, Qt.Key.Key_Space)
    assert len(explore.model.checked) == 1
    wait_shown(qtbot, widget)
    press(widget, "Alt+B")
    assert widget.controller.results.overlay.view == "before"
    tick(qtbot, explore.view, explore.model.checked[0])
    assert explore.model.checked == []


def test_color_bar_on_the_canvas_is_the_same_before_and_after(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path
) -> None:
    window = open_window()
    _run_square(qtbot, window, store)
    explore, viewer = window.result_panel, window.controller.viewer
    viewer.scene.camera.zoom /= 4  # only the color bar is in the corner of the canvas

    def corner(view: str) -> np.ndarray:
        click(qtbot, explore.views[view])
        qtbot.wait(300)
        return viewer.screenshot(canvas_only=True, flash=False)[:200, -130:, :3].astype(int)

    nothing = corner("before")
    np.testing.assert_array_equal(corner("after"), nothing)  # several genes have no bar
    tick(qtbot, explore.view, "Gene4")
    wait_shown(qtbot, window)
    after = corner("after")
    drawn = np.abs(after - nothing).max(axis=-1) > 40
    assert drawn.sum() > 1500
    np.testing.assert_allclose(corner("before")[drawn], after[drawn], atol=3)
