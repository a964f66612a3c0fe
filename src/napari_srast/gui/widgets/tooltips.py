"""Define the tooltips of all controls by their object names.

:func:`describe` sets the tooltip of a control. While the control is disabled, :func:`allow` shows the reason instead.
"""

from __future__ import annotations

from html import escape

from qtpy.QtCore import QEvent, QObject, QUrl
from qtpy.QtGui import QDesktopServices, QWhatsThisClickedEvent
from qtpy.QtWidgets import QWidget

from napari_srast.gui.widgets.glossary import definitions, definitions_html
from napari_srast.gui.widgets.option_names import name_controls
from napari_srast.gui.widgets.shortcuts import SHORTCUTS

__all__ = ["TOOLTIPS", "allow", "describe"]

_FOLD = "Show or hide this section. It folds by itself where the screen is too small for all."
TOOLTIPS = {
    **dict.fromkeys(
        (
            *("section_slide", "section_region", "section_genes", "section_settings"),
            *("section_shown", "section_quality", "section_domains", "section_cells", "section_compare"),
            *("section_signatures", "section_structure"),
        ),
        _FOLD,
    ),
    # slide
    "slide_path": "Slide or result (.zarr, .h5ad), or Space Ranger folder. Press Enter to open it, or drop it onto "
    "this panel. Tables and Space Ranger folders are converted to a store first.",
    "browse_slide": "Choose a slide or result (.zarr), a Space Ranger folder, or a table (.h5ad).",
    "open_sample": "Open the built-in slide. It is synthetic, for trying things out; it is not a measurement.",
    "recent_slides": "Open a recent slide.",
    "use_shown": "Use the slide that napari-spatialdata shows, without loading it again.",
    "open_slides": "The current slide. Each open slide keeps its regions and its results.",
    "close_slide": "Close this slide. Results that were not exported are discarded; regions that were not saved are "
    "offered again when the slide is opened.",
    "show_all_slides": "Show all open slides next to each other, with the same gene, colors and limits. Drawing and "
    "running use the current slide.",
    "coordinate_system": "Coordinate system of the display, the region and the pixel size, with its elements.",
    "choose_section": "Section of the table; 'all' shows the spots of all sections as one slide.",
    "choose_spots": "Element with the spots or bins.",
    "choose_table": "Table with the counts.",
    "choose_image": "Image that is shown as histology and refines the maps; 'none' uses no image.",
    # region
    "draw_rectangle": "Draw a rectangle: press, drag and release on the slide. Each shape becomes a region.",
    "draw_ellipse": "Draw an ellipse: press, drag and release on the slide.",
    "draw_polygon": "Draw a polygon: click its corners, double-click the last one.",
    "draw_lasso": "Draw freehand: press and drag around the tissue, then release.",
    "region_table": "Tick the regions to upsample; if none is ticked, the whole slide is. Double-click a name or a "
    "class to change it, click a color to change it. A selected region is white on the slide: Space ticks it, Delete "
    "removes it. Right-click for more.",
    "edit_region": "Move, resize or delete shapes: click one, drag it, or press Delete.",
    "undo_region": "Undo the last change of the regions.",
    "redo_region": "Repeat the change that was undone last.",
    "clear_region": "Remove all regions. Without regions, the whole slide is upsampled.",
    "take_shapes": "Use the shapes that were drawn in another layer, with their names and classes.",
    "region_files": "Save all regions as GeoJSON or with the slide, or load regions, such as annotations of QuPath.",
    "restore_regions": "Add the regions that were not saved when this slide was last open.",
    "discard_regions": "Delete the regions that were not saved when this slide was last open.",
    # genes
    "gene_filter": "Type part of a gene name to filter the list.",
    "gene_table": "Click a gene to see its measured counts on the spots. Tick the genes to upsample; if none is "
    "ticked, all are upsampled. Click a heading to sort. "
    "Space ticks a gene, F toggles a favorite. Moran I (Moran's I, at most 1) is high for genes whose "
    "counts vary smoothly in space.",
    "color_spots": "Color the spots by the measured counts of the gene that you click in the list, at first by the "
    "counts of all genes: the brighter, the more. Off: outlines, or plain bins.",
    "list_genes": "List all genes, ticked genes, or favorites.",
    "check_listed": "Tick all genes in the list.",
    "check_none": "Untick all genes.",
    "import_genes": "Tick the genes of a CSV or text file.",
    # settings
    "resolution_kind": "Set the resolution by the pixels per spot distance (pitch), or by the side of a pixel.",
    "factor": "Pixels per spot distance (pitch): 2 divides each spot into about 4 pixels, 4 into about 16.",
    "pixel_size": "Side of a pixel, in the unit of the coordinate system.",
    "footprint": "Area of a spot that is divided into pixels. Cell: up to the neighboring spots, for a map without "
    "gaps. Spot: only the measured area.",
    "device": "Device on which the network runs; the list contains the devices of this computer.",
    "mode": "Mean: expected counts. Sample: expected counts and their standard deviation over several draws. "
    "Integer: one random draw of integer counts.",
    "advanced": "Show or hide method, model, expression, draws, steps and seed.",
    "method": "SRast, or one of the interpolations that it is compared with. All conserve the counts of each spot.",
    "model": "'default' for the shipped model, or the path of a model file.",
    "browse_model": "Choose a model file.",
    "expression": "Genes whose expression is estimated besides the counts: auto (all, in large runs the most "
    "abundant), none, or names separated by commas.",
    "draws": "Number of draws for the standard deviation; 'default' uses the built-in number.",
    "steps": "Number of integration steps of each draw; 'default' uses the built-in number.",
    "seed": "Seed of the random numbers: the same seed, slide and settings give the same result.",
    "prepares_slides": "Fit the features of an open slide while the window is idle and store them on the disk (at most "
    "2 GB), so that the first run is as quick as a later one. Results are the same.",
    "clear_cache": "Remove what was stored of prepared slides. Your slides and results are not touched.",
    # run
    "run": "Upsample the ticked regions, or the whole slide if none is ticked.",
    "queue": "Upsample the ticked regions after the current run, and untick them. You can draw the next one meanwhile.",
    "cancel": "Stop the run and drop queued runs. The slide and files on disk are not changed.",
    "run_progress": "Progress of the run.",
    "copy_report": "Copy an error report for the developers: versions, settings and the position in the code, "
    "but no names, coordinates or counts of the slide.",
    "section_help": "Open the page of the documentation about this section.",
    "tour_skip": "Close the tour and do not show it at later starts.",
    "tour_back": "Previous step of the tour.",
    "tour_next": "Next step of the tour.",
    "help": "Show links to the documentation and the keyboard shortcuts.",
    "tabs": "Prepare a run, or explore its result.",
    # result
    "open_results": "Displayed result. The list has the results in memory, which are kept until the slide is closed, "
    "and the results saved in the store of the slide.",
    "reuse_settings": "Set region, genes and settings to those of this result.",
    "close_result": "Close this result; exported files are not deleted.",
    "result_filter": "Type part of a gene name to filter the list.",
    "result_table": "Tick up to six genes to display; F toggles a favorite. Skill: expected gain of the map over a "
    "uniform split, in nats per count; above 0 is better than a uniform split.",
    "result_list_genes": "List all genes, displayed genes, or favorites.",
    "result_import": "Display up to six genes of a CSV or text file.",
    "hide_all": "Hide all genes.",
    "view_before": "Before: measured counts of the spots, on the same color scale.",
    "view_after": "After: the upsampled result.",
    "view_side_by_side": "Side by side: the upsampled result, and measured counts of the same region to the right.",
    "shown_values": "Expression: the best estimate of each pixel, given all spots; its sum over a spot differs from "
    "the spot's count. Counts: the counts of each spot, divided among its pixels. Measured spots: the counts as "
    "measured. Genes without expression are shown as counts.",
    "shown_scale": "As is: counts per pixel. Per 10,000: share of the pixel's total over the genes of the run (for "
    "expression: over those that have it), times 10,000; totals below 5 % of the median are set to it. log1p: "
    "logarithm of 1 plus that.",
    "shown_display": "Nearest: each pixel has one color. Smooth: values are interpolated between pixel centers.",
    "compare_with": "Counts that Before and Side by side show: the measured counts, or another result on the same "
    "pixels, such as the same run without histology.",
    "view_std": "Uncertainty: standard deviation over draws.",
    "gene_color": "Change the color of this gene.",
    "gene_contrast": "Contrast limits of this gene, in the unit below.",
    "gene_opacity": "Opacity of this gene.",
    "dim_histology": "Brightness of the histology.",
    "number_of_domains": "Number of domains, for which the resolution is searched; 'auto': at the resolution next to "
    "it.",
    "domain_resolution": "Resolution of the clusters: larger values give more and smaller domains; 'auto': about as "
    "many as the measured spots have clusters.",
    "domain_genes": "Genes by which the pixels are clustered, with commas between them; empty: all with expression. "
    "Markers are of all genes with expression in any case.",
    "find_domains": "Cluster the pixels by their expression. This takes a while in large results.",
    "domain_sets": "Sets of domains of this result: those in its store, and the one that is not saved.",
    "show_domains": "How the domains are shown over the slide.",
    "domain_table": "Domains from the largest to the smallest, with the genes that are highest in them. Double-click "
    "a name to change it; select several rows to merge them. Point at a row for more genes.",
    "merge_domains": "Merge the selected domains; the largest gives its name.",
    "save_domains": "Add the domains to the store of the slide, in which the result has to be saved: a column of its "
    "table, and labels.",
    "save_markers": "Save all markers of all domains as CSV.",
    "cell_source": "Segmented cells or nuclei: labels or polygons in the store of the slide, a layer of labels or "
    "shapes in napari, or a file (GeoJSON, or a label image with the pixels of the histology).",
    "count_cells": "Share the counts of each pixel among the cells that cover it, by area; what no cell covers is "
    "kept, so that all counts sum to those of the spots.",
    "color_cells": "Shown genes: their mean over the cell, on the color scale of the pixels. All counts: of the genes "
    "of the run. Cells per spot: how many cells share the spots of a cell, which cannot be measured apart. "
    "Uncertainty: standard deviation of the counts of the first shown gene.",
    "show_cells": "Fill: the cells instead of the pixels. Outlines: their edges over the pixels.",
    "save_cells": "Save the expected counts of the cells, and of what is outside them.",
    "gene_sets": "Gene sets as text: a name, a colon and genes, with semicolons between sets. Press Enter to score "
    "them.",
    "score_gene_sets": "Score the gene sets in every pixel, by scanpy's score_genes on log expression.",
    "open_gene_sets": "Score the gene sets of a file: .gmt, .csv, .tsv or .txt.",
    "shown_signature": "The score that is shown instead of the genes.",
    "save_signatures": "Save the scores of all pixels as CSV.",
    "structure_genes": "Genes, separated by commas. Empty: all genes are tested, and the shown ones are compared.",
    "permutations": "Permutations of the spots. p is at least one over their number plus 1, so a small q of many genes "
    "needs more.",
    "test_structure": "Test each gene for spatial structure, by Moran's I and permutations of the spots. All genes of "
    "a large slide take minutes.",
    "pair_genes": "Correlate the counts of the genes over the spots, with intervals from blocks of neighboring spots.",
    "structure_table": "Genes or pairs of genes. Click a heading to sort.",
    "save_structure": "Save the whole table as CSV.",
    "compare_first": "Region, or all regions of a class, whose spots are compared. Regions are drawn, named and given "
    "classes on the page Prepare.",
    "compare_second": "Region or class that it is compared with, or all other spots of the slide.",
    "compare_block": "Side of the blocks of neighboring spots that are drawn for the intervals, in spot distances. "
    "Blocks that are smaller than the structures of the tissue give intervals that are too narrow.",
    "compare_regions": "Compare the measured counts of the spots, gene by gene. No result is needed.",
    "compare_filter": "Type part of a gene name to filter the list.",
    "comparison_table": "log2 of the counts per 10,000 plus 1 of the region, over those of the other spots. Gray: the "
    "interval contains 0. Click a heading to sort.",
    "plot_comparison": "Show a volcano plot, to look at and to save. Its height is no p-value.",
    "save_comparison": "Save the table with all genes as CSV.",
    "move_image": "The run has found that the image predicts the counts better at this position. Moves it in the "
    "window; the store of the slide is not changed. Run again to use it there.",
    "undo_move": "Move the image back to where it was.",
    "export": "Save the result, or a figure of the canvas.",
    "write_report": "Write one HTML file about this result, to read or print: pictures of the shown genes, the skill "
    "of each gene, checks, domains and settings. It has the name of the slide, but no path, spot or position.",
    "copy_command": "Copy the command line that computes this result again.",
}


