"""Store the regions of open slides while they are not saved, and offer them when the slide is opened again.

Every method runs in the GUI thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_srast.errors import OutputError, RegionError
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.gui.state.unsaved_regions import UnsavedRegions
from napari_srast.gui.state.workspace import Workspace
from napari_srast.io.region_features import Annotation

__all__ = ["RegionRecovery"]


@dataclass(eq=False)
class _Stored:
    """What the disk has of the regions of an open slide."""

    path: Path
    offered: list[Annotation]
    regions: list[Annotation] = field(default_factory=list)  # of the file, besides the offered ones
    saved: tuple[object, ...] | None = None  # content of the layer when it was saved


class RegionRecovery:
    """Keep the unsaved regions of the open slides on the disk.

    Parameters
    ----------
    workspace
        The open slides.
    messages
        Receives error messages.
    """

    changed = Signal()

    def __init__(self, workspace: Workspace, messages: Messages) -> None:
        self._workspace = workspace
        self._messages = messages
        self._files = UnsavedRegions()
        self._stored: WeakKeyDictionary[SlideSession, _Stored] = WeakKeyDictionary()
        self._has_failed = False
        workspace.slide_changed.connect(self._on_slide)
        workspace.region_changed.connect(self._on_region)

    @property
    def offered(self) -> Sequence[Annotation]:
        """Regions of an earlier session that were not saved, of the current slide."""
        stored = self._current()
        return () if stored is None else stored.offered

    def restore(self) -> None:
        """Add the offered regions to those of the current slide."""
        stored, slide = self._current(), self._workspace.slide
        if stored is None or slide is None or not stored.offered:
            return
        try:
            for annotation in stored.offered:
                annotation.region.check_coordinate_system(slide)
        except RegionError as error:
            self._messages.error_message.emit(str(error))
            return
        offered, stored.offered = stored.offered, []
        self._workspace.region_layer.add_annotations(offered, slide)  # is stored as part of the regions
        self.changed.emit()

    def discard(self) -> None:
        """Delete the offered regions."""
        stored = self._current()
        if stored is not None:
            stored.offered = []
            self._write(stored, stored.regions)
            self.changed.emit()

    def mark_saved(self) -> None:
        """Remove the regions of the current slide from the disk, because the user has saved them."""
        stored = self._current()
        if stored is not None:
            stored.saved = self._workspace.region_layer.content
            self._write(stored, [])

    @property
    def is_saved(self) -> bool:
        """Whether all regions of the current slide were saved, or there are none."""
        stored = self._current()
        content = self._workspace.region_layer.content
        return stored is None or content is None or content == stored.saved

    def _current(self) -> _Stored | None:
        session = self._workspace.current
        return None if session is None else self._stored.get(session)

    def _drawn(self) -> list[Annotation]:
        slide = self._workspace.slide
        if slide is None:
            return []
        drawn = self._workspace.region_layer.regions(slide.coordinate_system)
        return [annotation for region in drawn if (annotation := region.annotation()) is not None]

    def _on_slide(self) -> None:
        session = self._workspace.current
        if session is not None and session not in self._stored:
            source = session.slide.source
            if source.path is not None and not source.synthetic:
                path = Path(source.path)
                is_open = any(self._stored[s].path == path for s in self._workspace.sessions if s in self._stored)
                self._stored[session] = _Stored(path, [] if is_open else self._files.read(path))
        self.changed.emit()

    def _on_region(self) -> None:
        stored = self._current()
        if stored is None or self._workspace.region_layer.layer is None:
            return  # nothing was drawn, or the layer is gone and cannot be restored by undo: the file stays
        unsaved = [] if self.is_saved else self._drawn()
        if unsaved != stored.regions:
            self._write(stored, unsaved)

    def _write(self, stored: _Stored, regions: list[Annotation]) -> None:
        stored.regions = regions
        same = [s for s in self._stored.values() if s.path == stored.path]  # the slide may be open with other elements
        try:
            self._files.write(stored.path, [one for s in same for one in (*s.offered, *s.regions)])
        except OutputError as error:
            if not self._has_failed:  # once, because every change would repeat it
                self._messages.error_message.emit(f"Regions that are not saved would not survive a crash: {error}")
            self._has_failed = True
