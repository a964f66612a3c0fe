"""Save regions of the current slide, and load them.

Every method runs in the GUI thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from napari_srast._utils.text import count
from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.errors import RegionError, SrastError
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.region_recovery import RegionRecovery
from napari_srast.gui.layers.drawn_regions import DrawnRegion
from napari_srast.gui.state.workspace import Workspace
from napari_srast.io.annotations import Annotation, read_annotations, write_annotations

__all__ = ["TOLERANCE", "RegionFiles", "is_same", "transformed"]

TOLERANCE = 1e-6
"""Share of the area by which geometries that are the same may differ, because napari rounds corners."""


class RegionFiles:
    """Save and load the regions of the current slide.

    Parameters
    ----------
    workspace
        The open slides.
    recovery
        Receives what was saved.
    messages
        Receives status and error messages.
    """

    def __init__(self, workspace: Workspace, recovery: RegionRecovery, messages: Messages) -> None:
        self._workspace = workspace
        self._recovery = recovery
        self._messages = messages

    def save_geojson(self, path: Path) -> None:
        """Write all regions as GeoJSON, in the chosen coordinate system."""

        def write(annotations: Sequence[Annotation]) -> str:
            write_annotations(annotations, path)
            return str(path)

        self._save(write)

    def save_with_slide(self) -> None:
        """Add all regions to the SpatialData store of the slide."""
        from napari_srast.io.regions import write_regions

        slide = self._workspace.slide
        if slide is not None:
            self._save(lambda annotations: f"{write_regions(annotations, slide)} of the slide")

    def read_geojson(self, path: Path) -> list[Annotation]:
        """Return the regions of a GeoJSON file; none if it cannot be read, which a message then says."""
        try:
            annotations = read_annotations(path)
            for annotation in annotations:
                if annotation.region.coordinate_system and self._workspace.slide is not None:
                    annotation.region.check_coordinate_system(self._workspace.slide)  # it may be of another slide
        except SrastError as error:
            self._messages.error_message.emit(str(error))
            return []
        return annotations

    def may_be_pixels(self, annotations: Sequence[Annotation]) -> bool:
        """Return whether coordinates may be pixels of the image: no system is named, and the image has another one."""
        slide = self._workspace.slide
        if slide is None or slide.image is None or all(one.region.coordinate_system for one in annotations):
            return False
        return not np.allclose(slide.to_cs @ slide.image.to_intrinsic[0], np.eye(3), atol=1e-6)

    def load(self, annotations: Sequence[Annotation], *, pixels: bool = False) -> None:
        """Add regions and tick only them; those that are there already are ticked.

        Parameters
        ----------
        annotations
            The regions.
        pixels
            Whether regions without a coordinate system are in pixels of the image; otherwise, in the chosen system.
        """
        slide = self._workspace.slide
        if slide is None or not annotations:
            return
        was_saved, present = self._recovery.is_saved, self._drawn()
        to_cs = slide.to_cs @ slide.image.to_intrinsic[0] if pixels and slide.image is not None else np.eye(3)
        known = [one for one in present if one.region is not None]
        tree = shapely.STRtree([one.region.geometry for one in known if one.region is not None])
        new, again = [], []
        for annotation in annotations:
            system = annotation.region.coordinate_system
            matrix = slide.to_cs @ np.linalg.inv(slide.transforms[system]) if system else to_cs
            placed = dataclasses.replace(annotation, region=transformed(annotation.region, matrix, slide))
            near = (known[index] for index in tree.query(placed.region.geometry))
            same = [one.key for one in near if _is_annotation(one, placed)]
            again += same
            new += [] if same else [placed]
        layer = self._workspace.region_layer
        try:
            layer.add_annotations(new, slide)
        except RegionError as error:
            self._messages.error_message.emit(str(error))
            return
        if again:
            present_keys = {one.key for one in present}
            layer.use([*again, *(one.key for one in self._drawn() if one.key not in present_keys)])
        if was_saved:
            self._recovery.mark_saved()
        self._messages.status_message.emit(f"Loaded {count(len(annotations), 'region')}.")

    def saved(self) -> dict[str, list[Annotation]]:
        """Return the regions in the SpatialData store of the slide, by the name of their element."""
        from napari_srast.io.regions import read_regions

        slide = self._workspace.slide
        if slide is None or slide.source.path is None:
            return {}
        try:
            return read_regions(slide.source.path)
        except SrastError as error:
            self._messages.error_message.emit(str(error))
            return {}

    def _save(self, write: Callable[[Sequence[Annotation]], str]) -> None:
        """Write all regions and report where ``write`` has saved them."""
        annotations = [annotation for one in self._drawn() if (annotation := one.annotation()) is not None]
        if not annotations:
            self._messages.error_message.emit("No shape encloses an area; draw a region first.")
            return
        try:
            place = write(annotations)
        except SrastError as error:
            self._messages.error_message.emit(str(error))
            return
        self._recovery.mark_saved()
        self._messages.status_message.emit(f"Saved {count(len(annotations), 'region')} to {place}.")

    def _drawn(self) -> list[DrawnRegion]:
        slide = self._workspace.slide
        return [] if slide is None else self._workspace.region_layer.regions(slide.coordinate_system)


def transformed(region: Region, matrix: np.ndarray, slide: Slide) -> Region:
    """Return a region in the chosen coordinate system of a slide."""
    geometry = shapely.transform(region.geometry, lambda corners: apply_affine(matrix, corners))
    return Region(geometry, slide.coordinate_system)


def is_same(one: BaseGeometry, other: BaseGeometry) -> bool:
    """Return whether two polygons are the same, but for the rounding of their corners."""
    return bool(one.symmetric_difference(other).area <= TOLERANCE * max(one.area, other.area))


def _is_annotation(drawn: DrawnRegion, annotation: Annotation) -> bool:
    return (
        drawn.region is not None
        and (drawn.name, drawn.classification) == (annotation.name, annotation.classification)
        and is_same(drawn.region.geometry, annotation.region.geometry)
    )
