"""Display up to six genes of a result over the histology, and what they are compared with.

Each gene has an image layer. That of a hidden gene is reused for the next one, because to replace its data takes a
quarter of the time that a new layer takes. Color, contrast limits and opacity are those of the napari layer, so that
napari's layer controls and the legend stay in sync, and its visibility in napari's layer list is the gene's check box.
No Qt, so that it can be tested on a ``ViewerModel``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.layers.backdrop import Backdrop
from napari_srast.gui.layers.compared_layer import ColorOptions, ComparedLayer
from napari_srast.gui.layers.error_handling import handle_errors
from napari_srast.gui.layers.factory import remove_layers, set_visible, update_transforms
from napari_srast.gui.layers.gene_colors import PALETTE, GeneStyle, shared_opacity
from napari_srast.gui.layers.gene_layer import GeneImage, render_gene
from napari_srast.gui.layers.gene_layer_set import GeneLayers
from napari_srast.gui.layers.layer_stack import LayerStack
from napari_srast.gui.layers.own_changes import OwnChanges
from napari_srast.gui.layers.side_by_side import SideBySide
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.gene_values import GeneValues, ValueView

__all__ = ["MAX_GENES", "Overlay", "ViewMode"]

MAX_GENES = len(PALETTE)
ViewMode = Literal["before", "after", "side_by_side", "std"]


class Overlay:
    """The gene layers of one result.

    Parameters
    ----------
    viewer
        The viewer, or its model; used from the GUI thread only.
    values
        The values of the result to display.
    changed
        Called when the displayed genes, their style or the view have changed, also through napari's own controls.
    schedule
        Schedules a function, because to add a layer and to draw it take 0.1 s each. None adds all layers at once.
    brightness
        Brightness of the histology below the genes, 0 (black) to 1 (unchanged).
    on_error
        Receives the error of a gene that cannot be rendered; it and the genes after it are not shown. None raises it.
    stack
        Places the layers among those of the slide. None places them below all regions.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        values: GeneValues,
        changed: Callable[[], None],
        schedule: Callable[[Callable[[], None]], None] | None = None,
        brightness: float = 0.3,
        on_error: Callable[[Exception], None] | None = None,
        stack: LayerStack | None = None,
    ) -> None:
        self.values = values
        self.view: ViewMode = "after"
        self.value_view = ValueView()
        self.compared: DisplayedResult | None = None
        self._viewer = viewer
        self._changed = changed
        self._schedule = schedule
        self.on_error = on_error
        self._slide = values.result.slide
        self._stack = stack or LayerStack(viewer)
        self.brightness = brightness
        self._pending_genes: list[str] = []
        self._gene_layers = GeneLayers()
        self._backdrop: Backdrop | None = None
        self._compared = ComparedLayer()
        self._side_by_side = SideBySide(viewer)
        self._own_changes = OwnChanges()
        self._hidden = False
        self._covered = frozenset[str]()
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def result(self) -> UpsampleResult:
        """The displayed result."""
        return self.values.result

    # ---------------------------------------------------------------- genes

    @property
    def shown(self) -> list[GeneStyle]:
        """Styles of the displayed genes, in the order in which their layers were added."""
        return self._gene_layers.styles

    @property
    def genes(self) -> list[str]:
        """The displayed genes and those that are about to be displayed."""
        return [*(style.gene for style in self.shown), *self._pending_genes]

    def show(self, genes: Sequence[str]) -> None:
        """Display exactly these genes, at most :data:`MAX_GENES`; genes that are displayed already keep their color."""
        genes = list(dict.fromkeys(genes))
        if len(genes) > MAX_GENES:
            raise ValueError(f"{len(genes)} genes were given, but there are colors for at most {MAX_GENES}")
        self._show(genes)

    @handle_errors
    def _show(self, genes: Sequence[str]) -> None:
        self._pending_genes = self._gene_layers.show_only(genes)
        self._refresh()
        needs_layer = self._backdrop is None or not self._gene_layers.has_free
        if self._pending_genes and self._schedule is not None and needs_layer:
            self._changed()
            self._schedule(self._show_next)
        else:
            self._show_next()

    @handle_errors
    def _show_next(self) -> None:
        """Display the next pending gene, add at most one layer for it, and schedule the next step."""
        while self._pending_genes:
            if self._backdrop is None:
                self._backdrop = Backdrop.of_slide(self._slide, self.result, self.brightness, self._stack.histology())
                self._add(self._backdrop.layer)
            elif self._assign_layer(self._pending_genes[0]):
                del self._pending_genes[0]
                self._refresh()
            if self._pending_genes and self._schedule is not None:
                self._schedule(self._show_next)
                break
        self._changed()

    def replace(self, values: GeneValues) -> None:
        """Switch to another result of the same slide and hide all genes; the layers are reused."""
        self.view = "after"
        self.compare_with(None)
        self.values, self._pending_genes = values, []
        self.value_view = values.allowed(self.value_view)
        self._compared.forget_colors()
        self._gene_layers.release_all(values.result)
        if self._backdrop is not None:
            self._backdrop.fit(self._slide, values.result)
        self._side_by_side.close()
        self._refresh()
        update_transforms(self.layers, self._slide)

    # ----------------------------------------------------------------- view

    @handle_errors
    def set_view(self, view: ViewMode) -> None:
        """Switch between measured spots, upsampled pixels, both side by side, and the standard deviation."""
        needs_rendering = "std" in (view, self.view) and view != self.view
        self.view = view
        if needs_rendering:
            self._render_all()
        if view != "side_by_side":
            self._side_by_side.close()  # hidden layers would still count when napari resets the view
        elif not self._side_by_side.layers:
            other = None if self.compared is None else self.compared.result
            self._side_by_side.open(self._slide, self.result, self.brightness, other)
            self._add_next()
        self._refresh()
        self._changed()

    @handle_errors
    def set_values(self, value_view: ValueView) -> None:
        """Show other values or another scale in the present layers, with new contrast limits."""
        same_values = value_view.has_values_of(self.value_view)
        self.value_view = value_view
        if not same_values and self.view != "std":
            self._render_all()
        self._refresh()
        self._changed()

    def _render_all(self) -> None:
        with self._own_changes:
            self._gene_layers.render_all(self._render)

    @handle_errors
    def compare_with(self, other: DisplayedResult | None) -> None:
        """Compare with another result on the same pixels, or (None) with the measured counts."""
        if other is self.compared:
            return
        self.compared = other
        self._side_by_side.close()
        if self._compared.layer is not None:
            self._viewer.layers.remove(self._compared.layer)
        self.set_view(self.view)
        self._changed()

    @handle_errors
    def _add_next(self) -> None:
        """Add the layers of the second picture, one at a time."""
        while self._side_by_side.has_pending:
            self._add(self._side_by_side.next_layer())
            self._refresh()
            if self._side_by_side.has_pending and self._schedule is not None:
                self._schedule(self._add_next)
                return

    def set_brightness(self, brightness: float) -> None:
        """Set the brightness of the histology below the genes, 0 (black) to 1 (unchanged)."""
        self.brightness = brightness
        if self._backdrop is not None:
            self._backdrop.set_brightness(brightness)
        self._side_by_side.set_brightness(brightness)

    def set_style(
        self,
        gene: str,
        *,
        color: str | None = None,
        limits: tuple[float, float] | None = None,
        opacity: float | None = None,
    ) -> None:
        """Change the style of a displayed gene.

        Parameters
        ----------
        gene
            Name of the gene; nothing happens if it is not displayed.
        color, limits, opacity
            See :class:`GeneStyle`; None leaves the current value.
        """
        gene_layer = self._gene_layers.find(gene)
        if gene_layer is not None:
            with self._own_changes:
                gene_layer.set_style(color=color, limits=limits, opacity=opacity, shared_opacity=self._shared_opacity)
            self._on_style()
            self._refresh()

    def hide(self) -> None:
        """Hide all layers while another slide is current."""
        self._hidden = True
        self._refresh()

    @handle_errors
    def reveal(self) -> None:
        """Show the layers again."""
        self._hidden = False
        self._refresh()

    def cover(self, owner: str, *, is_covered: bool) -> None:
        """Hide genes and measured counts, but not the dimmed histology, while an owner shows something instead."""
        self._covered = self._covered | {owner} if is_covered else self._covered - {owner}
        self._refresh()

    def offset_at(self, world: np.ndarray) -> np.ndarray:
        """Return the offset (x, y) of the second picture if a world position (x, y) is in it, else zeros."""
        if self.view != "side_by_side":
            return np.zeros(2)
        return self._side_by_side.offset_at(world, self._slide, self.result)

    def set_slide(self, slide: Slide) -> None:
        """Move the layers to the coordinate system that was chosen for the slide."""
        self._slide = slide
        self._side_by_side.forget_camera()  # its position is in the previous coordinate system
        update_transforms(self.layers, slide)
        self._side_by_side.close()
        if self.view == "side_by_side":
            self.set_view("side_by_side")

    def remove(self) -> None:
        """Remove all layers of the result from the viewer."""
        self.disconnect()
        remove_layers(self._viewer.layers, [*self.layers, *self._side_by_side.layers])
        self._gene_layers, self._pending_genes = GeneLayers(), []
        self._backdrop, self._compared = None, ComparedLayer()
        self._side_by_side = SideBySide(self._viewer)

    def disconnect(self) -> None:
        """Disconnect from the events of the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        if self._backdrop is not None:
            self._backdrop.disconnect()

    @property
    def _shared_opacity(self) -> float:
        return shared_opacity(len(self.genes))

    @property
    def layers(self) -> list[Layer]:
        """The layers of the result, except those of the second picture."""
        backdrop = [] if self._backdrop is None else [self._backdrop.layer]
        return [*backdrop, *self._compared.layers, *self._gene_layers.layers]

    def _render(self, gene: str) -> GeneImage:
        return render_gene(self.values, gene, self.view, self.value_view)

    def _assign_layer(self, gene: str) -> bool:
        """Display a gene in an existing layer and return True, or add a hidden layer for it and return False."""
        with self._own_changes:
            if self._gene_layers.assign(gene, self._render):
                return True
        layer = self._gene_layers.create(gene, self._render, self.result)
        update_transforms([layer], self._slide)
        layer.events.visible.connect(self._on_visible)
        for event in (layer.events.contrast_limits, layer.events.colormap, layer.events.opacity):
            event.connect(self._on_style)
        self._add(layer)
        return False

    def recover(self) -> None:
        """Show what can be shown after a gene could not be rendered."""
        self._pending_genes = []
        self._compared.forget_colors()
        self.view = "std" if self.view == "std" else "after"
        self._side_by_side.close()
        self._forget_removed()
        self._refresh()
        self._changed()

    def _add(self, layer: Layer) -> None:
        """Add a layer above the slide and below its region."""
        with self._own_changes:
            self._stack.insert(layer, above=[*self.layers, *self._side_by_side.layers])

    def _refresh(self) -> None:
        """Update visibility, colors and opacity of all layers."""
        is_visible = bool(self.shown) and not self._hidden
        before = is_visible and self.view == "before" and not self._covered
        side_by_side = is_visible and self.view == "side_by_side"
        with self._own_changes:
            self._gene_layers.set_alone(alone=len(self.genes) == 1)
            if before or side_by_side:
                self._color_compared()
            visible: dict[Layer, bool] = dict.fromkeys(self._side_by_side.layers, side_by_side)
            genes_visible = is_visible and not before and not self._covered
            visible |= {layer: shown and genes_visible for layer, shown in self._gene_layers.visible.items()}
            visible |= self._compared.visible(len(self.shown) if before else 0)
            if self._backdrop is not None:
                visible[self._backdrop.layer] = is_visible
            self._gene_layers.set_interpolation(self.value_view.interpolation)
            set_visible(self._viewer.layers, visible)
            self._gene_layers.set_shared_opacity(self._shared_opacity)

    def _color_compared(self) -> None:
        """Color the measured spots, or the pixels of the result that is compared with."""
        if self.view == "side_by_side":
            layer = self._side_by_side.layers[-1] if self._side_by_side.layers else None
        else:
            layer = self._compared.layer
            if layer is None:
                layer = self._compared.create(self.result, self.compared, self._slide)
                self._add(layer)
        if layer is not None:
            colors = ColorOptions(tuple(self.shown), self._shared_opacity, self.value_view)
            self._compared.set_colors(layer, self.values, self.compared, colors)
        if self.view == "before" and len(self.shown) == 1:
            self._compared.color_bar.show(self.shown[0], self.result, self._slide, self._add)

    # ------------------------------------------- changes in napari's layer list and layer controls

    @handle_errors
    def _on_visible(self, event: object = None) -> None:
        """Read the displayed genes from the visibility of their layers."""
        if self._own_changes or self._hidden or self._covered or self.view == "before":
            return
        self._gene_layers.read_visibility()
        self._refresh()
        self._changed()

    @handle_errors
    def _on_style(self, event: object = None) -> None:
        """Read color, contrast limits and opacity from the layers."""
        if self._own_changes:
            return
        self._gene_layers.read_styles(self._shared_opacity)
        with self._own_changes:
            self._gene_layers.set_alone(alone=len(self.genes) == 1)  # a chosen colormap may need another blending
            if self.view in ("before", "side_by_side"):
                self._color_compared()
        self._changed()

    def _forget_removed(self) -> None:
        """Forget layers that are no longer in the viewer."""
        layers = list(self._viewer.layers)
        self._gene_layers.keep(layers)
        if self._backdrop is not None and self._backdrop.layer not in layers:
            self._backdrop.disconnect()
            self._backdrop = None
        self._compared.keep(layers)

    def _on_removed(self, event: object) -> None:
        self._forget_removed()
        if self._schedule is None:
            self._side_by_side.close_incomplete()
        elif self._side_by_side.is_incomplete:
            # napari may still iterate over the layers that it removes, so ours must not be removed at once.
            self._schedule(self._side_by_side.close_incomplete)
        self._refresh()
        self._changed()
