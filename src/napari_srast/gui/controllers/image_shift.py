"""Move the histology of the current slide to where a run has found that it fits better.

Every method runs in the GUI thread.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from psygnal import Signal

from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.gui.state.workspace import Workspace

__all__ = ["ImageShift"]

_OFFSET = {"offset", "offset_pitches", "evidence", "evidence_at_offset"}  # of the image, in the record of a run


class ImageShift:
    """Offer to move the image of the current slide, and to undo that.

    Parameters
    ----------
    workspace
        The open slides.
    messages
        Receives status messages.
    """

    changed = Signal()

    def __init__(self, workspace: Workspace, messages: Messages) -> None:
        self._workspace = workspace
        self._messages = messages
        self._moves: WeakKeyDictionary[SlideSession, list[np.ndarray]] = WeakKeyDictionary()
        for signal in (workspace.result_changed, workspace.coordinate_system_changed):
            signal.connect(self.changed.emit)

    @property
    def proposal(self) -> np.ndarray | None:
        """Displacement (x, y), in the spots' own frame, after which the image fits better; None if it fits.

        The displayed result must be of the image at its current position, and the panel must show the image.
        """
        from napari_srast.histology.offset import is_misaligned

        session, displayed = self._workspace.current, self._workspace.result
        if session is None or displayed is None or session.slide.image is None:
            return None
        image, used = session.slide.image, displayed.result.slide.image
        record = (displayed.result.provenance.get("calibration") or {}).get("image") or {}
        if used is None or used.name != image.name or record.get("name") != image.name or not _OFFSET.issubset(record):
            return None
        if not np.allclose(used.to_intrinsic[0], image.to_intrinsic[0]):
            return None
        if all(role_of(layer) != "histology" for layer in session.layers):
            return None  # napari-spatialdata shows the image, and would leave it where it is
        if not is_misaligned(record["evidence"], record["evidence_at_offset"], record["offset_pitches"]):
            return None
        return -np.asarray(record["offset"], dtype=float)

    @property
    def text(self) -> str:
        """Text of the button that moves the image; empty if there is nothing to move."""
        proposal, slide = self.proposal, self._workspace.slide
        return "" if proposal is None or slide is None else f"Move the image by {_describe(proposal, slide)}"

    @property
    def can_undo(self) -> bool:
        """Whether the image of the current slide was moved."""
        session = self._workspace.current
        return session is not None and bool(self._moves.get(session))

    def move(self) -> None:
        """Move the image by the proposed displacement; files on the disk are not changed."""
        session, proposal = self._workspace.current, self.proposal
        if session is not None and proposal is not None:
            session.move_image(proposal)
            self._moves.setdefault(session, []).append(proposal)
            self._announce(f"Moved the image by {_describe(proposal, session.slide)}. Run again to use it there.")

    def undo(self) -> None:
        """Move the image back to where it was before the last move."""
        session = self._workspace.current
        moves = [] if session is None else self._moves.get(session, [])
        if session is not None and moves:
            session.move_image(-moves.pop())
            self._announce("Moved the image back.")

    def _announce(self, message: str) -> None:
        self._messages.status_message.emit(message)
        self.changed.emit()


def _describe(shift: np.ndarray, slide: Slide) -> str:
    """Return a displacement in the chosen coordinate system, such as "x +12.3, y -4 µm"."""
    x, y = slide.to_cs[:2, :2] @ shift
    unit = {"um": " µm", "unknown": ""}.get(slide.cs_unit, f" {slide.cs_unit}")
    return f"x {x:+.3g}, y {y:+.3g}{unit}"
