"""Undo and redo changes of the shapes of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Shapes

__all__ = ["ShapeHistory"]

_MAX_UNDO = 50


@dataclass(frozen=True, eq=False)
class _State:
    """Vertices, kinds and features (such as names) of all shapes."""

    data: list[np.ndarray]
    kinds: list[str]
    features: Any

    @classmethod
    def of(cls, layer: Shapes) -> _State:
        data = [np.array(corners) for corners in layer.data]
        return cls(data, [str(kind) for kind in layer.shape_type], layer.features.copy())

    def equals(self, other: _State) -> bool:
        return (
            self.kinds == other.kinds
            and all(np.array_equal(one, two) for one, two in zip(self.data, other.data, strict=True))
            and (not self.kinds or self.features.equals(other.features))
        )

    def apply(self, layer: Shapes) -> None:
        layer.data = []
        if self.data:
            layer.add([corners.copy() for corners in self.data], shape_type=self.kinds)
            layer.features = self.features.copy()


class ShapeHistory:
    """The states of a layer, of which one is current.

    Parameters
    ----------
    layer
        The layer; its present state is the first one.
    """

    def __init__(self, layer: Shapes) -> None:
        self._layer = layer
        self._states = [_State.of(layer)]
        self._current = 0
        self._applying = False

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier state."""
        return self._current > 0

    @property
    def can_redo(self) -> bool:
        """Whether a change was undone and nothing was changed since."""
        return self._current < len(self._states) - 1

    @property
    def is_restoring(self) -> bool:
        """Whether a stored state is being applied."""
        return self._applying

    def record(self) -> bool:
        """Store the state of the layer if it has changed; return False while a stored state is applied."""
        if self._applying:
            return False
        state = _State.of(self._layer)
        if not state.equals(self._states[self._current]):
            self._states = [*self._states[: self._current + 1][-_MAX_UNDO:], state]
            self._current = len(self._states) - 1
        return True

    def undo(self) -> bool:
        """Restore the previous state; return False if there is none."""
        return self._go_to(self._current - 1)

    def redo(self) -> bool:
        """Restore the state before the last undo; return False if there is none."""
        return self._go_to(self._current + 1)

    def _go_to(self, index: int) -> bool:
        if not 0 <= index < len(self._states):
            return False
        self._current = index
        self._applying = True
        try:
            self._states[index].apply(self._layer)
        finally:
            self._applying = False
        return True
