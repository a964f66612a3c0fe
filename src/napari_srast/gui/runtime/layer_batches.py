"""Changes of napari's layers at a fraction of their cost.

After each layer that is shown, hidden or removed, napari works out its whole scene anew, which for seven of ten layers
takes longer than to draw them. It does so once for a batch, and at its end collects Python's garbage, for what went
with the removed layers (see :mod:`napari_srast.gui.runtime.gc_pause`).
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator

from napari.components import LayerList
from napari.layers import Layer

from napari_srast.gui.runtime.gc_pause import freeze_gc, unfreeze_gc

__all__ = ["before_end", "changing", "insert_unchosen", "removing"]

_open: list[str] = []  # batches that are open, the outermost first; only the GUI thread has any
_enders: list[weakref.WeakMethod[Callable[[LayerList], None]]] = []


def before_end(ender: Callable[[LayerList], None]) -> None:
    """Call a method with the layers before a batch of them ends: napari's own part of its end comes before all events.

    It is forgotten with its object.
    """
    _enders[:] = [other for other in _enders if other() is not None]
    _enders.append(weakref.WeakMethod(ender))


@contextlib.contextmanager
def changing(layers: LayerList) -> Iterator[None]:
    """Show, hide and add layers, all at once; inside another batch of ours it is part of that one."""
    if _open:
        yield
        return
    freeze_gc()  # at the end napari collects garbage, of which there is little
    with _batch("changing", layers):
        yield


@contextlib.contextmanager
def removing(layers: LayerList) -> Iterator[None]:
    """Remove layers, all at once; what goes with them is collected once, at the end."""
    if "removing" in _open:
        yield
        return
    unfreeze_gc()
    with _batch("removing", layers):
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
def _batch(name: str, layers: LayerList) -> Iterator[None]:
    _open.append(name)
    try:
        with layers.batched_update():
            try:
                yield
            finally:
                for ender in [known() for known in _enders]:
                    if ender is not None:
                        ender(layers)
    finally:
        _open.pop()
