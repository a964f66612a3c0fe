"""Changes of napari's layers at a fraction of their cost.

After each layer that is shown, hidden or removed, napari works out its whole scene anew, which for seven of ten layers
takes longer than to draw them. It does so once for a batch, and at its end collects Python's garbage, for what went
with the removed layers (see :mod:`napari_srast.gui.garbage`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from napari.components import LayerList
from napari.layers import Layer

from napari_srast.gui.garbage import looking_through_all, set_aside

__all__ = ["changing", "insert_unchosen", "removing"]

_open: list[str] = []  # batches that are open, the outermost first; only the GUI thread has any


@contextlib.contextmanager
def changing(layers: LayerList) -> Iterator[None]:
    """Show, hide and add layers, all at once; inside another batch it is part of that one."""
    if _open:
        yield
        return
    set_aside()  # at the end napari collects garbage, of which there is little
    with _entered("changing"), layers.batched_update():
        yield


@contextlib.contextmanager
def removing(layers: LayerList) -> Iterator[None]:
    """Remove layers, all at once; what goes with them is collected once, at the end."""
    if "removing" in _open:
        yield
        return
    with looking_through_all(), _entered("removing"), layers.batched_update():
        yield


def insert_unchosen(layers: LayerList, index: int, layer: Layer) -> None:
    """Insert a layer, and leave chosen what is.

    napari chooses each new layer, and for that exchanges the controls beside the canvas, which draws it, and restyles
    their buttons. As the choice is taken back at once, nobody need hear of it.
    """
    active, chosen = layers.selection.active, list(layers.selection)
    with layers.selection.events.blocker_all():
        layers.insert(index, layer)
        layers.selection.active = active
        for other in chosen:
            layers.selection.add(other)


@contextlib.contextmanager
def _entered(name: str) -> Iterator[None]:
    _open.append(name)
    try:
        yield
    finally:
        _open.pop()
