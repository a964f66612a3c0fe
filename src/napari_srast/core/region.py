"""Regions of interest: unions of polygons that select spots by their centers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry, BaseMultipartGeometry

from napari_srast.arrays import SpotMask
from napari_srast.core.geojson import parse_geojson
from napari_srast.core.slide import Slide
from napari_srast.errors import RegionError
from napari_srast.geometry.affine import apply_affine

__all__ = ["Region"]


@dataclass(frozen=True)
class Region:
    """Region of interest in one coordinate system.

    Parameters
    ----------
    geometry
        Polygon or union of polygons. Invalid polygons, such as those that cross themselves, are repaired.
    coordinate_system
        Name of the coordinate system of ``geometry``.

    Raises
    ------
    RegionError
        The geometry is not a polygon, or it is empty.

    Examples
    --------
    >>> from napari_srast import Region
    >>> region = Region.from_wkt("POLYGON ((0 0, 10 0, 10 10, 0 0))")
    >>> region.geometry.area
    50.0
    """

    geometry: BaseGeometry
    coordinate_system: str = "global"

    def __post_init__(self) -> None:
        geometry = self.geometry
        if not isinstance(geometry, Polygon | MultiPolygon):
            raise RegionError(
                f"A region must be a polygon or a union of polygons, not a {geometry.geom_type}; draw a closed shape."
            )
        object.__setattr__(self, "geometry", _union([geometry]))
        if self.geometry.is_empty or self.geometry.area == 0:
            raise RegionError("The region is empty; draw a shape that encloses spots.")

    @classmethod
    def from_polygons(cls, polygons: Sequence[np.ndarray], coordinate_system: str = "global") -> Region:
        """Create the union of polygons.

        Parameters
        ----------
        polygons
            Corners (x, y) of each polygon, shape (n, 2).
        coordinate_system
            Name of the coordinate system of the corners.
        """
        shapes = [Polygon(np.asarray(p, dtype=float)) for p in polygons if len(p) >= 3]
        if not shapes:
            raise RegionError("The region is empty; draw a shape with at least three corners.")
        return cls(_union(shapes), coordinate_system)

    @classmethod
    def from_wkt(cls, text: str, coordinate_system: str = "global") -> Region:
        """Parse well-known text, such as ``POLYGON ((0 0, 10 0, 10 10, 0 0))``."""
        try:
            geometry = shapely.from_wkt(text)
        except shapely.errors.ShapelyError as error:
            raise RegionError(
                f"The region is not well-known text ({error}); write POLYGON ((x y, x y, x y, x y))."
            ) from error
        return cls(geometry, coordinate_system)

    @classmethod
    def from_geojson(cls, text: str, coordinate_system: str = "global") -> Region:
        """Parse a GeoJSON geometry, feature, feature collection, or a list of these; polygons become their union.

        Parameters
        ----------
        text
            The GeoJSON text. Points, lines and features without geometry are left out.
        coordinate_system
            Name of the coordinate system of the corners, unless the text names it in the property
            ``coordinate_system`` of its features.

        Raises
        ------
        RegionError
            The text is not GeoJSON, has no polygon, or names several coordinate systems.
        """
        geometries, named = parse_geojson(text)
        region = cls.from_geometries(geometries, named or coordinate_system)
        if region is None:
            raise RegionError("The GeoJSON has no polygon; draw a closed shape that encloses spots, and save it again.")
        return region

    @classmethod
    def from_geometries(cls, geometries: Sequence[BaseGeometry], coordinate_system: str = "global") -> Region | None:
        """Create the union of the polygons among geometries, also those in collections; None without any.

        Parameters
        ----------
        geometries
            Geometries of any kind.
        coordinate_system
            Name of the coordinate system of the corners.
        """
        parts = shapely.get_parts(geometries).tolist() if geometries else []
        if not any(_polygons(part) for part in parts):
            return None
        return cls(_union(parts), coordinate_system)

    @property
    def wkt(self) -> str:
        """The region as well-known text."""
        return str(self.geometry.wkt)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return which points (n, 2), in the region's coordinate system, are inside or on the border, shape (n,)."""
        shapely.prepare(self.geometry)
        return np.asarray(shapely.intersects_xy(self.geometry, points[:, 0], points[:, 1]))

    def check_coordinate_system(self, slide: Slide) -> None:
        """Check that a slide has the coordinate system of the region.

        Raises
        ------
        RegionError
            The slide does not have it.
        """
        if self.coordinate_system not in slide.transforms:
            raise RegionError(
                f"The region is in coordinate system '{self.coordinate_system}', but the spots can be transformed to "
                f"others only; choose one of: {', '.join(slide.transforms)}."
            )

    def spots(self, slide: Slide) -> SpotMask:
        """Return which spots of a slide have their center in the region, boolean, shape (N,).

        Raises
        ------
        RegionError
            The region contains no spot, or the slide does not have its coordinate system.
        """
        self.check_coordinate_system(slide)
        points = apply_affine(slide.transforms[self.coordinate_system], slide.centers)
        mask = self.contains(points)
        if not mask.any():
            low, high = points.min(axis=0), points.max(axis=0)
            others = [
                name
                for name, matrix in slide.transforms.items()
                if name != self.coordinate_system and self.contains(apply_affine(matrix, slide.centers)).any()
            ]
            hint = f" or name its coordinate system, such as '{others[0]}'" if others else ""
            raise RegionError(
                f"The region encloses no spot; spots are at x {low[0]:.6g} to {high[0]:.6g} and y {low[1]:.6g} to "
                f"{high[1]:.6g} in '{self.coordinate_system}': draw the region there{hint}."
            )
        return mask


def _union(shapes: Sequence[BaseGeometry]) -> BaseGeometry:
    """Unite shapes, repair them, and keep the polygons only, because a repair can leave lines and points."""
    if not np.isfinite(shapely.get_coordinates(shapes)).all():
        raise RegionError("The region has corners that are not finite numbers; draw it again.")
    union = shapes[0] if len(shapes) == 1 else shapely.union_all([shapely.make_valid(shape) for shape in shapes])
    valid = union if union.is_valid else shapely.make_valid(union)
    polygons = _polygons(valid)
    return MultiPolygon(polygons) if len(polygons) != 1 else polygons[0]


def _polygons(shape: BaseGeometry) -> list[Polygon]:
    """Return the polygons of a shape, also those in nested collections."""
    if isinstance(shape, BaseMultipartGeometry):
        return [polygon for part in shape.geoms for polygon in _polygons(part)]
    return [shape] if isinstance(shape, Polygon) else []
