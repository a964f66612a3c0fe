"""The part of the window that takes a result away: trust first, then export, figure and command line."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QHBoxLayout, QMenu, QVBoxLayout, QWidget

from napari_srast.errors import SrastError
from napari_srast.gui.controllers.comparison import meaning_of
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.export.command_line import command_line
from napari_srast.gui.export.figure import Caption, save_figure
from napari_srast.gui.state.quality_checks import trust_lines
from napari_srast.gui.widgets.common import button, group, label
from napari_srast.gui.widgets.tooltips import allow

__all__ = ["NO_RESULT", "ExportPanel"]

NO_RESULT = "Run first: there is no result yet."
_FIGURE_SCALE = 2.0


class ExportPanel(QWidget):
    """What to think of a result, and ways to take it away."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        box, column = group("Trust and take away")
        self.trust = label()
        column.addWidget(self.trust)
        self.export = button("export", "Export", lambda: None)
        menu = QMenu(self.export)
        menu.setToolTipsVisible(True)
        self.export_store = menu.addAction("New SpatialData store (.zarr)…", partial(self._export, "zarr"))
        self.export_into = menu.addAction("Into the slide's own store", self._export_into)
        self.export_h5ad = menu.addAction("Table (.h5ad)…", partial(self._export, "h5ad"))
        self.export_csv = menu.addAction("Table (.csv)…", partial(self._export, "csv"))
        self.export_figure = menu.addAction("Picture with scale bar and legend (.png)…", self._export_figure)
        self.export.setMenu(menu)
        self.copy = button("copy_command", "Copy command", self._copy_command)
        row = QHBoxLayout()
        row.addWidget(self.export, 1)
        row.addWidget(self.copy, 1)
        column.addLayout(row)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(box)
        controller.results.result_changed.connect(self.refresh)
        controller.results.display_changed.connect(self.refresh)
        controller.tasks.state_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Tell the checks of the result and enable what can be done now."""
        finished, overlay = self._controller.results.current, self._controller.results.overlay
        if finished is None:
            self.trust.setText("No result yet. Prepare a run and press Run.")
        else:
            shown = [] if overlay is None else [paint.gene for paint in overlay.shown]
            self.trust.setText("\n".join(trust_lines(finished.result, finished.trust, shown)))
        none = None if finished is not None else NO_RESULT
        allow(self.export, none or self._controller.tasks.obstacle())
        allow(self.copy, none)
        source = None if finished is None else finished.result.slide.source
        has_store = source is not None and source.path is not None and not source.synthetic
        assert self.export_into is not None
        self.export_into.setEnabled(has_store)
        into = "Add the result to the slide's store under a fresh name."
        self.export_into.setToolTip(into if has_store else "The slide has no store of its own.")

    def _ask(self, kind: str, name: str) -> Path | None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the result", f"{name}.{kind}", f"*.{kind}")
        if not path:
            return None
        target = Path(path)
        return target if target.suffix == f".{kind}" else target.with_name(f"{target.name}.{kind}")

    def _export(self, kind: str) -> None:
        target = self._ask(kind, "result")
        if target is not None:
            self._controller.results.export(target)

    def _export_into(self) -> None:
        self._controller.results.export(None)

    def _export_figure(self) -> None:
        target = self._ask("png", "figure")
        if target is not None:
            QTimer.singleShot(100, partial(self.write_figure, target))  # once the dialog is gone from the canvas

    def write_figure(self, path: Path) -> None:
        """Write what is on show, with scale bar and legend, as PNG."""
        controller = self._controller
        slide, overlay = controller.slides.slide, controller.results.overlay
        if slide is None or overlay is None:
            return
        viewer: Any = controller.viewer
        label, camera, canvas_width = viewer.canvas.overlays.text, viewer.scene.camera, viewer.canvas.size[1]
        labeled, zoom = label.visible, camera.zoom
        try:
            # A larger canvas shows more of the world, so that the same place takes a larger zoom.
            label.visible, camera.zoom = False, zoom * _FIGURE_SCALE
            picture = viewer.screenshot(scale=_FIGURE_SCALE, canvas_only=True, flash=False)
        finally:
            label.visible, camera.zoom = labeled, zoom
        # The zoom is in canvas pixels for each unit of the world, whatever the screen's own scaling.
        world_length = canvas_width / zoom / picture.shape[1]
        caption = Caption(
            pixel_length=world_length / slide.cs_scale,
            unit=slide.unit,
            genes=overlay.shown,
            meaning=meaning_of(overlay),
            note="Synthetic slide" if slide.source.synthetic else "",
        )
        try:
            save_figure(picture, caption, path)
        except SrastError as error:
            controller.messages.error_message.emit(str(error))
        else:
            controller.messages.status_message.emit(f"Saved to {path}")

    def _copy_command(self) -> None:
        finished, clipboard = self._controller.results.current, QApplication.clipboard()
        if finished is None or clipboard is None:
            return
        try:
            clipboard.setText(command_line(finished.result))
        except SrastError as error:
            self._controller.messages.error_message.emit(str(error))
        else:
            self._controller.messages.status_message.emit(
                "Copied the command that repeats this result without a window."
            )
