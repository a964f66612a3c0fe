"""Every control's tooltip in one place, by the control's object name.

A control is given its text with :func:`describe`; while it is disabled, :func:`allow` says why instead.
"""

from __future__ import annotations

from html import escape

from qtpy.QtWidgets import QWidget

from napari_srast.gui.widgets.shortcuts import SHORTCUTS

__all__ = ["TOOLTIPS", "allow", "describe"]

TOOLTIPS = {
    # slide
    "slide_path": "Folder of a SpatialData slide (.zarr), or a result (.zarr, .h5ad). Press Enter to open it, or drop "
    "the folder onto this panel.",
    "browse_slide": "Choose the folder of a SpatialData slide or result (.zarr).",
    "open_sample": "Open the built-in slide. It is generated: good for trying things out, not a measurement.",
    "recent_slides": "Open a slide that was open before.",
    "use_shown": "Use the slide that napari-spatialdata already shows; nothing is loaded twice.",
    "open_slides": "The slide to work on. Each open slide keeps its region and its results.",
    "close_slide": "Close this slide with its region and its results that were not exported.",
    "coordinate_system": "Frame in which the slide is shown and regions and pixel sizes are given; what lies in it.",
    "choose_spots": "Which element holds the spots or bins.",
    "choose_table": "Which table holds the counts.",
    "choose_image": "Which image is shown as histology and refines the maps; none does without.",
    # region
    "draw_rectangle": "Draw a rectangle: press, drag and release on the slide. Several shapes make one region.",
    "draw_ellipse": "Draw an ellipse: press, drag and release on the slide.",
    "draw_polygon": "Draw a polygon: click its corners, double-click the last one.",
    "draw_lasso": "Draw free-hand: press and drag around the tissue, then release.",
    "edit_region": "Move, resize or delete shapes: click one, drag it, or press Delete.",
    "undo_region": "Take back the last change of the region.",
    "clear_region": "Remove all shapes; without any, the whole slide is upsampled.",
    "take_shapes": "Make the shapes that were drawn in another layer the region.",
    "region_files": "Save the region as GeoJSON or with the slide, or load one.",
    # genes
    "gene_filter": "Type a part of a gene's name to narrow the list.",
    "gene_table": "Tick the genes to upsample. With none ticked, all are. Click a heading to sort; Space ticks; "
    "F makes a gene a favorite. Moran I tells how smoothly the counts vary in space.",
    "list_genes": "List all genes, only the ticked ones, or only your favorites.",
    "check_listed": "Tick every gene that is listed now.",
    "check_none": "Untick all genes.",
    "import_genes": "Tick the genes named in a CSV or text file.",
    # settings
    "resolution_kind": "Give the resolution as pixels per spot distance, or as the side of a pixel.",
    "factor": "Pixels along one spot-to-spot distance: 2 splits each spot into about 4 pixels, 4 into about 16.",
    "pixel_size": "Side of a pixel, in units of the coordinate system.",
    "footprint": "Cell: pixels fill the gaps between spots, good for viewing. Spot: only the measured area has pixels.",
    "device": "Where the network runs. Only what this computer has is listed.",
    "mode": "Mean: the expected counts. Sample: mean and uncertainty over several draws. "
    "Integer: one plausible draw of whole counts.",
    "advanced": "Show or hide method, model, draws, steps and seed.",
    "method": "SRast, or one of the interpolations that it is measured against. All conserve each spot's counts.",
    "model": "The shipped model 'default', or the path of a model file.",
    "browse_model": "Choose a model file.",
    "draws": "Number of draws; 'default' leaves it to the mode.",
    "steps": "Number of steps of the flow; 'default' leaves it to the mode.",
    "seed": "The same seed, slide and settings give the same result.",
    # run
    "run": "Upsample the region, or the whole slide if none is drawn.",
    "queue": "Upsample this region after the run that goes on, and draw the next one meanwhile.",
    "cancel": "Stop now, and drop what waits. The slide, the window and the disk stay as they were.",
    "run_progress": "How far the running step is.",
    "copy_report": "Copy a report of the last error, for whoever can mend it: versions, settings and where it "
    "happened, but no name, place or count of the slide.",
    "help": "List the keyboard shortcuts.",
    "tabs": "Prepare a run, then explore its result.",
    # result
    "open_results": "The result on show, and those saved in the slide's store; kept until the slide is closed.",
    "reuse_settings": "Set region, genes and settings to those of this result.",
    "close_result": "Close this result; what was exported stays on the disk.",
    "result_filter": "Type a part of a gene's name to narrow the list.",
    "result_table": "Tick up to six genes to show; F makes a gene a favorite. Skill: how much better than an even "
    "split the map predicts this very slide, in nats per count; above 0 is better.",
    "result_list_genes": "List all genes, only those on show, or only your favorites.",
    "result_import": "Show up to six of the genes named in a CSV or text file.",
    "hide_all": "Show no gene; the layers stay ready.",
    "view_before": "Before: the counts as measured, on the spots, on the same color scale.",
    "view_after": "After: the upsampled counts.",
    "view_side_by_side": "Side by side: the upsampled counts, and to their right the same place as measured.",
    "compare_with": "What Before and Side by side show: the measured counts, or another result on the same pixels, "
    "such as the same run without the histology.",
    "view_std": "Uncertainty: the standard deviation over draws.",
    "gene_color": "Change the color of this gene.",
    "gene_contrast": "Counts per pixel at which the color begins and at which it is full.",
    "gene_opacity": "Opacity of this gene.",
    "dim_histology": "Darken the histology so that the genes stand out.",
    "export": "Save the result, or a picture of what is on show.",
    "copy_command": "Copy the command line that repeats this result without a window.",
}


def describe(control: QWidget, name: str) -> None:
    """Name a control and give it its tooltip."""
    control.setObjectName(name)
    _say(control, _text(name))


def allow(control: QWidget, obstacle: str | None) -> None:
    """Enable a control, or disable it and let its tooltip say what is in the way."""
    control.setEnabled(obstacle is None)
    _say(control, _text(control.objectName()) if obstacle is None else obstacle)


def _text(name: str) -> str:
    keys = next((s.keys for s in SHORTCUTS if s.control == name), None)
    return TOOLTIPS[name] if keys is None else f"{TOOLTIPS[name]} ({keys})"


def _say(control: QWidget, text: str) -> None:
    control.setToolTip(f"<qt>{escape(text)}</qt>")  # rich text is wrapped, plain text is one long line
    control.setAccessibleDescription(text)
