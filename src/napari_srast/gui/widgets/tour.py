"""Tour of the panel for the first start: a few steps, each next to the control that it explains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QEvent, QObject, QPoint, QRect, Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_srast.gui.widgets.tooltips import describe

__all__ = ["Tour", "TourStep"]

_MARGIN = 10
_STYLE = """
QFrame#tour { background: #2b3a4d; border: 1px solid #7f9bbd; border-radius: 6px; }
QFrame#tour QLabel { color: #ffffff; background: transparent; }
"""
_FRAME_STYLE = "QFrame#tour_frame { border: 2px solid #ffd400; border-radius: 4px; background: transparent; }"


@dataclass(frozen=True, eq=False)
class TourStep:
    """One step of the tour.

    Parameters
    ----------
    target
        The control that it explains.
    text
        What the user does there.
    prepare
        Called before the step, for instance to switch to the page of the control.
    """

    target: QWidget
    text: str
    prepare: Callable[[], object] = lambda: None


class Tour(QFrame):
    """Bubble over the panel with the text of a step; it takes no room from the panel.

    Parameters
    ----------
    panel
        The panel, which is the parent.
    steps
        The steps.
    ended
        Called when the user has seen or skipped the tour.

    Attributes
    ----------
    text
        Label with the text of the step.
    back, following, skip
        Its buttons.
    """

    def __init__(self, panel: QWidget, steps: Sequence[TourStep], ended: Callable[[], object]) -> None:
        super().__init__(panel)
        self._panel = panel
        self._steps = list(steps)
        self._ended = ended
        self._current = 0
        self._was_offered = False
        self.setObjectName("tour")
        self.setStyleSheet(_STYLE)
        self._frame = QFrame(panel)
        self._frame.setObjectName("tour_frame")
        self._frame.setStyleSheet(_FRAME_STYLE)
        self._frame.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.skip, self.back, self.following = (
            QPushButton("Do not show again"),
            QPushButton("Back"),
            QPushButton("Next"),
        )
        row = QHBoxLayout()
        names = {self.skip: "tour_skip", self.back: "tour_back", self.following: "tour_next"}
        for control, name in names.items():
            describe(control, name)
            row.addWidget(control)
        self.skip.clicked.connect(self.end)
        self.back.clicked.connect(lambda: self._go_to(self._current - 1))
        self.following.clicked.connect(lambda: self._go_to(self._current + 1))
        column = QVBoxLayout(self)
        column.addWidget(self.text)
        column.addLayout(row)
        self.hide()
        self._frame.hide()

    @property
    def is_open(self) -> bool:
        """Whether a step is shown."""
        return not self.isHidden()

    def offer(self) -> None:
        """Show the first step, unless the panel has offered the tour before."""
        if self._was_offered:
            return
        self._was_offered = True
        self._panel.installEventFilter(self)
        self._go_to(0)

    def show_last(self) -> None:
        """Go to the last step if the tour is open."""
        if self.is_open:
            self._go_to(len(self._steps) - 1)

    def postpone(self) -> None:
        """Close the tour until the next start."""
        self._was_offered = True
        self._panel.removeEventFilter(self)
        self.hide()
        self._frame.hide()

    def end(self) -> None:
        """Close the tour and record that the user has seen it."""
        self.postpone()
        self._ended()

    def _go_to(self, index: int) -> None:
        if index >= len(self._steps):
            self.end()
            return
        self._current = index
        step = self._steps[index]
        step.prepare()
        self.text.setText(f"<b>{index + 1} of {len(self._steps)}</b>&nbsp; {step.text}")
        self.back.setEnabled(index > 0)
        self.following.setText("Done" if index == len(self._steps) - 1 else "Next")
        self._frame.show()
        self.show()
        self._place()

    def _place(self) -> None:
        """Put the frame around the control, and the bubble below it, or above where there is no room."""
        target, panel = self._steps[self._current].target, self._panel
        place = QRect(target.mapTo(panel, QPoint(0, 0)), target.size()).intersected(panel.rect())
        self._frame.setGeometry(place.adjusted(-2, -2, 2, 2))
        width = panel.width() - 2 * _MARGIN
        layout = self.layout()
        height = self.sizeHint().height() if layout is None else layout.totalHeightForWidth(width)
        below = place.bottom() + _MARGIN
        top = below if below + height <= panel.height() else max(place.top() - height - _MARGIN, _MARGIN)
        self.setGeometry(_MARGIN, top, width, height)
        self._frame.raise_()
        self.raise_()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Follow the size and the layout of the panel; no event is filtered out."""
        if event is not None and event.type() in (QEvent.Type.Resize, QEvent.Type.LayoutRequest) and self.is_open:
            self._place()
        return False
