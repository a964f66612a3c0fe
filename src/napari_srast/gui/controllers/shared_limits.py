"""Contrast limits that the results of several slides share, and the genes and values that slides take from each other.

All is restored afterwards, unless the user has changed it meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from napari_srast.gui.layers.gene_layer import render_gene
from napari_srast.gui.layers.overlay import Overlay, ViewMode
from napari_srast.gui.layers.slide_layout import micrometers
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.gene_values import ValueView
from napari_srast.gui.state.slide_session import SlideSession

__all__ = ["SharedLimits", "has_gene"]

_SAME_SIZE = 1.02  # ratio of areas up to which pixels have the same size

Limits = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """Limits of one gene of one slide: the shared ones, for what they were computed, and its own ones."""

    limits: Limits
    key: tuple[object, ...]
    own: Limits | None  # None: the user has changed them meanwhile


@dataclass(frozen=True, kw_only=True)
class _View:
    """What a result shows."""

    genes: list[str]
    view: ViewMode
    values: ValueView

    @classmethod
    def of(cls, overlay: Overlay) -> _View:
        return cls(genes=overlay.genes, view=overlay.view, values=overlay.value_view)


def has_gene(displayed: DisplayedResult, gene: str) -> bool:
    """Return whether a result has a gene."""
    return gene in displayed.result.genes


class SharedLimits:
    """The limits of the genes that are shown on all slides."""

    def __init__(self) -> None:
        self._shared: WeakKeyDictionary[SlideSession, dict[str, _Shared]] = WeakKeyDictionary()
        self._shown: WeakKeyDictionary[SlideSession, set[str]] = WeakKeyDictionary()
        self._carried: dict[str, Limits] = {}
        # What each slide showed before, and what it has taken from another one.
        self._views: WeakKeyDictionary[SlideSession, tuple[_View, _View]] = WeakKeyDictionary()

    def apply(self, current: SlideSession, others: Sequence[SlideSession]) -> None:
        """Give newly shown genes of the current slide limits that cover all slides; the user may change them."""
        overlay = current.overlay
        assert overlay is not None
        entries, seen = self._shared.setdefault(current, {}), self._shown.get(current, set())
        values = [(one.result, one.result.values) for one in others if one.result is not None]
        view = overlay.value_view
        key = (overlay.view == "std", view.quantity, view.scale, tuple(id(displayed) for displayed, _ in values))
        for style in overlay.shown:
            entry = entries.get(style.gene)
            is_untouched = entry is not None and entry.limits == style.limits
            if entry is not None and entry.key == key and style.gene in seen:
                if not is_untouched and entry.own is not None:
                    entries[style.gene] = _Shared(limits=style.limits, key=key, own=None)
                continue
            own = entry.own if is_untouched and entry is not None and entry.own is not None else style.limits
            limits = [own]
            for displayed, of_slide in values:
                has_std = overlay.view != "std" or displayed.result.std is not None
                if has_gene(displayed, style.gene) and has_std and of_slide.allowed(view) == view:
                    limits.append(render_gene(of_slide, style.gene, overlay.view, view).limits)
            joint = (min(low for low, _ in limits), max(high for _, high in limits))
            joint = self._carried.pop(style.gene, joint)
            entries[style.gene] = _Shared(limits=joint, key=key, own=own)
            overlay.set_style(style.gene, limits=joint)
        self._shown[current] = {style.gene for style in overlay.shown}

    def carry(self, before: SlideSession, current: SlideSession) -> None:
        """Show the genes and values of another slide on the one that is current now."""
        source, overlay, displayed = before.overlay, current.overlay, current.result
        assert source is not None
        assert overlay is not None
        assert displayed is not None
        genes = [gene for gene in source.genes if has_gene(displayed, gene)]
        if not genes:
            return
        self._carried = {style.gene: style.limits for style in source.shown if style.gene in genes}
        own = self._views[current][0] if current in self._views else _View.of(overlay)
        values = displayed.values.allowed(source.value_view)
        view: ViewMode = source.view if source.view != "std" or displayed.result.std is not None else "after"
        _show(overlay, _View(genes=genes, view=view, values=values))
        self._views[current] = own, _View.of(overlay)

    def restore(self, sessions: Sequence[SlideSession]) -> None:
        """Restore what the slides have shown before, unless the user has changed it."""
        for session, entries in self._shared.items():
            for gene, entry in entries.items():
                if entry.own is not None and session in sessions and session.overlay is not None:
                    shown = {style.gene: style.limits for style in session.overlay.shown}
                    if shown.get(gene, entry.limits) == entry.limits:
                        session.overlay.set_style(gene, limits=entry.own)
        for session, (own, taken) in self._views.items():
            if session in sessions and session.overlay is not None and _View.of(session.overlay) == taken:
                _show(session.overlay, own)
        for kept in (self._shared, self._shown, self._carried, self._views):
            kept.clear()

    @staticmethod
    def warning(current: SlideSession, others: Sequence[SlideSession]) -> str:
        """Return why values of the slides cannot be compared; empty if they can."""
        overlay = current.overlay
        if overlay is None or not others or (overlay.value_view.scale != "as_is" and overlay.view != "std"):
            return ""
        areas = [_pixel_area(one) for one in (current, *others)]
        known = [area for area in areas if area is not None]
        if len(known) == len(areas) and max(known) <= _SAME_SIZE * min(known):
            return ""
        what = "differ in size" if len(known) == len(areas) else "may differ in size"
        return f"The pixels of the slides {what}, so their counts cannot be compared: choose 'per 10,000' for that."


def _show(overlay: Overlay, view: _View) -> None:
    if overlay.view != view.view and view.view != "side_by_side":  # which moves the camera, and adds layers
        overlay.set_view(view.view)
    if overlay.value_view != view.values:
        overlay.set_values(view.values)
    if overlay.genes != view.genes:
        overlay.show(view.genes)


def _pixel_area(session: SlideSession) -> float | None:
    """Return the area of the pixels of the displayed result in squared micrometers; None if the unit is unknown."""
    assert session.result is not None
    unit = micrometers(session.slide.unit)
    area = abs(float(np.linalg.det(session.result.result.raster.affine[:2, :2])))
    return None if unit is None else area * unit**2
