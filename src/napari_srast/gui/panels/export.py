"""Panel with the quality checks of a result, and its export as store, table, figure and command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QHBoxLayout, QMenu, QWidget

from napari_srast.analysis.quality_checks import qc_summary
from napari_srast.analysis.traffic_lights import describe_lights
from napari_srast.errors import SrastError
from napari_srast.gui.controllers.comparison import meaning_of
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.export.command_line import command_line
from napari_srast.gui.export.figure import Caption, save_figure
from napari_srast.gui.export.panel_figure import FIGURE_FORMATS, FigureOptions, panels_of
from napari_srast.gui.layers.gene_colors import GeneStyle
from napari_srast.gui.layers.gene_layer import render_gene
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.panels.figure_dialog import FigureDialog
from napari_srast.gui.panels.save_dialog import ask_save_path
from napari_srast.gui.state.gene_quality import own_detail
from napari_srast.gui.state.gene_values import GeneValues
from napari_srast.gui.widgets.common import button, label
from napari_srast.gui.widgets.section import Section
from napari_srast.gui.widgets.tooltips import allow

__all__ = ["NO_EXPRESSION", "NO_RESULT", "ExportPanel"]

NO_RESULT = "Run first: there is no result yet."
NO_EXPRESSION = "The result has no expression; run again with expression 'auto'."
_FIGURE_SCALE = 2.0  # pixels of the figure per pixel of the canvas


class ExportPanel(QWidget):
    """Export the displayed result; its quality checks are in a section that the result panel shows.

    Parameters
    ----------
    controller
        Controller of the window.

    Attributes
    ----------
    verdict
        Label with the quality of the shown genes in a sentence.
    move_image, undo_move
        Buttons that move the histology to where it fits better, and back; hidden where it fits.
    section
        The section with all quality checks, folded at first.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._own: tuple[GeneValues, list[str], dict[str, float]] | None = None
        self.verdict = label()
        self.move_image = button("move_image", "", controller.image_shift.move)
        self.undo_move = button("undo_move", "Move the image back", controller.image_shift.undo)
        self.section = Section("section_quality", "Details")
        self.section.unfold(False)
        self.quality = label()
        self.section.column.addWidget(self.quality)
        self.export = button("export", "Export", lambda: None)
        menu = QMenu(self.export)
        menu.setToolTipsVisible(True)
        self.export_store = menu.addAction("New SpatialData store (.zarr)…", partial(self._export, "zarr"))
        self.export_into = menu.addAction("Into the store of the slide", self._export_into)
        self.export_h5ad = menu.addAction("Table (.h5ad)…", partial(self._export, "h5ad"))
        self.export_csv = menu.addAction("Table (.csv)…", partial(self._export, "csv"))
        self.export_image = menu.addAction(
            "Image with a channel per gene (.ome.tif)…", partial(self._export, "ome.tif")
        )
        self.export_objects = menu.addAction("Objects for QuPath (.geojson)…", partial(self._export, "geojson"))
        self.export_figure = menu.addAction("Figure with scale bar and legend (.png)…", self._export_figure)
        self.export_panels = menu.addAction("Figure for a publication (.png, .pdf, .svg)…", self._export_panels)
        self.export.setMenu(menu)
        self.report = button("write_report", "Report…", self._write_report)
        self.copy = button("copy_command", "Copy command", self._copy_command)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 0, 6, 6)
        row.addWidget(self.export, 1)
        row.addWidget(self.report, 1)
        row.addWidget(self.copy, 1)
        controller.results.result_changed.connect(self.refresh)
        controller.results.display_changed.connect(self.refresh)
        controller.tasks.state_changed.connect(self.refresh)
        controller.image_shift.changed.connect(self._show_shift)
        self.refresh()

    def refresh(self) -> None:
        """Show the checks of the result and enable the controls that can be used now."""
        displayed, overlay = self._controller.results.current, self._controller.results.overlay
        if displayed is None:
            self._own = None
            self.quality.setText("No result yet. Prepare a run and press Run.")
            self.verdict.setText("")
        else:
            shown = [] if overlay is None else [style.gene for style in overlay.shown]
            view = [f"Shown: {meaning_of(overlay)}."] if overlay is not None and shown else []
            self.quality.setText("\n".join([*view, *qc_summary(displayed.result, displayed.quality, shown)]))
            own = self._own_detail(displayed.values, shown)
            self.verdict.setText(describe_lights(displayed.result, shown, own))
        self._show_shift()
        no_result = None if displayed is not None else NO_RESULT
        for control in (self.export, self.report):
            allow(control, no_result or self._controller.tasks.obstacle())
        allow(self.copy, no_result)
        source = None if displayed is None else displayed.result.slide.source
        has_store = source is not None and source.path is not None and not source.synthetic
        assert self.export_into is not None
        self.export_into.setEnabled(has_store)
        tooltip = "Add the result to the store of the slide under a new name."
        self.export_into.setToolTip(tooltip if has_store else "The slide was not read from a store.")

    def _show_shift(self) -> None:
        """Offer to move the image where a run has found that it fits better elsewhere, and to undo that."""
        shift = self._controller.image_shift
        self.move_image.setText(shift.text)
        self.move_image.setVisible(bool(shift.text))
        self.undo_move.setVisible(shift.can_undo)

    def _own_detail(self, values: GeneValues, genes: list[str]) -> dict[str, float]:
        """Return the detail that is the genes' own; while only colors change, it is not computed again."""
        if self._own is None or self._own[:2] != (values, genes):
            self._own = (values, genes, own_detail(values, genes))
        return self._own[2]

    def _ask(self, title: str, kinds: Sequence[str], *words: str) -> Path | None:
        """Ask for a file of one of some kinds, and suggest a name of some words; None if the user cancels."""
        return ask_save_path(self, self._controller, title, [f".{kind}" for kind in kinds], *words)

    def _shown_genes(self) -> list[str]:
        overlay = self._controller.results.overlay
        return [] if overlay is None else overlay.genes

    def _export(self, kind: str) -> None:
        target = self._ask("Export the result", [kind], "upsampled")
        if target is not None:
            self._controller.results.export(target)

    def _write_report(self) -> None:
        """Ask for a file, and write the report of the displayed result with pictures of the shown genes."""
        target = self._ask("Write the report", ["html"], "report")
        if target is not None:
            self._controller.reports.write(target)

    def _export_into(self) -> None:
        self._controller.results.export(None)

    def _export_figure(self) -> None:
        target = self._ask("Save the figure", ["png"], *self._shown_genes())
        if target is not None:
            QTimer.singleShot(100, partial(self.write_figure, target))  # after the dialog no longer covers the canvas

    def _export_panels(self) -> None:
        """Ask for layout and file, and write a figure of the shown genes."""
        overlay, displayed = self._controller.results.overlay, self._controller.results.current
        if overlay is None or displayed is None:
            return
        view, views = overlay.value_view, panels_of(displayed, overlay.genes)
        dialog = FigureDialog(
            self, FigureOptions(views=views, brightness=overlay.brightness, scale=view.scale, smooth=view.smooth)
        )
        if not dialog.exec():
            return
        target = self._ask("Save the figure", FIGURE_FORMATS, *self._shown_genes())
        if target is not None:
            self.write_panels(target, dialog.options())

    def write_panels(self, path: Path, options: FigureOptions) -> None:
        """Write a figure of the shown genes; the suffix of the path is the format."""
        overlay = self._controller.results.overlay
        if overlay is not None:
            self._controller.reports.write_figure(path, _styles_of_values(overlay), options)

    def write_figure(self, path: Path) -> None:
        """Write the canvas with scale bar and legend as PNG."""
        controller = self._controller
        slide, overlay = controller.slides.slide, controller.results.overlay
        if slide is None or overlay is None:
            return
        viewer: Any = controller.viewer
        camera, canvas_width, zoom = viewer.scene.camera, viewer.canvas.size[1], viewer.scene.camera.zoom
        # The figure has a scale bar of its own, which is readable at its size.
        overlays = viewer.canvas.overlays
        covering = [one for one in (overlays.text, overlays.scale_bar) if one.visible]
        try:
            # A larger canvas shows more of the world, so the same view needs a larger zoom.
            for one in covering:
                one.visible = False
            camera.zoom = zoom * _FIGURE_SCALE
            picture = viewer.screenshot(scale=_FIGURE_SCALE, canvas_only=True, flash=False)
        finally:
            camera.zoom = zoom
            for one in covering:
                one.visible = True
        # The zoom is in canvas pixels per world unit, independent of the scaling of the screen.
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
        displayed, clipboard = self._controller.results.current, QApplication.clipboard()
        if displayed is None or clipboard is None:
            return
        try:
            clipboard.setText(command_line(displayed.result))
        except SrastError as error:
            self._controller.messages.error_message.emit(str(error))
        else:
            self._controller.messages.status_message.emit("Copied the command that computes this result again.")


def _styles_of_values(overlay: Overlay) -> list[GeneStyle]:
    """Return the styles of the shown genes; those of the uncertainty get contrast limits of the values."""
    if overlay.view != "std":
        return overlay.shown
    return [
        dataclasses.replace(style, limits=render_gene(overlay.values, style.gene, "after", overlay.value_view).limits)
        for style in overlay.shown
    ]
