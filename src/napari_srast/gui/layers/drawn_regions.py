"""Names, classes and colors of the regions that are drawn in one layer of shapes.

A region is one or several shapes with the same number, because napari shapes have no holes. All that is known about it
is in the features of the layer, so that napari keeps it with the shapes, and undo restores it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Shapes

from napari_srast.core.region import Region
from napari_srast.errors import RegionError
from napari_srast.io.annotations import Annotation, Color

__all__ = ["LINE_COLOR", "UNUSED_ALPHA", "DrawnRegion", "RegionFeatures", "closed_shapes"]

LINE_COLOR = "#ffd400"
"""Outline of regions without a class."""
_SELECTED_COLOR = "#ffffff"
_CLASS_COLORS = ("#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#d55e00", "#0072b2", "#b0b0b0")  # for color-blind eyes
UNUSED_ALPHA = 0.4
"""Opacity of the outline of a region that is not ticked."""
_DEFAULTS = {"region": 0, "name": "", "classification": "", "color": "", "used": True}
_NAME = "Region "
_ELLIPSE_VERTICES = 180


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnRegion:
    """A region in a layer of shapes.

    Parameters
    ----------
    key
        Number of the region in the layer.
    name, classification
        Name, and name of the class; empty if it has none.
    color
        Color of its outline, ``#rrggbb``.
    is_used
        Whether it is part of the region that is run.
    region
        Its polygons; None if they enclose no area.
    """

    key: int
    name: str
    classification: str
    color: str
    is_used: bool
    region: Region | None

    def annotation(self) -> Annotation | None:
        """Return the region as it is saved; None if it encloses no area."""
        if self.region is None:
            return None
        color = None if self.color == LINE_COLOR else _rgb(self.color)
        return Annotation(self.region, self.name, self.classification, color)


def closed_shapes(layer: Shapes) -> dict[int, np.ndarray]:
    """Return the closed shapes of a layer by their index, as (n, 2) polygons, (x, y) in world coordinates."""
    origin, down, right = (np.array(layer.data_to_world(p))[-2:] for p in ((0, 0), (1, 0), (0, 1)))
    axes = np.stack([down - origin, right - origin])
    polygons = {}
    for index, (corners, kind) in enumerate(zip(layer.data, layer.shape_type, strict=True)):
        points = np.asarray(corners, dtype=float)[:, -2:]
        if kind in ("line", "path"):
            continue
        if kind == "ellipse":
            middle = points.mean(axis=0)
            angle = np.linspace(0, 2 * np.pi, _ELLIPSE_VERTICES, endpoint=False)[:, None]
            points = middle + (np.cos(angle) * (points[1] - points[0]) + np.sin(angle) * (points[3] - points[0])) / 2
        polygons[index] = (origin + points @ axes)[:, ::-1]
    return polygons


class RegionFeatures:
    """What is known about the regions of a layer, besides their shapes.

    Parameters
    ----------
    layer
        The layer of shapes.
    """

    def __init__(self, layer: Shapes) -> None:
        self._layer = layer
        self._n_known = 0
        self._selected: frozenset[int] = frozenset()
        self.is_changing = False

    # ----------------------------------------------------------------- reading

    def regions(self, coordinate_system: str) -> list[DrawnRegion]:
        """Return the regions in the order in which they were drawn; shapes that are open lines are ignored."""
        table, polygons = self._table(), closed_shapes(self._layer)
        drawn = []
        for key, rows in _groups(table["region"]).items():
            corners = [polygons[row] for row in rows if row in polygons]
            if not corners:
                continue
            try:
                region = Region.from_polygons(corners, coordinate_system)
            except RegionError:
                region = None
            first = {column: values[rows[0]] for column, values in table.items()}
            drawn.append(
                DrawnRegion(
                    key=key,
                    name=first["name"],
                    classification=first["classification"],
                    color=first["color"] or LINE_COLOR,
                    is_used=first["used"],
                    region=region,
                )
            )
        return drawn

    def used_polygons(self) -> list[np.ndarray] | None:
        """Return the polygons of all regions that are used; None if there is no region, or none is used.

        The list is empty if only open lines were drawn.
        """
        polygons, used = closed_shapes(self._layer), self._table()["used"]
        if not self._layer.data or (polygons and not any(used[row] for row in polygons)):
            return None
        return [polygon for row, polygon in polygons.items() if used[row]]

    def rows(self, keys: Collection[int]) -> set[int]:
        """Return the indices of the shapes of regions."""
        return {row for row, key in enumerate(self._table()["region"]) if key in keys}

    def content(self) -> tuple[object, ...]:
        """Return what saving the regions would save, to be compared: shapes, names, classes and colors."""
        shapes = zip(self._layer.shape_type, self._layer.data, strict=True)
        known = [tuple(values) for column, values in self._table().items() if column != "used"]
        return (*((str(kind), np.asarray(corners).tobytes()) for kind, corners in shapes), *known)

    # ---------------------------------------------------------------- changing

    def complete(self, regions: Iterable[tuple[Annotation, int]] = ()) -> None:
        """Name and number the shapes that were added since the last call.

        Parameters
        ----------
        regions
            The regions of the added shapes, each with the number of its shapes. Others become regions of their own.
        """
        table = self._table()
        n_shapes = len(self._layer.data)
        given = [annotation for annotation, n_parts in regions for _ in range(n_parts)]
        for row in range(min(self._n_known, n_shapes), n_shapes):
            annotation = given[row - n_shapes + len(given)] if row >= n_shapes - len(given) else None
            previous = given[row - 1 - n_shapes + len(given)] if row > n_shapes - len(given) else None
            known = {column: values[:row] for column, values in table.items()}
            if annotation is not None and annotation is previous:
                new = {column: values[-1] for column, values in known.items()}
            else:
                new = _new_row(known, annotation)
            for column, value in new.items():
                table[column][row] = value
        self._n_known = n_shapes
        self._store(table)

    def edit(self, keys: Collection[int], **values: Any) -> None:
        """Set ``name``, ``classification``, ``color`` or ``used`` of regions.

        A region that gets a class also gets its color, and all regions of a class have the same color.
        """
        table = self._table()
        kind = values.get("classification")
        if kind is not None:
            others = [row for row, key in enumerate(table["region"]) if key not in keys]
            values["color"] = _class_color({c: [v[row] for row in others] for c, v in table.items()}, kind)
        rows = self.rows(keys)
        if "color" in values:
            kinds = {kind} if kind is not None else {table["classification"][row] for row in rows}
            rows_of_color = rows | {row for row, k in enumerate(table["classification"]) if k and k in kinds}
        for column, value in values.items():
            for row in rows_of_color if column == "color" else rows:
                table[column][row] = value
        self._store(table)

    def restored(self) -> None:
        """Draw the colors again after the shapes and their features were restored."""
        self._n_known = len(self._layer.data)
        self._draw_colors(self._table())

    def select(self, keys: Collection[int]) -> None:
        """Highlight regions by another color, and no others."""
        self._selected = frozenset(keys)
        self._draw_colors(self._table())

    # ----------------------------------------------------------------- details

    def _table(self) -> dict[str, list[Any]]:
        """Return the columns of the features; other programs may have left out some, or changed their types."""
        features, n_shapes = self._layer.features, len(self._layer.data)
        table: dict[str, list[Any]] = {}
        for column, default in _DEFAULTS.items():
            values = list(features[column]) if column in features and len(features) == n_shapes else []
            values = [_converted(value, default) for value in values]
            table[column] = values or [default] * n_shapes
        used = {key for key in table["region"] if key > 0}
        for row, key in enumerate(table["region"]):
            if key <= 0:
                table["region"][row] = max(used, default=0) + 1
                used.add(table["region"][row])
        return table

    def _store(self, table: dict[str, list[Any]]) -> None:
        import pandas as pd

        features = pd.DataFrame(table)
        present = self._layer.features
        self.is_changing = True
        try:
            if list(present.columns) != list(features.columns) or not present.equals(features):
                self._layer.features = features
            self._draw_colors(table)
        finally:
            self.is_changing = False

    def _draw_colors(self, table: dict[str, list[Any]]) -> None:
        if not table["region"]:
            return
        colors = np.ones((len(table["region"]), 4))
        for row, (key, color, used) in enumerate(zip(table["region"], table["color"], table["used"], strict=True)):
            shown = _SELECTED_COLOR if key in self._selected else color or LINE_COLOR
            colors[row, :3] = np.array(_rgb(shown) or _rgb(LINE_COLOR)) / 255
            colors[row, 3] = 1.0 if used else UNUSED_ALPHA
        if colors.shape != np.shape(self._layer.edge_color) or not np.allclose(colors, self._layer.edge_color):
            self._layer.edge_color = colors


def _groups(keys: list[int]) -> dict[int, list[int]]:
    """Return the rows of each key, in the order of the first ones."""
    groups: dict[int, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return groups


def _new_row(known: dict[str, list[Any]], annotation: Annotation | None) -> dict[str, Any]:
    """Return the features of a new region; ``known`` are those of the others."""
    row = dict(_DEFAULTS) | {"region": max(known["region"], default=0) + 1}
    if annotation is None:
        numbers = [name.removeprefix(_NAME) for name in known["name"] if name.startswith(_NAME)]
        row["name"] = f"{_NAME}{max((int(n) for n in numbers if n.isdecimal()), default=0) + 1}"
        return row
    row |= {"name": annotation.name, "classification": annotation.classification}
    color = "" if annotation.color is None else "#{:02x}{:02x}{:02x}".format(*annotation.color)
    row["color"] = _class_color(known, annotation.classification, color)
    return row


def _class_color(table: dict[str, list[Any]], classification: str, given: str = "") -> str:
    """Return the color of a class: that of its other regions, else the given one, else a new one.

    Without a class, it is the given color, which may be empty.
    """
    if not classification:
        return given
    for kind, color in zip(table["classification"], table["color"], strict=True):
        if kind == classification and color:
            return str(color)
    if given:
        return given
    taken = set(table["color"])
    n_classes = len(set(table["classification"]) - {""})
    return next((c for c in _CLASS_COLORS if c not in taken), _CLASS_COLORS[n_classes % len(_CLASS_COLORS)])


def _converted(value: Any, default: Any) -> Any:
    """Return a value of the type of its default; the default where it has another one."""
    if isinstance(default, str):
        return value if isinstance(value, str) else default
    try:
        return type(default)(value)
    except (TypeError, ValueError, OverflowError):
        return default


def _rgb(color: str) -> Color | None:
    try:
        red, green, blue = bytes.fromhex(color.removeprefix("#"))
    except ValueError:
        return None
    return (red, green, blue)
