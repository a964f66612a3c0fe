"""Exploring a result on the real canvas: genes, their colors, before and after, reading values, taking it away."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
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
from napari_srast.gui.demo import wait_until
from napari_srast.gui.layers.side_by_side import side_by_side_bounds
from napari_srast.gui.panels import export
from napari_srast.gui.widget import SRastWidget
from napari_srast.io.result_reader import read_result

pytestmark = pytest.mark.gui


def test_exploring_a_result(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = open_window()
    controller, viewer, explore = window.controller, window.controller.viewer, window.result_panel
    slide = open_slide(qtbot, window, store)
    use_fast_method(window)
    controller.regions.add(SQUARE)
    result = run(qtbot, window)
    assert explore.export_panel.quality.text().startswith("Counts of every spot conserved")
    assert "All maps are from uniform" in explore.export_panel.quality.text()

    # A list of markers replaces what is shown; the eye of napari's list is the check box.
    (tmp_path / "markers.csv").write_text("gene\n" + "\n".join(f"gene{i}" for i in range(8)))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "markers.csv"), ""))
    click(qtbot, explore.load)
    wait_shown(qtbot, window)
    assert sorted(visible(window)) == [f"Gene{i}" for i in range(6)]
    assert "2 more were left out" in window.run_bar.status.text()
    explore.model.check(["Gene3", "Gene4"], only=True)
    wait_shown(qtbot, window)
    viewer.layers["Gene3"].visible = False
    assert explore.model.checked == ["Gene4"]
    viewer.layers["Gene3"].visible = True
    assert explore.model.checked == ["Gene3", "Gene4"]
    explore.listing.setCurrentIndex(1)
    assert sorted(explore.model.listed) == ["Gene3", "Gene4"]
    explore.listing.setCurrentIndex(0)

    # Favorites are remembered by the gene's name.
    explore.view.setCurrentIndex(explore.model.index(explore.model.listed.index("Gene5"), 0))
    explore.view.setFocus()
    qtbot.keyClick(explore.view, Qt.Key.Key_F)
    assert controller.preferences.genes == ["Gene5"]
    explore.listing.setCurrentIndex(2)
    assert explore.model.listed == ["Gene5"]
    explore.listing.setCurrentIndex(0)
    assert window.gene_panel.model.data(window.gene_panel.model.index(5, 0)) == "★ Gene5"

    # Color, contrast and opacity: ours and napari's own controls are two views of one thing.
    row = next(row for row in explore.legend.rows if row.style is not None and row.style.gene == "Gene3")
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#ff0000"))
    click(qtbot, row.color)
    np.testing.assert_allclose(viewer.layers["Gene3"].colormap.colors[-1], [1, 0, 0, 1])
    row.contrast.setValue((0.5, 1.5))
    assert tuple(viewer.layers["Gene3"].contrast_limits) == (0.5, 1.5)
    row.opacity.setValue(50)
    assert viewer.layers["Gene3"].opacity == pytest.approx(0.5 * 2**-0.5)
    viewer.layers["Gene3"].contrast_limits = (0.25, 2.0)
    assert row.contrast.value() == (0.25, 2.0)
    assert row.scale.text() == "0.25 to 2"

    # The pointer reads a pixel, its spot, and what was measured there; the canvas itself reports the mouse.
    viewer.reset_view()
    qtbot.wait(50)
    canvas = napari.current_viewer().window._qt_viewer.canvas.native
    spot = int(result.raster.spots[4])
    place = canvas_point(window, tuple(slide.centers[spot] + 3))
    qtbot.mouseMove(canvas, place)
    qtbot.waitUntil(lambda: "Spot" in explore.readout.text(), timeout=PATIENCE)
    assert explore.readout.text().startswith(f"Spot {slide.spot_ids[spot]}: ")
    measured = slide.counts[spot, 3]
    assert f"Gene3 {measured / 4:.3g} of the spot's {measured:,.0f}" in explore.readout.text()

    # Before and after: by the buttons, by a key, and side by side at the same scale.
    click(qtbot, explore.views["before"])
    assert visible(window) == []
    assert viewer.layers["SRast measured spots"].visible
    explore.toggle_before_after()
    assert sorted(visible(window)) == ["Gene3", "Gene4"]
    looked_at = viewer.scene.camera.center, viewer.scene.camera.zoom
    click(qtbot, explore.views["side_by_side"])
    qtbot.waitUntil(lambda: len(visible(window, "side_by_side")) == 4, timeout=PATIENCE)
    rows, cols = viewer.canvas.size
    for place in side_by_side_bounds(slide, result):  # both pictures are in view
        point = canvas_point(window, tuple(place))
        assert 0 <= point.x() <= cols
        assert 0 <= point.y() <= rows
    assert sorted(visible(window)) == ["Gene3", "Gene4"]
    beside = viewer.layers["SRast side-by-side spots"]
    assert len(beside.data) == 9
    center = np.array(beside.data_to_world(beside.data[4]))[::-1]
    shift = controller.results.overlay.offset_at(center)
    assert shift[0] > 0
    np.testing.assert_allclose(center - shift, slide.centers[spot], atol=1e-6)
    click(qtbot, explore.views["after"])
    assert visible(window, "side_by_side") == []
    assert (viewer.scene.camera.center, viewer.scene.camera.zoom) == looked_at

    # A picture with scale bar and legend.
    made: list[tuple[np.ndarray, export.Caption]] = []
    true_save = export.save_figure
    monkeypatch.setattr(export, "save_figure", lambda *given: (made.append(given[:2]), true_save(*given)))
    explore.brightness.setValue(100)
    window.region_panel.clear.click()
    target = tmp_path / "figure.png"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    explore.export_panel.export_figure.trigger()
    assert wait_until(target.exists, 30)
    with PillowImage.open(target) as picture:
        rows, cols = viewer.canvas.size
        assert picture.size[0] / picture.size[1] == pytest.approx(cols / rows, rel=0.02)
        corner = np.asarray(picture.convert("RGB"))[-picture.size[1] // 8 :]
        assert (corner[:, -picture.size[0] // 3 :] == 255).all(axis=-1).any()  # the bar

    ((pixels, caption),) = made
    across = np.flatnonzero(pixels[pixels.shape[0] // 2, :, :3].max(axis=1) > 30)
    histology = viewer.layers["breast histology"].extent.world
    width = histology[1][-1] - histology[0][-1] + 5.0  # from pixel center to pixel center, of 5 um
    assert (across[-1] - across[0] + 1) * caption.pixel_length == pytest.approx(width, rel=0.02)

    # The command line repeats the result, byte for byte.
    click(qtbot, explore.export_panel.copy)
    line = QApplication.clipboard().text()
    assert line.startswith("napari-srast upsample ")
    arguments = shlex.split(line)[1:]
    arguments[arguments.index("result.zarr")] = str(tmp_path / "again.zarr")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    again = read_result(tmp_path / "again.zarr")
    assert again.counts.data.tobytes() == result.counts.data.tobytes()
    np.testing.assert_array_equal(again.counts.indices, result.counts.indices)

    # By the keyboard alone: to the first page, the path, the genes and back, and a gene ticked.
    explore.model.check([], only=True)
    for keys, page in (("Alt+1", 0), ("Alt+2", 1)):
        press(window, keys)
        assert window.tabs.currentIndex() == page
    explore.view.setCurrentIndex(explore.model.index(0, 0))
    qtbot.keyClick(explore.view, Qt.Key.Key_Space)
    assert len(explore.model.checked) == 1
    wait_shown(qtbot, window)
    press(window, "Alt+B")
    assert controller.results.overlay.view == "before"
    tick(qtbot, explore.view, explore.model.checked[0])
    assert explore.model.checked == []
