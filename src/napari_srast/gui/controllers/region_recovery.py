"""Store the regions of open slides while they are not saved, and offer them when the slide is opened again.

Every method runs in the GUI thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary, WeakSet

from psygnal import Signal

from napari_srast.errors import OutputError, RegionError
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.gui.state.unsaved_regions import UnsavedRegions
from napari_srast.gui.state.workspace import Workspace
from napari_srast.io.annotations import Annotation

__all__ = ["RegionRecovery"]


@dataclass(eq=False)
class _Stored:
    """What the file of unsaved regions has for an open slide."""

    path: Path
    offered: list[Annotation]
    regions: list[Annotation] = field(default_factory=list)  # of the file, besides the offered ones
    saved: tuple[object, ...] | None = None  # content of the layer when it was saved


class RegionRecovery:
    """Keep the unsaved regions of the open slides in files.

    Changes that follow each other immediately, as while a file is loaded, are written once.

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
        self._to_write: WeakSet[SlideSession] = WeakSet()
        self._has_failed = False
        workspace.session_closing.connect(self._on_closing)
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
        offered, stored.offered = stored.offered, []  # will be written as part of the drawn regions
        try:
            for annotation in offered:
                annotation.region.check_coordinate_system(slide)
            self._workspace.region_layer.add_annotations(offered, slide)
        except RegionError as error:
            stored.offered = offered
            self._messages.error_message.emit(str(error))
            return
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
        session = self._workspace.current
        return session is None or self._is_saved(session)

    def write_changed(self) -> None:
        """Write the regions of all slides that have changed since the last time."""
        changed, self._to_write = self._to_write, WeakSet()
        for session in changed:
            if session.region_layer.layer is None:
                continue  # nothing was drawn, or the layer is gone and cannot be restored by undo: the file stays
            stored, unsaved = self._stored[session], [] if self._is_saved(session) else _drawn(session)
            if unsaved != stored.regions:
                self._write(stored, unsaved)

    def _is_saved(self, session: SlideSession) -> bool:
        stored, content = self._stored.get(session), session.region_layer.content
        return stored is None or content is None or content == stored.saved

    def _current(self) -> _Stored | None:
        session = self._workspace.current
        return None if session is None else self._stored.get(session)

    def _on_slide(self) -> None:
        session = self._workspace.current
        if session is not None and session not in self._stored:
            source = session.slide.source
            if source.path is not None and not source.synthetic:
                path = Path(source.path).resolve()
                self._stored[session] = _Stored(path, [] if self._stored_of(path) else self._read(path))
        self.changed.emit()

    def _on_region(self) -> None:
        session = self._workspace.current
        if session is None or session not in self._stored:
            return
        self._to_write.add(session)
        if self._workspace.schedule is None:
            self.write_changed()
        else:
            self._workspace.schedule(self.write_changed)

    def _on_closing(self, session: SlideSession) -> None:
        """Offer the regions of a closed slide where it is still open with other elements; otherwise the file stays."""
        self.write_changed()
        closed = self._stored.pop(session, None)
        if closed is not None:
            for still_open in self._stored_of(closed.path)[:1]:
                still_open.offered = [*still_open.offered, *closed.offered, *closed.regions]
            self.changed.emit()

    def _stored_of(self, path: Path) -> list[_Stored]:
        """Return what is stored for a path; its slide may be open several times, with other elements."""
        stored = (self._stored.get(session) for session in self._workspace.sessions)
        return [one for one in stored if one is not None and one.path == path]

    def _read(self, path: Path) -> list[Annotation]:
        try:
            return self._files.read(path)
        except RegionError as error:
            self._messages.error_message.emit(str(error))
            return []

    def _write(self, stored: _Stored, regions: list[Annotation]) -> None:
        stored.regions = regions
        kept = [annotation for s in self._stored_of(stored.path) for annotation in (*s.offered, *s.regions)]
        try:
            self._files.write(stored.path, kept)
            self._has_failed = False
        except OutputError as error:
            if not self._has_failed:  # once, because every change would repeat it
                self._messages.error_message.emit(f"Save your regions, because they would not survive a crash: {error}")
            self._has_failed = True


def _drawn(session: SlideSession) -> list[Annotation]:
    drawn = session.region_layer.regions(session.slide.coordinate_system)
    return [annotation for region in drawn if (annotation := region.annotation()) is not None]
