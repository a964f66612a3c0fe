"""Show the measured counts of the current slide on its spots.

Every method runs in the GUI thread.
"""

from __future__ import annotations

import dataclasses
from weakref import WeakKeyDictionary, WeakSet

from napari.layers import Image, Points
from psygnal import Signal

from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.layers.spot_preview import CountsPicture, SpotPreview, counts_picture
from napari_srast.gui.runtime import background
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.gui.state.workspace import Workspace

__all__ = ["ENTRIES_AT_ONCE", "Preview"]

ENTRIES_AT_ONCE = 1_000_000
"""Entries of the counts; slides with more are searched in the background."""


class Preview:
    """Color the spots by the counts of a gene, or of all genes, or show their outlines only.

    Parameters
    ----------
    workspace
        The open slides.

    Attributes
    ----------
    is_on
        Whether spots are colored.
    text
        What the colors mean; empty if no spots are colored.
    changed
        Signal, emitted after ``text`` has changed.
    """

    changed = Signal()

    def __init__(self, workspace: Workspace) -> None:
        self.is_on = True
        self.text = ""
        self._workspace = workspace
        self._genes: WeakKeyDictionary[SlideSession, str] = WeakKeyDictionary()
        self._covered: WeakSet[SlideSession] = WeakSet()
        self._colored: WeakKeyDictionary[Points | Image, SpotPreview] = WeakKeyDictionary()
        self._search: background.BackgroundTask | None = None
        self._picture: tuple[SpotPreview, str | None, CountsPicture] | None = None  # that is shown
        self._shared_limit: float | None = None
        workspace.slide_changed.connect(self.refresh)

    @property
    def gene(self) -> str | None:
        """The gene that the spots of the current slide show; None for the counts of all genes."""
        session = self._workspace.current
        return None if session is None else self.gene_of(session)

    def gene_of(self, session: SlideSession) -> str | None:
        """Return the gene that the spots of a slide show; None for the counts of all genes."""
        return self._genes.get(session)

    def recall(self, session: SlideSession, gene: str | None) -> None:
        """Choose the gene that the spots of a slide show, without showing the spots."""
        if gene is None:
            self._genes.pop(session, None)
        else:
            self._genes[session] = gene
        if session is self._workspace.current:
            self.refresh()

    @property
    def is_covering(self) -> bool:
        """Whether the spots of the current slide have replaced its result."""
        return self._workspace.current in self._covered

    @property
    def limit(self) -> float | None:
        """Counts of the brightest color, as the counts of the current slide suggest; None before they are found."""
        return None if self._picture is None else self._picture[2].limits[1]

    def share_limit(self, limit: float | None) -> None:
        """Use another number of counts for the brightest color, which slides share, until the gene changes."""
        if limit != self._shared_limit and self._picture is not None:
            self._shared_limit = limit
            self._show(*self._picture)

    def show(self, gene: str | None) -> None:
        """Color the spots of the current slide by a gene, or by the counts of all genes (None), and show them."""
        session = self._workspace.current
        if session is None:
            return
        self.recall(session, gene)
        if self.is_on:
            self._reveal_spots()

    def set_on(self, is_on: bool) -> None:
        """Color the spots, or show their outlines."""
        self.is_on = is_on
        self.refresh()
        self._reveal_spots()

    def leave(self) -> None:
        """Show the result again that the spots have replaced."""
        session, layer = self._workspace.current, self._layer()
        if session is not None and session in self._covered:
            self._covered.discard(session)
            if session.overlay is not None:
                session.overlay.reveal()
                if layer is not None:
                    layer.visible = False
            self.changed.emit()

    def _reveal_spots(self) -> None:
        session, layer = self._workspace.current, self._layer()
        if session is not None and layer is not None:
            if session.overlay is not None:
                session.overlay.hide()
                self._covered.add(session)
            layer.visible = True

    def refresh(self) -> None:
        """Color the spots of the current slide; those of a large slide keep their colors until its counts are found."""
        self.stop()
        self._picture = self._shared_limit = None
        session, layer = self._workspace.current, self._layer()
        if session is None or layer is None:
            self._set_text("")
            return
        preview = self._colored.get(layer) or self._colored.setdefault(layer, SpotPreview(layer))
        slide, gene = session.slide, self.gene
        if not self.is_on:
            preview.outline()
            self._set_text("")
        elif slide.counts.nnz <= ENTRIES_AT_ONCE:
            self._show(preview, gene, counts_picture(slide, gene))
        else:
            self._search = background.start(
                background.call(lambda should_stop: counts_picture(slide, gene, should_stop)),
                on_step=lambda _: None,
                on_done=lambda picture: self._show(preview, gene, picture),
                on_error=lambda error: self._set_text(background.error_message(error, "coloring the spots")),
            )

    def stop(self) -> None:
        """Stop the search for the counts that are about to be shown."""
        if self._search is not None:
            self._search.abandon()
            self._search = None

    def _show(self, preview: SpotPreview, gene: str | None, picture: CountsPicture) -> None:
        layer = self._layer()
        if layer is None or self._colored.get(layer) is not preview:
            return  # the user has removed the layer meanwhile
        self._picture = preview, gene, picture
        shared = self._shared_limit
        if shared is not None:
            picture = dataclasses.replace(picture, limits=(picture.limits[0], shared))
        preview.color(picture)
        low, high = picture.limits
        brightest = f"{high:,.0f}" if high >= 100 else f"{high:.3g}"
        on_all = "" if shared is None else ", on all slides"
        self._set_text(f"{gene or 'All genes'}: {low:g} to {brightest} counts{on_all}")

    def _set_text(self, text: str) -> None:
        self.text = text
        self.changed.emit()

    def _layer(self) -> Points | Image | None:
        session = self._workspace.current
        layers = [] if session is None else session.layers
        spots = [layer for layer in layers if role_of(layer) == "spots" and layer in self._workspace.viewer.layers]
        return spots[0] if spots and isinstance(spots[0], Points | Image) else None
