"""Show all open slides next to each other, with the same genes, colors and limits.

The current slide stays where it is: regions, runs and results are its own. Copies of the others surround it, so that
one camera and one scale bar serve all, and there is nothing to move back afterwards.

Every method runs in the GUI thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from psygnal import Signal

from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.preview import ENTRIES_AT_ONCE, Preview
from napari_srast.gui.controllers.shared_limits import SharedLimits, has_gene
from napari_srast.gui.layers.camera import MARGIN, CameraBookmark, zoom_to_box, zoom_to_layers
from napari_srast.gui.layers.compared_layer import ColorOptions
from napari_srast.gui.layers.factory import role_of, world_units
from napari_srast.gui.layers.gene_colors import GeneStyle, shared_opacity
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.layers.placement import Placement
from napari_srast.gui.layers.slide_layout import Place, arrange
from napari_srast.gui.layers.slide_names import SlideNames, fit_caption
from napari_srast.gui.layers.slide_picture import SlidePicture
from napari_srast.gui.layers.spot_preview import CountsPicture, counts_picture
from napari_srast.gui.runtime import background
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.slide_session import SlideSession, unique_titles
from napari_srast.gui.state.workspace import Workspace

__all__ = ["AllSlides"]

_NAME_GAP = 0.01  # between a slide and its name, in heights of the slide


class AllSlides:
    """Pictures of the open slides around the current one.

    Parameters
    ----------
    workspace
        The open slides.
    preview
        Measured counts on the spots of the current slide.
    messages
        Receives status messages.

    Attributes
    ----------
    note
        What a reader of the legend must know about the other slides; empty while only the current one is shown.
    changed
        Signal, emitted after pictures were added or removed, and after ``note`` was set.
    """

    changed = Signal()

    def __init__(self, workspace: Workspace, preview: Preview, messages: Messages) -> None:
        self.note = ""
        self._workspace = workspace
        self._viewer: Any = workspace.viewer
        self._preview = preview
        self._messages = messages
        self._pictures: dict[SlideSession, SlidePicture] = {}
        self._places: dict[SlideSession, Place] = {}
        self._anchor: SlideSession | None = None  # the current slide, when the pictures were placed
        self._names = SlideNames(workspace.viewer)
        self._camera = CameraBookmark(workspace.viewer)
        self._limits = SharedLimits()
        self._counts: dict[SlideSession, tuple[str | None, CountsPicture]] = {}
        self._drawn: dict[SlideSession, CountsPicture] = {}  # the counts with the shared limits
        self._search: background.BackgroundTask | None = None
        self._searched: tuple[object, ...] = ()
        self._previewed: dict[SlideSession, str | None] = {}  # gene of each slide before it took over another's
        self._was_side_by_side: SlideSession | None = None
        self._canvas = (1.0, 1.0)
        self._is_due = False
        for signal in (
            workspace.slide_changed,
            workspace.coordinate_system_changed,
            workspace.result_changed,
            workspace.display_changed,
            preview.changed,
        ):
            signal.connect(self.refresh_later)
        self._viewer.layers.events.removed.connect(self.refresh_later)

    @property
    def is_on(self) -> bool:
        """Whether all slides are shown."""
        return self._workspace.shows_all

    @property
    def is_settled(self) -> bool:
        """Whether the pictures show what they will show."""
        return not self._is_due and (self._search is None or not self._search.active)

    @property
    def obstacle(self) -> str | None:
        """Why they cannot be shown; None if they can."""
        return None if len(self._workspace.sessions) > 1 else "Open a second slide first."

    def set_on(self, is_on: bool) -> None:
        """Show all slides, or only the current one."""
        if is_on == self.is_on or (is_on and self.obstacle is not None):
            return
        if is_on:
            self._open()
        else:
            self._close()
        self.changed.emit()

    def _open(self) -> None:
        current = self._workspace.current
        assert current is not None
        self._workspace.shows_all = True
        if current.overlay is not None and current.overlay.view == "side_by_side":
            self._was_side_by_side = current
            current.overlay.set_view("after")
        self._arrange()
        self._camera.show(*self._bounds())
        self.refresh_later()

    def _close(self) -> None:
        self._workspace.shows_all = False
        self._stop_search()
        for picture in self._pictures.values():
            picture.remove()
        self._names.remove()
        current, places = self._workspace.current, self._places
        self._pictures, self._places, self._counts, self._drawn, self.note = {}, {}, {}, {}, ""
        self._limits.restore(self._workspace.sessions)
        for session, gene in self._previewed.items():
            self._preview.recall(session, gene)
        self._previewed, self._anchor = {}, None
        self._preview.share_limit(None)
        view_before, self._was_side_by_side = self._was_side_by_side, None
        self._camera.go_back()
        if current is not None and current in places and not self._looks_at(places[current]):
            zoom_to_layers(self._workspace.viewer, current.tissue_layers)
        if current is not None and current is view_before and current.overlay is not None:
            if current.overlay.view == "after":
                current.overlay.set_view("side_by_side")

    # ----------------------------------------------------------------- places

    def _arrange(self) -> None:
        """Place the slides around the current one."""
        sessions, current = self._workspace.sessions, self._workspace.current
        assert current is not None
        if set(sessions) != set(self._places):
            rows, columns = self._viewer.canvas.size
            self._canvas = (float(columns), float(rows))
        places = arrange([one.slide for one in sessions], sessions.index(current), self._canvas)
        self._places, self._anchor = dict(zip(sessions, places, strict=True)), current

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        low = np.min([place.low for place in self._places.values()], axis=0)
        high = np.max([place.high for place in self._places.values()], axis=0)
        return low - [0.0, 0.05 * (high - low)[1]], high  # with the names of the first row

    def _looks_at(self, place: Place) -> bool:
        center = np.asarray(self._viewer.scene.camera.center, dtype=float)[-2:][::-1]
        return bool((center >= place.low).all() and (center <= place.high).all())

    def _follow(self, current: SlideSession) -> None:
        """Keep what the camera shows after another slide has become the current one, and its genes."""
        place, before = self._places.get(current), self._anchor
        self._camera.forget()
        if place is not None:
            camera = self._viewer.scene.camera
            center = np.asarray(camera.center, dtype=float)[-2:][::-1]
            center = apply_affine(np.linalg.inv(place.matrix), center[None])[0][::-1]
            camera.zoom = float(camera.zoom * place.matrix[0, 0])
            camera.center = (*camera.center[:-2], *center)
        if before is None or before not in self._workspace.sessions:
            return
        if before.overlay is not None and current.overlay is not None:
            self._limits.carry(before, current)
        elif before.overlay is None and current.overlay is None:
            gene = self._preview.gene_of(before)
            if gene != self._preview.gene and (gene is None or gene in current.slide.genes):
                self._previewed.setdefault(current, self._preview.gene)
                self._preview.recall(current, gene)

    # ---------------------------------------------------------------- refresh

    def refresh_later(self, event: object = None) -> None:
        """Follow a change of the current slide, the open slides, or what is shown, once after several changes."""
        if not self.is_on or self._is_due:
            return
        self._is_due = True
        if self._workspace.schedule is None:
            self._refresh()
            self._is_due = False
        else:
            self._workspace.schedule(self._refresh_now)

    def _refresh_now(self) -> None:
        self._is_due = False
        self._refresh()

    def _refresh(self) -> None:
        current = self._workspace.current
        if not self.is_on:
            return
        incomplete = self._names.is_incomplete or any(one.is_incomplete for one in self._pictures.values())
        if current is None or self.obstacle is not None or incomplete:
            self.set_on(False)
            return
        if current.overlay is not None and current.overlay.view == "side_by_side":
            self._messages.status_message.emit("Side by side shows one slide, so the others are hidden.")
            self.set_on(False)
            return
        is_other_set = set(self._workspace.sessions) != set(self._places)
        if current is not self._anchor:
            self._follow(current)
        self._arrange()
        if is_other_set:
            zoom_to_box(self._workspace.viewer, *self._bounds())
        if self._update_pictures(current):
            self._show_content(current)

    def _update_pictures(self, current: SlideSession) -> bool:
        """Add, move and remove pictures; return False if another one is to be added after the window was drawn."""
        for session, picture in list(self._pictures.items()):
            if session is current or session not in self._places or picture.slide is not session.slide:
                del self._pictures[session]
                picture.remove()
        self._counts = {session: found for session, found in self._counts.items() if session in self._pictures}
        self._drawn = {session: drawn for session, drawn in self._drawn.items() if session in self._pictures}
        units = world_units(current.slide)
        for session, place in self._places.items():
            placement = Placement(place.matrix, units)
            if session in self._pictures:
                self._pictures[session].move(placement)
            elif session is not current:
                self._pictures[session] = SlidePicture(self._workspace.viewer, session.slide, placement)
                self._pictures[session].add()
                self.changed.emit()
                if self._workspace.schedule is not None:
                    self.refresh_later()
                    return False
        return True

    def _show_content(self, current: SlideSession) -> None:
        for session, picture in self._pictures.items():
            histology = [layer for layer in session.layers if role_of(layer) == "histology"]
            picture.show_histology(any(session.was_visible(layer) for layer in histology))
            picture.show_regions(session.shown_regions())
        overlay = current.overlay
        if overlay is not None and not self._preview.is_covering:
            remarks, note = self._show_result(current, overlay)
        else:
            remarks, note = self._show_spots(), ""
        self._show_names(current, remarks)
        self.note = " ".join(filter(None, ("Colors and limits are the same on all slides.", note)))
        self.changed.emit()

    def _show_names(self, current: SlideSession, remarks: dict[SlideSession, str]) -> None:
        titles = dict(zip(self._workspace.sessions, unique_titles(self._workspace.sessions), strict=True))
        names, positions = [], []
        for session, place in self._places.items():
            details = [
                *(["current"] if session is current else []),
                *([] if place.is_to_scale else ["not to scale"]),
                *([remarks[session]] if remarks.get(session) else []),
            ]
            names.append(fit_caption(titles[session], ", ".join(details), self._caption_pixels(place)))
            positions.append([place.low[0], place.low[1] - _NAME_GAP * (place.high - place.low)[1]])
        self._names.show(names, np.array(positions), world_units(current.slide))

    def _caption_pixels(self, place: Place) -> float:
        """Return the width of the canvas above a slide and the gap next to it, when all slides are in view."""
        low, high = self._bounds()
        right_of_it = [
            other.low[0]
            for other in self._places.values()
            if other.low[0] > place.low[0] and other.low[1] < place.high[1] and other.high[1] > place.low[1]
        ]
        width = min(right_of_it, default=high[0]) - place.low[0]
        return float(width * min(np.array(self._canvas) / (high - low)) / MARGIN)

    # ---------------------------------------------------------------- content

    def _show_result(self, current: SlideSession, overlay: Overlay) -> tuple[dict[SlideSession, str], str]:
        """Show the genes of the displayed result on all slides; return what is missing on each, and a warning."""
        others = [one for one in self._pictures if one.result is not None]
        self._limits.apply(current, others)
        remarks: dict[SlideSession, str] = {}
        compared: list[SlideSession] = []
        kind: Literal["values", "std"] = "std" if overlay.view == "std" else "values"
        for session, picture in self._pictures.items():
            styles, remarks[session] = _comparable_genes(overlay, session.result)
            if session.result is None or not styles:
                picture.show_spots(None, outlines=session.slide.image is None)  # else there is nothing to see
                continue
            compared.append(session)
            options = ColorOptions(styles, shared_opacity(len(overlay.genes)), overlay.value_view, kind)
            is_measured = overlay.view == "before"
            picture.show_result(session.result, options, overlay.brightness, is_measured=is_measured)
        return remarks, self._limits.warning(current, compared)

    def _show_spots(self) -> dict[SlideSession, str]:
        """Show the measured counts on all slides once they are found; return what is missing on each."""
        gene = self._preview.gene
        if not self._preview.is_on:
            self._stop_search()
            for picture in self._pictures.values():
                picture.show_spots(None, outlines=True)
            return {}
        measured = [one for one in self._pictures if gene is None or gene in one.slide.genes]
        remarks = {session: f"{gene} not measured" for session in self._pictures if session not in measured}
        for session in remarks:
            self._pictures[session].show_spots(None)
        unknown = [one for one in measured if one not in self._counts or self._counts[one][0] != gene]
        if unknown:
            self._find_counts(unknown, gene)
        limit = self._preview.limit
        if limit is None or any(one not in self._counts or self._counts[one][0] != gene for one in measured):
            return remarks
        limit = max([limit, *(self._counts[one][1].limits[1] for one in measured)])
        self._preview.share_limit(limit)
        for session in measured:
            found, drawn = self._counts[session][1], self._drawn.get(session)
            if drawn is None or drawn.values is not found.values or drawn.limits[1] != limit:
                self._drawn[session] = dataclasses.replace(found, limits=(found.limits[0], limit))
            self._pictures[session].show_spots(self._drawn[session])
        return remarks

    def _find_counts(self, sessions: list[SlideSession], gene: str | None) -> None:
        """Find the counts of a gene in some slides, in the background if they are large."""
        if self._search is not None and self._search.active and self._searched == (gene, *sessions):
            return
        self._stop_search()
        slides = [one.slide for one in sessions]

        def find(should_stop: Callable[[], bool]) -> list[CountsPicture]:
            return [counts_picture(slide, gene, should_stop) for slide in slides]

        def done(pictures: list[CountsPicture]) -> None:
            self._counts |= {one: (gene, picture) for one, picture in zip(sessions, pictures, strict=True)}
            self.refresh_later()

        if sum(slide.counts.nnz for slide in slides) <= ENTRIES_AT_ONCE:
            self._counts |= {one: (gene, p) for one, p in zip(sessions, find(lambda: False), strict=True)}
            return
        self._searched = (gene, *sessions)
        self._search = background.start(
            background.call(find),
            on_step=lambda _: None,
            on_done=done,
            on_error=lambda error: self._messages.error_message.emit(
                background.error_message(error, "coloring the spots")
            ),
        )

    def _stop_search(self) -> None:
        if self._search is not None:
            self._search.abandon()
            self._search = None

    def disconnect(self) -> None:
        """Disconnect from the viewer."""
        self._stop_search()
        self._names.disconnect()
        self._viewer.layers.events.removed.disconnect(self.refresh_later)


def _comparable_genes(overlay: Overlay, displayed: DisplayedResult | None) -> tuple[tuple[GeneStyle, ...], str]:
    """Return the shown genes that another result shows in the same way, and what is missing there."""
    if displayed is None:
        return (), "no result"
    view, values = overlay.value_view, displayed.values
    if overlay.view == "std" and displayed.result.std is None:
        return (), "no uncertainty"
    if values.allowed(view) != view:
        return (), "too few genes for totals"
    styles = tuple(style for style in overlay.shown if has_gene(displayed, style.gene))
    missing = [style.gene for style in overlay.shown if style not in styles]
    if missing:
        return styles, f"without {', '.join(missing)}"
    if any(values.quantity(one.gene, view) != overlay.values.quantity(one.gene, view) for one in styles):
        return styles, "counts, not expression" if view.quantity == "expression" else ""
    return styles, ""
