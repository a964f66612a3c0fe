"""What a result can be compared with besides the measured counts: others on its pixels, itself without the image.

Only the method srast looks at the histology; what it was told of it is in the result's own record.
"""

from __future__ import annotations

import dataclasses

from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.core.summary import image_nats
from napari_srast.gui.layers.compared_layer import same_pixels
from napari_srast.gui.layers.overlay import Overlay, ViewMode
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.slide_session import SlideSession

__all__ = ["comparable", "counterpart", "image_difference", "looked_at_image", "meaning_of", "settings_on"]

_MEANING: dict[ViewMode, str] = {
    "after": "counts per pixel",
    "before": "measured counts per pixel of the spot",
    "side_by_side": "counts per pixel: upsampled, and beside as measured",
    "std": "standard deviation of the counts per pixel",
}


def looked_at_image(result: UpsampleResult) -> bool:
    """Tell whether the run had histology to look at, whether or not it was used in the end."""
    return image_nats(result) is not None


def comparable(owner: SlideSession) -> list[DisplayedResult]:
    """Return the other results of a slide that have the pixels and the genes of the one on show."""
    shown = owner.result
    if shown is None:
        return []
    return [other for other in owner.results if other is not shown and same_pixels(shown.result, other.result)]


def counterpart(owner: SlideSession) -> Slide | None:
    """Return the slide on which the result on show would be made without its histology, or with it.

    None where there is no such run, or where its result is among the comparable ones.
    """
    shown = owner.result
    if shown is None or owner.slide.image is None or shown.result.settings.method != "srast":
        return None
    with_image, settings = looked_at_image(shown.result), shown.result.settings
    for other in comparable(owner):
        if looked_at_image(other.result) != with_image and other.result.settings == settings:
            return None
    if not with_image:
        return owner.slide
    source = dataclasses.replace(owner.slide.source, image=None)
    return dataclasses.replace(owner.slide, image=None, source=source)


def settings_on(slide: Slide, result: UpsampleResult) -> UpsampleSettings:
    """Return the settings that give a result's pixels in the slide's chosen coordinate system, which may be another."""
    settings = result.settings
    if settings.pixel_size is None or slide.cs_scale == result.slide.cs_scale:
        return settings
    return dataclasses.replace(settings, pixel_size=settings.pixel_size * slide.cs_scale / result.slide.cs_scale)


def image_difference(result: UpsampleResult, other: UpsampleResult) -> str:
    """Say in a few words what another result is, seen from this one."""
    had, has = looked_at_image(result), looked_at_image(other)
    return "another result" if had == has else f"with{'' if has else 'out'} the image"


def meaning_of(overlay: Overlay) -> str:
    """Say what the colors on show mean."""
    other = overlay.compared
    if other is None or overlay.view not in ("before", "side_by_side"):
        return _MEANING[overlay.view]
    what = image_difference(overlay.result, other.result)
    return f"counts per pixel: {what}" if overlay.view == "before" else f"counts per pixel, and beside: {what}"
