"""The frozen values that cross every boundary: a slide, a region of it, settings, progress and a result.

Coordinates are (x, y). A slide's own frame is that of its spots element ("intrinsic", where ``obsm["spatial"]``
lives); ``transforms`` lead from there to every coordinate system. Shape legend: N spots, G genes, Q raster pixels
that have a parent spot.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely
from scipy import sparse
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry, BaseMultipartGeometry

from napari_srast.errors import InputError, RegionError, SettingsError

if TYPE_CHECKING:
    import anndata
    import spatialdata

    from napari_srast.geometry.raster import Raster

__all__ = [
    "Footprint",
    "Mode",
    "Progress",
    "Region",
    "Slide",
    "SlideImage",
    "SlideSource",
    "UpsampleRecord",
    "UpsampleResult",
    "UpsampleSettings",
    "apply_affine",
    "columns_of",
    "METHODS",
]

Footprint = Literal["cell", "spot"]
Mode = Literal["mean", "sample", "integer"]
METHODS = ("srast", "uniform", "bilinear", "pycnophylactic", "gp")
_LARGEST_PIXEL = 1e12  # in any unit; its square and that of its inverse are still numbers


def apply_affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a (3, 3) affine matrix to (n, 2) points in (x, y) order."""
    return np.asarray(points, dtype=float) @ matrix[:2, :2].T + matrix[:2, 2]


@dataclass(frozen=True, kw_only=True, eq=False)
class SlideImage:
    """A histology image, multiscale and lazy.

    Parameters
    ----------
    name
        Element name in the store.
    levels
        Arrays of shape (c, y, x), finest first; numpy or dask.
    to_intrinsic
        One (3, 3) affine for each level: from its pixel coordinates (x, y), where the centre of pixel [0, 0] lies at
        (0.5, 0.5), to the spots' own frame.
    channels
        Channel names.
    """

    name: str
    levels: tuple[Any, ...]
    to_intrinsic: tuple[np.ndarray, ...]
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SlideSource:
    """Where a slide came from: the store and the names of the elements that were read."""

    path: str | None = None
    spots: str | None = None
    table: str | None = None
    image: str | None = None
    synthetic: bool = False


def columns_of(counts: sparse.csr_matrix, columns: np.ndarray) -> sparse.csr_matrix:
    """Return some columns of counts; no copy where these are all, in their order."""
    return counts if np.array_equal(columns, np.arange(counts.shape[1])) else counts[:, columns].tocsr()


