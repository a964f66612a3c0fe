"""The frozen values that cross every boundary: a slide, a region of it, settings, progress and a result.

Coordinates are (x, y). A slide's own frame is that of its spots element ("intrinsic", where ``obsm["spatial"]``
lives); ``transforms`` lead from there to every coordinate system. Shape legend: N spots, G genes, Q raster pixels
that have a parent spot.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse

from napari_srast.errors import InputError, SettingsError

if TYPE_CHECKING:
    pass


__all__ = [
    "Slide",
    "SlideImage",
    "SlideSource",
    "columns_of",
]


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
        One (3, 3) affine for each level: from its pixel coordinates (x, y), where the center of pixel [0, 0] lies at
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
        Spot centers in the spots' own frame, shape (N, 2), (x, y).
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
                f"The table has {n_spots} spots and {n_genes} genes, but there are {len(self.centers)} spot centers, "
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
