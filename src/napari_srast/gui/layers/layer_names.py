"""Rename the layers of a hidden slide, so that those of the shown slide can have their plain names.

Names in a layer list are unique: the second layer of a gene would become "ERBB2 [1]".
"""

from __future__ import annotations

from collections.abc import Sequence

from napari.layers import Layer

from napari_srast.gui.layers.factory import gene_of

__all__ = ["HiddenNames"]


class HiddenNames:
    """The names of layers before they were hidden."""

    def __init__(self) -> None:
        self._names: dict[Layer, tuple[str, str]] = {}  # before, and while hidden

    def add_title(self, layers: Sequence[Layer], title: str) -> None:
        """Add the title of their slide to the names of layers that lack it."""
        for layer in layers:
            if title in layer.name:
                continue
            before = self._names[layer][0] if self._has_title(layer) else layer.name
            layer.name = f"{before} ({title})"
            self._names[layer] = (before, layer.name)

    def restore(self, layers: Sequence[Layer]) -> None:
        """Restore the names of layers; those that got a gene meanwhile have the name of the gene."""
        for layer in layers:
            name = self._names[layer][0] if self._has_title(layer) else gene_of(layer) or layer.name
            if layer.name != name:
                layer.name = name
        self._names = {}

    def _has_title(self, layer: Layer) -> bool:
        return layer in self._names and layer.name == self._names[layer][1]
