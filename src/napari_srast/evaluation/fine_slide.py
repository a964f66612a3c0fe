"""Read a slide of fine bins that serves as truth: its own frame, its genes, and its image.

Shape legend: n bins, G genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import sparse

from napari_srast.core.slide import Slide, SlideImage
from napari_srast.errors import InputError, value_out_of_range
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.lattice import detect_lattice

__all__ = ["FineSlide", "abundant_genes", "read_fine_slide"]

_TECHNICAL = ("mt-", "rpl", "rps")  # mitochondrial and ribosomal genes
_MAX_MISFIT = 0.05  # in bins: bins farther from a square lattice are treated as points


@dataclass(frozen=True, kw_only=True, eq=False)
class FineSlide:
    """Slide of fine square bins, or of cells and other points, in a frame along the bins.

    Parameters
    ----------
    name
        Name of the slide.
    counts
        Raw counts, CSR, shape (n, G).
    genes
        Gene names, shape (G,).
    points
        Bin centers, (x, y), shape (n, 2). Sides are along x and y, and the lower left corner of all bins is
        (0, 0).
    bin_side
        Side of a bin, in the units of the slide; 0 if the observations are points on no square lattice.
    unit
        Unit of the coordinates, such as "um".
    image
        Histology image in this frame; None if there is none.
    """

    name: str
    counts: sparse.csr_matrix
    genes: np.ndarray
    points: np.ndarray
    bin_side: float
    unit: str = "unknown"
    image: SlideImage | None = None

    @classmethod
    def of_slide(cls, slide: Slide, name: str) -> FineSlide:
        """Take the spots of a slide as bins, and turn the slide so that they are along x and y."""
        lattice = detect_lattice(slide.centers, slide.spot_diameter)
        regular = lattice.kind == "square" and lattice.misfit < _MAX_MISFIT
        angle, side = (lattice.angle, lattice.pitch) if regular else (0.0, 0.0)
        turn = np.array([[np.cos(angle), np.sin(angle), 0.0], [-np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
        corner = apply_affine(turn, slide.centers).min(axis=0) - side / 2
        turn[:2, 2] = -corner
        image = slide.image
        if image is not None:
            image = replace(image, to_intrinsic=tuple(turn @ affine for affine in image.to_intrinsic))
        return cls(
            name=name,
            counts=slide.counts,
            genes=np.asarray(slide.genes, dtype=str),
            points=apply_affine(turn, slide.centers),
            bin_side=float(side),
            unit=slide.unit,
            image=image,
        )

    def select(self, columns: np.ndarray) -> FineSlide:
        """Return the slide with some of its genes, given as columns, in that order."""
        return replace(self, counts=self.counts[:, columns], genes=self.genes[columns])


def read_fine_slide(
    path: str | Path,
    *,
    image: str | Path | None = None,
    genes: Sequence[str] | int | None = None,
    library: str | None = None,
) -> FineSlide:
    """Read bins from an ``.h5ad`` file or a SpatialData store.

    Parameters
    ----------
    path
        ``.h5ad`` with raw counts in X and bin centers in ``obsm["spatial"]``, or a ``.zarr`` store that
        :func:`napari_srast.read_slide` opens.
    image
        For ``.h5ad``: the image file, which ``obsm["spatial_px"]`` aligns; None for no image. For ``.zarr``: the
        name of the image, "auto" for the one that a run would choose; None for no image.
    genes
        Names of the genes of the slide; a number for that many of the most abundant genes, see :func:`abundant_genes`;
        None for all genes with counts.
    library
        Section to read from a table of several sections, as for :func:`napari_srast.read_slide`; None refuses a table
        whose sections overlap.

    Raises
    ------
    InputError
        The slide or the image cannot be read, a gene or the section is missing, or the table has several sections and
        none was named.
    SettingsError
        The number of genes is not above 0.
    """
    from napari_srast.io.slide_reader import read_slide

    path = Path(path)
    if path.suffix.casefold() == ".zarr":
        slide = read_slide(path, image=None if image is None else str(image), library=library)
    elif path.suffix.casefold() == ".h5ad":
        from napari_srast.io.convert.h5ad import read_h5ad

        table = read_h5ad(path, image=image, spot_diameter=None, pixel_size=None, library=library)
        slide = read_slide(table, image=None if image is None else "auto")
        if slide.image is not None:  # as stored in the file, without the coarser copies that the import adds
            one = replace(slide.image, levels=slide.image.levels[:1], to_intrinsic=slide.image.to_intrinsic[:1])
            slide = replace(slide, image=one)
    else:
        raise InputError(f"'{path}' is neither an .h5ad file nor a .zarr store; give one of these as the truth.")
    fine = FineSlide.of_slide(slide, path.stem)
    if fine.counts.nnz == 0:
        raise InputError(f"'{path}' has no counts; put the raw counts in X.")
    if genes is None:
        return fine.select(np.flatnonzero(np.asarray(fine.counts.sum(axis=0)).ravel() > 0))
    if isinstance(genes, int):
        return fine.select(abundant_genes(fine.counts, fine.genes, genes))
    return fine.select(slide.gene_indices(genes))


def abundant_genes(counts: sparse.csr_matrix, genes: np.ndarray, n_genes: int) -> np.ndarray:
    """Return the columns of the most abundant genes, without mitochondrial and ribosomal ones, in decreasing order.

    Parameters
    ----------
    counts
        Counts, shape (n, G).
    genes
        Gene names, shape (G,).
    n_genes
        Largest number of genes to return.

    Raises
    ------
    SettingsError
        The number is not above 0.
    """
    if n_genes < 1:
        raise value_out_of_range("number of genes", n_genes, "above 0")
    total = np.asarray(counts.sum(axis=0)).ravel()
    order = [i for i in np.argsort(-total, kind="stable") if not str(genes[i]).casefold().startswith(_TECHNICAL)]
    return np.array([i for i in order[:n_genes] if total[i] > 0], dtype=np.int64)
