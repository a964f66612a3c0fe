"""Sections of the panel that fold to their title."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSize, Qt, QUrl
from qtpy.QtGui import QDesktopServices, QResizeEvent
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from napari_srast.gui.widgets.help_pages import SECTION_PAGES, page_url
from napari_srast.gui.widgets.tooltips import describe

__all__ = ["Section", "fold_to_fit", "give_room", "row_of"]

_MARGIN = 6


class Section(QWidget):
    """A title with an arrow, and a body that the arrow shows or hides.

    Parameters
    ----------
    name
        Object name of the title, for the tooltip.
    title
        The title.

    Attributes
    ----------
    header
        Button that folds and unfolds the section.
    column
        Layout of the body.
    help
        Button that opens the page of the documentation; hidden if there is none.
    """

    def __init__(self, name: str, title: str) -> None:
        super().__init__()
        self._is_chosen = False
        self._summary = ""
        self.header = QToolButton()
        self.header.setText(title)
        self.header.setCheckable(True)
        self.header.setChecked(True)
        self.header.setAutoRaise(True)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.header.setStyleSheet("QToolButton { background: transparent; border: none; font-weight: bold; }")
        describe(self.header, name)
        self.summary = QLabel()
        self.summary.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.body = QFrame()
        self.column = QVBoxLayout(self.body)
        self.column.setContentsMargins(_MARGIN, 0, _MARGIN, _MARGIN)
        self.column.setSpacing(4)
        top = QHBoxLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.addWidget(self.header)
        top.addWidget(self.summary, 1)
        self.help = QToolButton()
        self.help.setText("?")
        self.help.setAutoRaise(True)
        self.help.setStyleSheet("QToolButton { background: transparent; border: none; }")
        describe(self.help, "section_help")
        page = SECTION_PAGES.get(name)
        self.help.setVisible(page is not None)
        if page is not None:
            self.help.clicked.connect(lambda: QDesktopServices.openUrl(QUrl(page_url(page))))
        top.addWidget(self.help)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(2)
        outer.addLayout(top)
        outer.addWidget(self.body, 1)
        self.header.clicked.connect(self._choose)
        self._show(True)

    def fill(self, panel: QWidget) -> None:
        """Make the section the only content of a panel."""
        outer = QHBoxLayout(panel)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self)

    @property
    def is_open(self) -> bool:
        """Whether the body is shown."""
        return self.header.isChecked()

    def set_summary(self, text: str) -> None:
        """Set the text that is shown next to the title while the section is folded."""
        self._summary = text
        self._show(self.is_open)

    def unfold(self, is_open: bool) -> None:
        """Show or hide the body, unless the user has chosen otherwise."""
        if not self._is_chosen and is_open != self.is_open:
            self.header.setChecked(is_open)
            self._show(is_open)

    def needed_height(self, *, is_open: bool) -> int:
        """Return the smallest height, unfolded or folded; a section that the user has folded or unfolded stays so."""
        is_open = self.is_open if self._is_chosen else is_open
        height = self.header.sizeHint().height()
        if not is_open:
            return height
        width = self.width() - 2 * _MARGIN
        wrapped = self.column.hasHeightForWidth()  # labels are taller in a narrower section
        body = self.column.heightForWidth(width) if wrapped else self.body.minimumSizeHint().height()
        return height + 2 + body

    def _choose(self, is_open: bool) -> None:
        self._is_chosen = True
        self._show(is_open)

    def _show(self, is_open: bool) -> None:
        self.header.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.body.setVisible(is_open)
        self.summary.setToolTip("" if is_open else self._summary)
        self._elide()
        # A folded section must not take the room that an unfolded one could use.
        vertical = QSizePolicy.Policy.Preferred if is_open else QSizePolicy.Policy.Fixed
        self.setSizePolicy(QSizePolicy.Policy.Preferred, vertical)

    def _elide(self) -> None:
        text = "" if self.is_open else self._summary
        room = self.width() - self.header.sizeHint().width() - self.help.sizeHint().width() - 2 * _MARGIN
        self.summary.setText(self.summary.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, room))

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: D102
        super().resizeEvent(event)
        self._elide()

    def minimumSizeHint(self) -> QSize:  # noqa: D102
        hint = super().minimumSizeHint()
        return hint.expandedTo(self.body.minimumSizeHint().boundedTo(QSize(10_000, 0)))  # folding keeps the width


def row_of(*controls: QWidget, stretch: Sequence[int] | None = None) -> QHBoxLayout:
    """Return a row of controls.

    Parameters
    ----------
    *controls
        The controls.
    stretch
        Share of the free width of each of them. Default: none for labels, and the same for all others.
    """
    row = QHBoxLayout()
    row.setSpacing(4)
    shares = [int(not isinstance(control, QLabel)) for control in controls] if stretch is None else stretch
    for control, share in zip(controls, shares, strict=True):
        row.addWidget(control, share)
    return row


def fold_to_fit(sections: Sequence[Section], foldable: Sequence[Section], height: int, spare: int = 0) -> None:
    """Fold as few sections as needed to show the others without scrolling.

    Parameters
    ----------
    sections
        All sections of a page.
    foldable
        Those that may be folded, the first to be folded first.
    height
        Height of the page in pixels.
    spare
        Height to leave over: the first section is folded for it, the others are not.
    """
    folded: list[Section] = []
    for section in foldable:
        needed = sum(one.needed_height(is_open=one not in folded) for one in sections)
        if needed + (0 if folded else spare) <= height:
            break
        folded.append(section)
    for section in sections:
        section.unfold(section not in folded)


def give_room(column: QVBoxLayout, panel: QWidget, section: Section) -> None:
    """Let a panel take the free room of a page while its section is open; otherwise the room is below all sections.

    Parameters
    ----------
    column
        Layout of the page, complete except for its free room.
    panel
        The panel, in the layout.
    section
        The section of the panel.
    """

    def follow(is_open: bool) -> None:
        column.setStretchFactor(panel, int(is_open))
        vertical = QSizePolicy.Policy.Preferred if is_open else QSizePolicy.Policy.Maximum
        panel.setSizePolicy(QSizePolicy.Policy.Preferred, vertical)

    column.addStretch(0)
    follow(section.is_open)
    section.header.toggled.connect(follow)
