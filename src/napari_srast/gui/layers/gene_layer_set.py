"""The image layers of all displayed genes, reused from gene to gene."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from napari.layers import Layer

from napari_srast.core.result import UpsampleResult
from napari_srast.gui.layers.factory import KEY, gene_layer_kwargs
from napari_srast.gui.layers.gene_colors import PALETTE
from napari_srast.gui.layers.gene_layer import GeneImage, GeneLayer, GeneStyle

__all__ = ["GeneLayers"]

Render = Callable[[str], GeneImage]


class GeneLayers:
    """Gene layers in the order in which they were added to the viewer.

    ``render`` arguments render the image of a gene in the current view.
    """

    def __init__(self) -> None:
        self._items: list[GeneLayer] = []

    @property
    def styles(self) -> list[GeneStyle]:
        """Styles of the displayed genes."""
        return [item.style for item in self._items if item.shown]

    @property
    def layers(self) -> list[Layer]:
        """The napari layers, displayed or not."""
        return [item.layer for item in self._items]

    @property
    def has_free(self) -> bool:
        """Whether there is a layer that displays no gene."""
        return any(not item.shown for item in self._items)

    @property
    def visible(self) -> dict[Layer, bool]:
        """Whether each layer displays a gene."""
        return {item.layer: item.shown for item in self._items}

    def find(self, gene: str) -> GeneLayer | None:
        """Return the layer of a gene, displayed or not."""
        return next((item for item in self._items if item.gene == gene), None)

    def show_only(self, genes: Sequence[str]) -> list[str]:
        """Display those of some genes that have a layer, hide all others, and return the genes without a layer."""
        for item in self._items:
            item.shown = item.gene in genes
        present = {item.gene for item in self._items}
        return [gene for gene in genes if gene not in present]

    def assign(self, gene: str, render: Render) -> bool:
        """Display a gene in its layer or in a free layer; return False if there is none."""
        present = self.find(gene)
        free = next((item for item in self._items if not item.shown), None)
        if present is not None:
            present.shown = True
        elif free is not None:
            free.gene, free.shown, free.opacity, free.chosen = gene, True, 1.0, None
            _render(free, render)
        return present is not None or free is not None

    def create(self, gene: str, render: Render, result: UpsampleResult) -> Layer:
        """Create the hidden layer of a gene, in a color that is not in use."""
        used = {item.color for item in self._items}
        color = next((c for c in PALETTE if c not in used), PALETTE[0])
        item = GeneLayer.create(gene, color, render(gene), result)
        self._items.append(item)
        return item.layer

    def render_all(self, render: Render) -> None:
        """Render all displayed genes for another view; on an error, release the layers with images of the old view."""
        for i, item in enumerate(self._items):
            if not item.shown:
                item.release()
                continue
            try:
                _render(item, render)
            except Exception:
                for other in self._items[i:]:
                    other.release()
                raise

    def release_all(self, result: UpsampleResult) -> None:
        """Hide all genes and mark their layers as those of another result."""
        for item in self._items:
            item.release()
            item.layer.metadata[KEY] = {**gene_layer_kwargs(result)["metadata"][KEY], "role": "unused"}

    def set_shared_opacity(self, shared_opacity: float) -> None:
        """Multiply the opacity of each gene by the factor that all genes have in common."""
        for item in self._items:
            if item.layer.opacity != (opacity := item.opacity * shared_opacity):
                item.layer.opacity = opacity

    def set_interpolation(self, interpolation: str) -> None:
        """Set the interpolation between the centers of the pixels: "nearest" or "linear"."""
        for item in self._items:
            if item.layer.interpolation2d != interpolation:
                item.layer.interpolation2d = interpolation

    def set_alone(self, *, alone: bool) -> None:
        """Use the colormap for one gene, or a color for each gene."""
        for item in self._items:
            item.set_alone(alone=alone)

    def read_visibility(self) -> None:
        """Read the displayed genes from the visibility of their layers."""
        for item in self._items:
            item.shown = bool(item.gene) and bool(item.layer.visible)

    def read_styles(self, shared_opacity: float) -> None:
        """Read color, contrast limits and opacity from the layers."""
        for item in self._items:
            item.read_style(shared_opacity)

    def keep(self, layers: Container[Layer]) -> None:
        """Forget gene layers that are not in ``layers``."""
        self._items = [item for item in self._items if item.layer in layers]


def _render(item: GeneLayer, render: Render) -> None:
    """Render the gene of a layer; on an error, release the layer, which still has the image of another gene."""
    try:
        item.set_image(render(item.gene))
    except Exception:
        item.release()
        raise
