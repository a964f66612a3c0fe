"""Every control's tooltip in one place, by the control's object name.

A control is given its text with :func:`describe`; while it is disabled, :func:`allow` says why instead.
"""

from __future__ import annotations

from html import escape

from qtpy.QtWidgets import QWidget

__all__ = ["TOOLTIPS", "allow", "describe"]

TOOLTIPS = {
    # slide
    "slide_path": "Folder of a SpatialData slide (.zarr). Press Enter to open it, or drop the folder onto this panel.",
    "browse_slide": "Choose the folder of a SpatialData slide (.zarr).",
    "open_sample": "Open the built-in slide. It is generated: good for trying things out, not a measurement.",
    "use_shown": "Use the slide that napari-spatialdata already shows; nothing is loaded twice.",
    "coordinate_system": "Frame in which the slide is shown and regions and pixel sizes are given.",
    "choose_spots": "Which element holds the spots or bins.",
    "choose_table": "Which table holds the counts.",
    "choose_image": "Which image is shown as histology.",
    # region
    "draw_rectangle": "Draw a rectangle: press, drag and release on the slide. Several shapes make one region.",
    "draw_ellipse": "Draw an ellipse: press, drag and release on the slide.",
    "draw_polygon": "Draw a polygon: click its corners, double-click the last one.",
    "draw_lasso": "Draw free-hand: press and drag around the tissue, then release.",
    "edit_region": "Move, resize or delete shapes: click one, drag it, or press Delete.",
    "clear_region": "Remove all shapes; without any, the whole slide is upsampled.",
    # genes
    "gene_filter": "Type a part of a gene's name to narrow the list.",
    "gene_table": "Tick the genes to upsample. With none ticked, all are. Click a heading to sort; Space ticks.",
    "checked_only": "List only the ticked genes.",
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
    "draws": "Number of draws; 'default' leaves it to the mode.",
    "steps": "Number of steps of the flow; 'default' leaves it to the mode.",
    "seed": "The same seed, slide and settings give the same result.",
    # run
    "run": "Upsample the region, or the whole slide if none is drawn.",
    "cancel": "Stop now. The slide, the window and the disk stay as they were.",
    "run_progress": "How far the running step is.",
    "tabs": "Prepare a run, then explore its result.",
    # result
    "result_filter": "Type a part of a gene's name to narrow the list.",
    "result_table": "Tick up to six genes to show. Skill: how much better than an even split the map "
    "predicts this very slide, in nats per count; above 0 is better.",
    "result_checked_only": "List only the genes that are shown.",
    "hide_all": "Show no gene; the layers stay ready.",
    "view_before": "Before: the counts as measured, on the spots, on the same colour scale.",
    "view_after": "After: the upsampled counts.",
    "view_std": "Uncertainty: the standard deviation over draws.",
    "dim_histology": "Darken the histology so that the genes stand out.",
    "export": "Save the result.",
}


def describe(control: QWidget, name: str) -> None:
    """Name a control and give it its tooltip."""
    control.setObjectName(name)
    _say(control, TOOLTIPS[name])


def allow(control: QWidget, obstacle: str | None) -> None:
    """Enable a control, or disable it and let its tooltip say what is in the way."""
    control.setEnabled(obstacle is None)
    _say(control, TOOLTIPS[control.objectName()] if obstacle is None else obstacle)


def _say(control: QWidget, text: str) -> None:
    control.setToolTip(f"<qt>{escape(text)}</qt>")  # rich text is wrapped, plain text is one long line
    control.setAccessibleDescription(text)