@dataclass(frozen=True, kw_only=True, eq=False)
class Slide:
    """A spatial transcriptomics slide, ready to be upsampled.

    Parameters
    ----------
    counts
        Raw counts, CSR, shape (N, G).
    genes
        Gene names, shape (G,), unique.
    spot_ids
        Names of the spots in the input table, shape (N,).
    centers
        Spot centres in the spots' own frame, shape (N, 2), (x, y).
    spot_diameter
        Diameter (circles) or side (squares) of the measured area, in the units of ``centers``; None if unknown.
    spot_shape
        Shape of the measured area.
    unit
        Name of the unit of ``centers``, such as "um" or "px"; "unknown" where the slide does not say.
    transforms
        For each coordinate system the (3, 3) affine from the spots' own frame, (x, y) order.
    coordinate_system
        The chosen one: regions and lengths are given in it.
    image
        Histology, or None.
    source
        Where it was read from.
    notices
        What a reader had to decide or mend, one sentence each.
    """

    counts: sparse.csr_matrix
    genes: np.ndarray
    spot_ids: np.ndarray
    centers: np.ndarray
    spot_diameter: float | None = None
    spot_shape: Literal["circle", "square"] = "circle"
    unit: str = "unknown"
    transforms: Mapping[str, np.ndarray] = field(default_factory=lambda: {"global": np.eye(3)})
    coordinate_system: str = "global"
    image: SlideImage | None = None
    source: SlideSource = field(default_factory=SlideSource)
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n_spots, n_genes = self.counts.shape
        if self.centers.shape != (n_spots, 2) or len(self.genes) != n_genes or len(self.spot_ids) != n_spots:
            raise InputError(
                f"The table has {n_spots} spots and {n_genes} genes, but there are {len(self.centers)} spot centres, "
                f"{len(self.spot_ids)} spot names and {len(self.genes)} gene names; export the slide again."
            )
        if self.coordinate_system not in self.transforms:
            raise InputError(
                f"The spots have no transformation to coordinate system '{self.coordinate_system}'; "
                f"choose one of: {', '.join(self.transforms)}."
            )

    @property
    def n_spots(self) -> int:
        """Number of spots, N."""
        return self.counts.shape[0]

    @property
    def n_genes(self) -> int:
        """Number of genes, G."""
        return self.counts.shape[1]

    @property
    def to_cs(self) -> np.ndarray:
        """The (3, 3) affine from the spots' own frame to the chosen coordinate system."""
        return self.transforms[self.coordinate_system]

    @property
    def cs_scale(self) -> float:
        """Length of one unit of the spots' own frame in the chosen coordinate system (root of the area ratio)."""
        return float(np.sqrt(abs(np.linalg.det(self.to_cs[:2, :2]))))

    @property
    def cs_unit(self) -> str:
        """Unit of lengths in the chosen coordinate system; "unknown" where that is scaled against the spots' frame."""
        return self.unit if np.isclose(self.cs_scale, 1.0) else "unknown"

    def counts_of(self, columns: np.ndarray) -> sparse.csr_matrix:
        """Return counts of some genes, given as columns, shape (N, G); no copy where these are all."""
        return columns_of(self.counts, columns)

    def gene_indices(self, names: Sequence[str] | None) -> np.ndarray:
        """Return the column of each named gene, all of them for None.

        Raises
        ------
        InputError
            A name is not in the panel; the nearest names are offered.
        """
        if names is None:
            return np.arange(self.n_genes)
        if isinstance(names, str):
            raise SettingsError(f"Genes are given as a list of names, not as the text '{names}'; write ['{names}'].")
        names = list(dict.fromkeys(names))
        if not names:
            raise SettingsError("No gene was named; name at least one, or ask for all.")
        index = {str(g): i for i, g in enumerate(self.genes)}
        unknown = [g for g in names if g not in index]
        if unknown:
            by_fold = {g.casefold(): g for g in index}
            near = [
                by_fold[m]
                for u in unknown[:3]
                for m in difflib.get_close_matches(u.casefold(), list(by_fold), n=2, cutoff=0.6)
            ]
            hint = (
                f"; did you mean {', '.join(dict.fromkeys(near))}?"
                if near
                else "; 'napari-srast info' lists the panel."
            )
            raise InputError(f"The slide has no gene {', '.join(repr(u) for u in unknown[:5])}{hint}")
        return np.array([index[g] for g in names])


@dataclass(frozen=True)
class Region:
    """A region of interest: a union of polygons in one coordinate system; spots belong to it by their centres."""

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
        """Build the union of polygons, each an (n, 2) array of (x, y) corners."""
        shapes = [Polygon(np.asarray(p, dtype=float)) for p in polygons if len(p) >= 3]
        if not shapes:
            raise RegionError("The region is empty; draw a shape with at least three corners.")
        return cls(_union(shapes), coordinate_system)

    @classmethod
    def from_wkt(cls, text: str, coordinate_system: str = "global") -> Region:
        """Read well-known text, such as ``POLYGON ((0 0, 10 0, 10 10, 0 0))``."""
        try:
            geometry = shapely.from_wkt(text)
        except shapely.errors.ShapelyError as error:
            raise RegionError(
                f"The region is not well-known text ({error}); write POLYGON ((x y, x y, x y, x y))."
            ) from error
        return cls(geometry, coordinate_system)

    @classmethod
    def from_geojson(cls, text: str, coordinate_system: str = "global") -> Region:
        """Read a GeoJSON geometry, feature or feature collection; several polygons make a union."""
        try:
            geometry = shapely.from_geojson(text)
        except shapely.errors.ShapelyError as error:
            raise RegionError(f"The region is not GeoJSON ({error}); save it as a polygon feature.") from error
        return cls(_union(shapely.get_parts(geometry).tolist()), coordinate_system)

    @property
    def wkt(self) -> str:
        """The region as well-known text."""
        return str(self.geometry.wkt)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Tell which (n, 2) points, in the region's coordinate system, lie in it (the border counts as inside)."""
        shapely.prepare(self.geometry)
        return np.asarray(shapely.intersects_xy(self.geometry, points[:, 0], points[:, 1]))

    def spots(self, slide: Slide) -> np.ndarray:
        """Return a boolean mask (N,) of the slide's spots whose centres lie in the region.

        Raises
        ------
        RegionError
            No spot lies in it, or its coordinate system is not the slide's.
        """
        if self.coordinate_system not in slide.transforms:
            raise RegionError(
                f"The region lies in coordinate system '{self.coordinate_system}', but the spots lead to "
                f"others only; choose one of: {', '.join(slide.transforms)}."
            )
        points = apply_affine(slide.transforms[self.coordinate_system], slide.centers)
        mask = self.contains(points)
        if not mask.any():
            low, high = points.min(axis=0), points.max(axis=0)
            raise RegionError(
                f"The region encloses no spot; spots lie at x {low[0]:.6g} to {high[0]:.6g} and y {low[1]:.6g} to "
                f"{high[1]:.6g} in '{self.coordinate_system}': draw the region there."
            )
        return mask


