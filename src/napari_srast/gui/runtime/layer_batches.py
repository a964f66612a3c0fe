"""Change several layers of napari at the cost of one change.

napari rebuilds its whole scene after each layer that is shown, hidden or removed; for seven of ten layers that takes
longer than drawing them. Inside a batch it does so once, and at the end of the batch it starts a garbage collection for
removed layers (see :mod:`napari_srast.gui.runtime.gc_pause`).
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator

from napari.components import LayerList
from napari.layers import Layer

from napari_srast.gui.runtime.gc_pause import freeze_gc, unfreeze_gc

__all__ = ["batch_changes", "batch_removals", "call_before_batch_end", "insert_unselected"]

_open_batches: list[str] = []  # names, the outermost first; only the GUI thread opens batches
_callbacks: list[weakref.WeakMethod[Callable[[LayerList], None]]] = []


def call_before_batch_end(method: Callable[[LayerList], None]) -> None:
    """Register a method that is called with the layer list before each batch ends.

    napari handles the end of a batch before it emits the event, so the event would be too late. Only a weak reference
    to the object of the method is stored.
    """
    _callbacks[:] = [reference for reference in _callbacks if reference() is not None]
    _callbacks.append(weakref.WeakMethod(method))


@contextlib.contextmanager
def batch_changes(layers: LayerList) -> Iterator[None]:
    """Show, hide and add layers in one batch; inside another batch of this module it joins that one."""
    if _open_batches:
        yield
        return
    freeze_gc()  # napari collects garbage at the end, and changes produce little
    with _batch("changes", layers):
        yield


@contextlib.contextmanager
def batch_removals(layers: LayerList) -> Iterator[None]:
    """Remove layers in one batch; napari collects what they held once, at the end."""
    if "removals" in _open_batches:
        yield
        return
    unfreeze_gc()
    with _batch("removals", layers):
        yield


def insert_unselected(layers: LayerList, index: int, layer: Layer) -> None:
    """Insert a layer without changing the selection.

    napari selects every new layer. That replaces the layer controls, redraws the canvas and restyles the buttons. The
    selection is restored at once, so its events are blocked.
    """
    active, selected = layers.selection.active, list(layers.selection)
    with layers.selection.events.blocker_all():
        layers.insert(index, layer)
        layers.selection.active = active
        for other in selected:
            layers.selection.add(other)


@contextlib.contextmanager
def _batch(name: str, layers: LayerList) -> Iterator[None]:
    _open_batches.append(name)
    try:
        with layers.batched_update():
            try:
                yield
            finally:
                for method in [reference() for reference in _callbacks]:
                    if method is not None:
                        method(layers)
    finally:
        _open_batches.pop()
