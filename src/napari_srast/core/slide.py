"""Slides: spots with counts, coordinates and an optional histology image.

Coordinates are (x, y). The intrinsic frame of a slide is the coordinate system of its spots element, in which
``obsm["spatial"]`` is given; ``transforms`` map it to the other coordinate systems. Shape legend: N spots, G genes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Literal

import numpy as np

from napari_srast.arrays import Affine, GeneColumns, GeneNames, SpotCenters, SpotCounts
from napari_srast.core.gene_list import GeneIndex, check_is_list
from napari_srast.errors import InputError, SettingsError

__all__ = ["Slide", "SlideImage", "SlideSource", "check_is_slide", "is_color", "select_columns"]

_MAX_NAMES = 5  # unknown genes that a message lists
_MAX_SUGGESTED = 3  # unknown genes that a message suggests similar names for


def is_color(n_channels: int, names: Sequence[str]) -> bool:
    """Return whether channels are RGB or RGBA, not stains.

    Parameters
    ----------
    n_channels
        Number of channels.
    names
        Their names; empty if they have none.
    """
    initials = "".join(str(name)[:1].casefold() for name in names)
    return n_channels in (3, 4) and initials in ("", "rgb", "rgba", "012", "0123")


@dataclass(frozen=True, kw_only=True, eq=False)
class SlideImage:
    """Multiscale histology image, loaded lazily.

    Parameters
    ----------
    name
        Name of the element in the store.
    levels
        NumPy or Dask arrays of shape (c, y, x), from the finest to the coarsest.
    to_intrinsic
        For each level the affine from its pixel coordinates (x, y) to the intrinsic frame, shape (3, 3). The center of
        pixel [0, 0] has pixel coordinates (0.5, 0.5).
    channels
        Names of the channels.
    moved
        Displacement (x, y), in the intrinsic frame, from the position in the source; it is included in
        ``to_intrinsic``.
    """

    name: str
    levels: tuple[Any, ...]
    to_intrinsic: tuple[Affine, ...]
    channels: tuple[str, ...] = ()
    moved: tuple[float, float] = (0.0, 0.0)

    @property
    def is_color(self) -> bool:
        """Whether the image is RGB or RGBA, not a stack of stain channels."""
        return is_color(self.levels[0].shape[0], self.channels)

    def moved_by(self, shift: np.ndarray) -> SlideImage:
        """Return the image at another position.

        Parameters
        ----------
        shift
            Displacement (x, y) in the intrinsic frame, shape (2,).
        """
        translation = np.eye(3)
        translation[:2, 2] = shift
        moved = (self.moved[0] + float(shift[0]), self.moved[1] + float(shift[1]))
        return replace(self, to_intrinsic=tuple(translation @ matrix for matrix in self.to_intrinsic), moved=moved)


@dataclass(frozen=True, kw_only=True)
class SlideSource:
    """Origin of a slide.

    Parameters
    ----------
    path
        Path of the store; None if the slide was not read from a store.
    spots, table, image
        Names of the elements that were read; None if there is none.
    synthetic
        Whether the counts are simulated.
    library
        Section that was chosen in a table of several sections; None if all rows were read.
    counts
        Matrix of counts that was chosen: "X", "raw" or the name of a layer; None if none was chosen.
    spot_shape
        Shape that was chosen for the spots; None if the reader decided.
    """

    path: str | None = None
    spots: str | None = None
    table: str | None = None
    image: str | None = None
    synthetic: bool = False
    library: str | None = None
    counts: str | None = None
    spot_shape: str | None = None


def select_columns(counts: SpotCounts, columns: GeneColumns) -> SpotCounts:
    """Select columns of counts; returns ``counts`` itself if these are all columns in their order."""
    return counts if np.array_equal(columns, np.arange(counts.shape[1])) else counts[:, columns].tocsr()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Slide:
    """Spatial transcriptomics slide that can be upsampled.

    Parameters
    ----------
    counts
        Raw counts, CSR, shape (N, G).
    genes
        Unique gene names, shape (G,).
    spot_ids
        Names of the spots in the input table, shape (N,).
    centers
        Spot centers in the intrinsic frame, (x, y), shape (N, 2).
    spot_diameter
        Diameter (circle) or side (square) of the measured area, in the units of ``centers``; None if unknown.
    spot_shape
        Shape of the measured area: "circle" or "square".
    unit
        Unit of ``centers``, such as "um" or "px"; "unknown" if the slide does not define it.
    transforms
        For each coordinate system the affine from the intrinsic frame to it, (x, y) order, shape (3, 3).
    coordinate_system
        The coordinate system in which regions and lengths are given.
    image
        Histology image; None if there is none.
    source
        Origin of the slide.
    notices
        Decisions and repairs of the reader, one sentence each.
    gene_ids
        Identifier of each gene that is not its name, such as an Ensembl id, shape (G,); None if there are none. Lists
        of genes may contain either.

    Raises
    ------
    InputError
        The shapes do not match, or there is no transformation to the coordinate system.
    """

    counts: SpotCounts
    genes: GeneNames
    spot_ids: np.ndarray
    centers: SpotCenters
    spot_diameter: float | None = None
    spot_shape: Literal["circle", "square"] = "circle"
    unit: str = "unknown"
    transforms: Mapping[str, Affine] = field(default_factory=lambda: {"global": np.eye(3)})
    coordinate_system: str = "global"
    image: SlideImage | None = None
    source: SlideSource = field(default_factory=SlideSource)
    notices: tuple[str, ...] = ()
    gene_ids: GeneNames | None = None

    def __post_init__(self) -> None:
        n_spots, n_genes = self.counts.shape
        if self.centers.shape != (n_spots, 2) or len(self.genes) != n_genes or len(self.spot_ids) != n_spots:
            raise InputError(
                f"The table has {n_spots} spots and {n_genes} genes, but there are {len(self.centers)} spot centers, "
                f"{len(self.spot_ids)} spot names and {len(self.genes)} gene names; export the slide again."
            )
        if self.gene_ids is not None and len(self.gene_ids) != n_genes:
            raise InputError(
                f"There are {n_genes} genes and {len(self.gene_ids)} gene ids; give one id for each gene, or none."
            )
        if self.coordinate_system not in self.transforms:
            raise InputError(
                f"The spots have no transformation to coordinate system '{self.coordinate_system}'; "
                f"choose one of: {', '.join(self.transforms)}."
            )

    def __repr__(self) -> str:
        size = "unknown size" if not self.spot_diameter else f"{self.spot_diameter:.4g} {self.unit}"
        image = "no image"
        if self.image is not None:
            height, width = self.image.levels[0].shape[-2:]
            image = f"image '{self.image.name}' of {width} x {height} pixels"
        genes = ", ".join(map(str, self.genes[:_MAX_NAMES])) + (", ..." if self.n_genes > _MAX_NAMES else "")
        lines = [
            f"Slide: {self.n_spots} spots ({self.spot_shape}, {size}), {self.n_genes} genes ({genes}), {image}",
            f"  coordinate system '{self.coordinate_system}' of {', '.join(map(repr, self.transforms))}",
        ]
        if self.source.path is not None:
            lines.append(f"  from '{self.source.path}'")
        if self.notices:
            lines.append(f"  {len(self.notices)} notices, see .notices")
        return "\n".join(lines)

    @property
    def n_spots(self) -> int:
        """Number of spots, N."""
        return self.counts.shape[0]

    @property
    def n_genes(self) -> int:
        """Number of genes, G."""
        return self.counts.shape[1]

    @property
    def spot_area(self) -> float | None:
        """Area that a spot measures, in squared units of ``centers``; None if the spot diameter is unknown."""
        if not self.spot_diameter:
            return None
        return float(self.spot_diameter**2 * (np.pi / 4 if self.spot_shape == "circle" else 1.0))

    @property
    def to_cs(self) -> Affine:
        """Affine from the intrinsic frame to the chosen coordinate system, shape (3, 3)."""
        return self.transforms[self.coordinate_system]

    @property
    def cs_scale(self) -> float:
        """Length of one intrinsic unit in the chosen coordinate system: the square root of the ratio of areas."""
        return float(np.sqrt(abs(np.linalg.det(self.to_cs[:2, :2]))))

    @property
    def cs_unit(self) -> str:
        """Unit of lengths in the chosen coordinate system; "unknown" if its scale differs from the intrinsic frame."""
        return self.unit if np.isclose(self.cs_scale, 1.0) else "unknown"

    def select_counts(self, columns: GeneColumns) -> SpotCounts:
        """Return the counts of genes, given as columns, CSR, shape (N, G); not a copy if these are all genes."""
        return select_columns(self.counts, columns)

    def gene_indices(self, names: Sequence[str] | None) -> GeneColumns:
        """Return the column of each named gene, shape (n,).

        Parameters
        ----------
        names
            Gene names, or ids as in ``gene_ids``; duplicates count once. An Ensembl id may lack its version or have
            another one, if this is clear. None for all genes.

        Raises
        ------
        InputError
            A name is not in the panel; the message suggests similar names.
        SettingsError
            The names are not a list, or the list is empty.
        """
        if names is None:
            return np.arange(self.n_genes)
        check_is_list(names)
        names = list(dict.fromkeys(names))
        if not names:
            raise SettingsError("The list of genes is empty; name at least one gene, or ask for all.")
        index = GeneIndex(self.genes, self.gene_ids)
        found = {name: index.find(name) for name in names}
        unknown = [name for name, column in found.items() if column is None]
        if unknown:
            similar = _similar_names(unknown[:_MAX_SUGGESTED], index.known)
            hint = f"did you mean {', '.join(similar)}?" if similar else "'napari-srast info' lists the panel."
            raise InputError(f"The slide has no gene {', '.join(repr(name) for name in unknown[:_MAX_NAMES])}; {hint}")
        return np.array(list(dict.fromkeys(column for column in found.values() if column is not None)))


def check_is_slide(value: object) -> None:
    """Refuse what is not a slide, such as its path.

    Raises
    ------
    SettingsError
        The value is not a :class:`Slide`; the message says how to read one.
    """
    if not isinstance(value, Slide):
        what = (
            f"the path '{value}'" if isinstance(value, str | PathLike) else f"an object of type {type(value).__name__}"
        )
        given = repr(str(value)) if isinstance(value, str | PathLike) else "..."
        raise SettingsError(f"A slide is needed, not {what}; read it first: slide = napari_srast.read_slide({given}).")


def _similar_names(names: Sequence[str], panel: Mapping[str, int]) -> list[str]:
    """Return the genes of a panel whose names are similar to given ones, ignoring case."""
    by_folded = {gene.casefold(): gene for gene in panel}
    return list(
        dict.fromkeys(
            by_folded[match]
            for name in names
            for match in difflib.get_close_matches(name.casefold(), list(by_folded), n=2, cutoff=0.6)
        )
    )