def _union(shapes: Sequence[BaseGeometry]) -> BaseGeometry:
    """Unite shapes, those that cross themselves mended, into polygons alone (repairs leave stray lines and points)."""
    if not np.isfinite(shapely.get_coordinates(shapes)).all():
        raise RegionError("The region has corners that are not finite numbers; draw it again.")
    whole = shapes[0] if len(shapes) == 1 else shapely.union_all([shapely.make_valid(shape) for shape in shapes])
    mended = whole if whole.is_valid else shapely.make_valid(whole)
    parts = _polygons(mended)
    return MultiPolygon(parts) if len(parts) != 1 else parts[0]


def _polygons(shape: BaseGeometry) -> list[Polygon]:
    """Return the polygons of a shape, however deep in collections they lie."""
    if isinstance(shape, BaseMultipartGeometry):
        return [polygon for part in shape.geoms for polygon in _polygons(part)]
    return [shape] if isinstance(shape, Polygon) else []


@dataclass(frozen=True, kw_only=True)
class UpsampleSettings:
    """How to upsample; the whole of what the command line and the window can set, validated.

    Parameters
    ----------
    factor
        Pixels per pitch; a fraction is allowed. Ignored where ``pixel_size`` is given.
    pixel_size
        Pixel side in units of the chosen coordinate system.
    footprint
        "cell": pixels fill the spot's whole cell; "spot": only its measured area.
    method
        One of :data:`METHODS`.
    mode
        "mean", "sample" (mean and standard deviation) or "integer" (whole counts, one plausible draw).
    draws, steps
        Number of flow samples and Euler steps; None takes the mode's default.
    model
        Name of a shipped checkpoint, or a file.
    device
        "auto", "cpu", "cuda" or "mps".
    seed
        Seeds everything random.
    """

    factor: float = 2.0
    pixel_size: float | None = None
    footprint: Footprint = "cell"
    method: str = "srast"
    mode: Mode = "mean"
    draws: int | None = None
    steps: int | None = None
    model: str = "default"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choice("footprint", self.footprint, ("cell", "spot"))
        _check_choice("method", self.method, METHODS)
        _check_choice("mode", self.mode, ("mean", "sample", "integer"))
        _check_choice("device", self.device, ("auto", "cpu", "cuda", "mps"))
        if self.pixel_size is None and not (1 < self.factor <= 64):
            raise SettingsError(
                f"factor is {self.factor:g}, but must be above 1 and at most 64; 2 or 4 suit most slides."
            )
        if self.pixel_size is not None and not 1 / _LARGEST_PIXEL <= self.pixel_size <= _LARGEST_PIXEL:
            raise SettingsError(
                f"pixel size is {self.pixel_size:g}, but must lie between {1 / _LARGEST_PIXEL:g} and "
                f"{_LARGEST_PIXEL:g}; leave it out to use the factor."
            )
        for name, value, most in (("draws", self.draws, 1000), ("steps", self.steps, 1000)):
            if value is not None and not 1 <= value <= most:
                raise SettingsError(f"{name} is {value}, but must lie between 1 and {most}.")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed is {self.seed}, but must lie between 0 and {2**32 - 1}.")

    @property
    def unused(self) -> tuple[str, ...]:
        """What was asked for and changes nothing, one sentence each."""
        told = []
        if self.method != "srast" and self.mode == "sample":
            told.append(f"Method '{self.method}' draws no samples, so there is no standard deviation; take 'srast'.")
        if self.method != "srast" and self.device not in ("auto", "cpu"):
            told.append(f"Method '{self.method}' runs on the CPU; device '{self.device}' is not used.")
        given = [name for name in ("draws", "steps") if getattr(self, name) is not None]
        if given and (self.method != "srast" or self.mode != "sample"):
            told.append(f"Only method 'srast' in mode 'sample' uses {' and '.join(given)}.")
        return tuple(told)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise SettingsError(f"{name} is '{value}', but must be one of: {', '.join(choices)}.")


