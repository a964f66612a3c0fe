"""Find results that the displayed one can be compared with: results on the same pixels, or a run without histology.

Only the method srast uses the histology; the provenance of a result records whether it was available.
"""

from __future__ import annotations

import dataclasses

from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.core.summary import image_nats
from napari_srast.gui.layers.compared_layer import same_pixels
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.gene_values import STD_UNIT, unit_of
from napari_srast.gui.state.slide_session import SlideSession

__all__ = ["comparable", "counterpart", "had_image", "image_difference", "meaning_of", "settings_on"]


def had_image(result: UpsampleResult) -> bool:
    """Return whether histology was available to the run, even if calibration gave it no weight."""
    return image_nats(result) is not None


def comparable(session: SlideSession) -> list[DisplayedResult]:
    """Return the other results of a slide on the pixels and genes of the displayed one."""
    displayed = session.result
    if displayed is None:
        return []
    return [
        other for other in session.results if other is not displayed and same_pixels(displayed.result, other.result)
    ]


def counterpart(session: SlideSession) -> Slide | None:
    """Return the slide for repeating the displayed run without its histology, or with it.

    None if there is no such run, or if its result is one of the comparable results.
    """
    displayed = session.result
    if displayed is None or session.slide.image is None or displayed.result.settings.method != "srast":
        return None
    with_image, settings = had_image(displayed.result), displayed.result.settings
    for other in comparable(session):
        if had_image(other.result) != with_image and other.result.settings == settings:
            return None
    if not with_image:
        return session.slide
    source = dataclasses.replace(session.slide.source, image=None)
    return dataclasses.replace(session.slide, image=None, source=source)


def settings_on(slide: Slide, result: UpsampleResult) -> UpsampleSettings:
    """Return the settings that give the pixels of a result in the chosen coordinate system of a slide."""
    settings = result.settings
    if settings.pixel_size is None or slide.cs_scale == result.slide.cs_scale:
        return settings
    return dataclasses.replace(settings, pixel_size=settings.pixel_size * slide.cs_scale / result.slide.cs_scale)


def image_difference(result: UpsampleResult, other: UpsampleResult) -> str:
    """Describe another result relative to this one: "without the image", "with the image" or "another result"."""
    before, after = had_image(result), had_image(other)
    return "another result" if before == after else f"with{'' if after else 'out'} the image"


def meaning_of(overlay: Overlay) -> str:
    """Describe what the displayed colors mean: the values, their unit, and what they are compared with."""
    values, view, other = overlay.values, overlay.value_view, overlay.compared
    genes = [style.gene for style in overlay.shown]
    unit = values.unit(genes, view)
    if overlay.view == "std":
        return STD_UNIT
    if overlay.view == "after":
        return unit
    if other is None:
        if overlay.view == "before":
            return f"measured {unit_of('counts', view.scale)} of the spot"
        return f"{unit}: upsampled (left), measured counts (right)"
    difference, other_unit = image_difference(overlay.result, other.result), other.values.unit(genes, view)
    if overlay.view == "before":
        return f"{other_unit}: {difference}"
    return f"{unit}; right: {difference}{'' if other_unit == unit else f', {other_unit}'}"