def describe(control: QWidget, name: str) -> None:
    """Set the object name, the tooltip, and the help that Shift+F1 opens, of a control; terms are defined in both."""
    control.setObjectName(name)
    _set_tooltip(control, _text(name))
    terms = definitions_html(name, linked=True)
    control.setWhatsThis(f"{escape(TOOLTIPS[name])}{terms}")
    if terms:
        control.installEventFilter(_LinkOpener(control))


def allow(control: QWidget, obstacle: str | None) -> None:
    """Enable a control, or disable it and show the reason in its tooltip.

    Parameters
    ----------
    control
        A control that :func:`describe` has named.
    obstacle
        Why the control cannot be used now; None enables it.
    """
    control.setEnabled(obstacle is None)
    _set_tooltip(control, _text(control.objectName()) if obstacle is None else name_controls(obstacle))


def _text(name: str) -> str:
    keys = next((s.keys for s in SHORTCUTS if s.control == name), None)
    return TOOLTIPS[name] if keys is None else f"{TOOLTIPS[name]} ({keys})"


def _set_tooltip(control: QWidget, text: str) -> None:
    name, is_reason = control.objectName(), text != _text(control.objectName())
    terms = "" if is_reason else definitions_html(name, linked=False)
    control.setToolTip(f"<qt>{escape(text)}{terms}</qt>")  # Qt wraps rich text only
    spoken = [] if is_reason else [f"{title}: {definition}" for title, definition, _ in definitions(name)]
    control.setAccessibleDescription(" ".join([text, *spoken]))


class _LinkOpener(QObject):
    """Opens links in the help of controls."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Open the address of a link that was clicked."""
        if not isinstance(event, QWhatsThisClickedEvent):
            return False
        QDesktopServices.openUrl(QUrl(event.href()))
        return True