@dataclass(frozen=True)
class Progress:
    """One step of a run, as told to progress bars: ``done`` of ``total`` units of a named stage."""

    stage: str
    done: int
    total: int
    fraction: float


@dataclass(frozen=True, kw_only=True, eq=False)
class UpsampleRecord:
    """A run and what it made, without the counts themselves, which lie in a store.

    Parameters
    ----------
    genes
        Gene names, shape (G,).
    skill
        For each gene the nats per count gained over the uniform split in the check on the slide itself; NaN where the
        slide is too small, or the gene too rare, to tell.
    method
        For each gene the method that its map came from.
    raster
        The pixels, their parents and where they lie; ``raster.parent`` indexes the slide's spots.
    slide
        The slide that it was made from.
    region
        The region, or None for the whole slide.
    settings
        The settings of the run.
    run
        Name of the run: letters, digits and underscores.
    provenance
        What ``uns["napari_srast"]`` holds: version, model name and sha256, calibration weights, timings and the rest.
    """

    genes: np.ndarray
    skill: np.ndarray
    method: np.ndarray
    raster: Raster
    slide: Slide
    region: Region | None
    settings: UpsampleSettings
    run: str
    provenance: Mapping[str, Any]

    @property
    def n_pixels(self) -> int:
        """Number of pixels that have a parent spot, Q."""
        return self.raster.n_pixels

    def gene_column(self, gene: str) -> int:
        """Return the column of a gene of this result."""
        hits = np.flatnonzero(self.genes == gene)
        if len(hits) == 0:
            raise InputError(f"The result has no gene '{gene}'; run again with it in the list of genes.")
        return int(hits[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class UpsampleResult(UpsampleRecord):
    """Upsampled counts on the fine raster, with everything needed to trust and repeat them.

    Parameters
    ----------
    counts
        float32 CSR, shape (Q, G); its sums over the pixels of a spot are the spot's counts.
    std
        Standard deviation of the true counts around ``counts``, same shape, or None.
    genes, skill, method, raster, slide, region, settings, run, provenance
        As of :class:`UpsampleRecord`.
    """

    counts: sparse.csr_matrix
    std: sparse.csr_matrix | None

    def gene_image(self, gene: str, layer: Literal["counts", "std"] = "counts") -> np.ndarray:
        """Paint one gene onto the raster: float32 (rows, columns), NaN where no pixel has a parent."""
        matrix = self.counts if layer == "counts" else self.std
        if matrix is None:
            raise InputError("The run kept no standard deviation; run again with method 'srast' and mode 'sample'.")
        return self.raster.paint(matrix[:, [self.gene_column(gene)]].toarray()[:, 0])

    def to_anndata(self) -> anndata.AnnData:
        """Return the result as a table: pixels x genes."""
        from napari_srast.io.results import to_anndata

        return to_anndata(self)

    def to_spatialdata(self) -> spatialdata.SpatialData:
        """Return the result as SpatialData: image, pixel shapes and table."""
        from napari_srast.io.results import to_spatialdata

        return to_spatialdata(self)

    def write(self, path: str | Path, **options: Any) -> Path:
        """Write the result; see :func:`napari_srast.write_result`."""
        from napari_srast.io.results import write_result

        return write_result(self, path, **options)
