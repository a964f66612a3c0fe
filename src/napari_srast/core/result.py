"""TODO docstring."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse

from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError

if TYPE_CHECKING:
    import anndata
    import spatialdata

    from napari_srast.geometry.raster import Raster


__all__ = ["UpsampleMetadata", "UpsampleResult"]


@dataclass(frozen=True, kw_only=True, eq=False)
class UpsampleMetadata:
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
class UpsampleResult(UpsampleMetadata):
    """Upsampled counts on the fine raster, with everything needed to trust and repeat them.

    Parameters
    ----------
    counts
        float32 CSR, shape (Q, G); its sums over the pixels of a spot are the spot's counts.
    std
        Standard deviation of the true counts around ``counts``, same shape, or None.
    genes, skill, method, raster, slide, region, settings, run, provenance
        As of :class:`UpsampleMetadata`.
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
        return _writer("to_anndata")(self)

    def to_spatialdata(self) -> spatialdata.SpatialData:
        """Return the result as SpatialData: image, pixel shapes and table."""
        return _writer("to_spatialdata")(self)

    def write(self, path: str | Path, **options: Any) -> Path:
        """Write the result; see :func:`napari_srast.write_result`."""
        return _writer("write_result")(self, path, **options)


def _writer(name: str) -> Callable[..., Any]:
    """Look up a function of :mod:`napari_srast.io.result_writer`, by name because ``io`` is built on this module."""
    function: Callable[..., Any] = pkgutil.resolve_name(f"napari_srast.io.result_writer:{name}")
    return function
