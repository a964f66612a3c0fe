"""Results of small slides, computed in an instant."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from helpers.slides import make_slide
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult, no_columns
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide

__all__ = ["assert_same_result", "make_result", "same_bytes", "with_expression", "with_random_shares"]


def make_result(
    slide: Slide | None = None,
    region: Region | None = None,
    *,
    genes: Sequence[str] | None = None,
    std: bool = False,
    **settings: Any,
) -> UpsampleResult:
    """Upsample a slide, by default with the uniform split and factor 2.

    Parameters
    ----------
    slide
        The slide; by default one of 5 x 6 spots and four genes.
    region
        The region to upsample, or None for the whole slide.
    genes
        Genes to upsample, or None for all.
    std
        Whether the result gets standard deviations, half of its counts.
    settings
        Fields of :class:`UpsampleSettings`.
    """
    from napari_srast.api import upsample

    options = UpsampleSettings(**{"factor": 2.0, "method": "uniform", **settings})
    slide = make_slide(5, 6, n_genes=4) if slide is None else slide
    result = upsample(slide, region, genes, settings=options)
    return dataclasses.replace(result, std=0.5 * result.counts) if std else result


def with_random_shares(result: UpsampleResult, run: str = "20260101_000000_abcd") -> UpsampleResult:
    """Return a result whose spots are split in random proportions, without expression, and with fixed metadata.

    Pixels of a spot then differ, so that a test sees when rows, columns or genes are exchanged.

    Parameters
    ----------
    result
        The result whose slide, raster and settings are taken over; it holds all genes of its slide.
    run
        Name of the run.
    """
    slide, raster = result.slide, result.raster
    share = np.random.default_rng(3).random(raster.n_pixels)
    share /= raster.sum_to_spots(share)[raster.parent]
    split = sparse.csr_matrix(
        (share, (np.arange(raster.n_pixels), raster.parent)), shape=(raster.n_pixels, slide.n_spots)
    )
    provenance = {
        "model": {"name": "none", "sha256": "0" * 64},
        "seconds": {"total": 1.5},
        "weights": [0.5, 1],
    }
    return dataclasses.replace(
        result,
        counts=sparse.csr_matrix(split @ slide.counts, dtype=np.float32),
        expression=None,
        expression_std=None,
        expression_columns=no_columns(),
        skill=np.linspace(-0.1, 0.4, slide.n_genes),
        provenance=provenance,
        run=run,
    )


def with_expression(result: UpsampleResult, columns: Sequence[int], *, std: bool = False) -> UpsampleResult:
    """Return a result with expression in some columns: positive in every pixel, different for each gene.

    Parameters
    ----------
    result
        The result.
    columns
        Genes that have expression, ascending.
    std
        Whether the result gets standard deviations of the expression, too.
    """
    chosen = np.asarray(columns, dtype=np.int64)
    values = np.zeros(result.counts.shape, dtype=np.float32)
    values[:, chosen] = 0.25 + np.random.default_rng(5).random((result.n_pixels, len(chosen)))
    expression = sparse.csr_matrix(values)
    return dataclasses.replace(
        result,
        expression=expression,
        expression_std=0.5 * expression if std else None,
        expression_columns=chosen,
    )


def assert_same_result(got: UpsampleResult, expected: UpsampleResult) -> None:
    """Check that two results have equal counts, pixels, settings and names."""
    np.testing.assert_array_equal(got.counts.toarray(), expected.counts.toarray())
    assert got.counts.dtype == np.float32
    np.testing.assert_array_equal(got.genes, expected.genes)
    np.testing.assert_array_equal(got.skill, expected.skill)
    np.testing.assert_array_equal(got.method, expected.method)
    for field in ("row", "col", "parent", "affine", "shape", "pixel_size", "footprint"):
        np.testing.assert_array_equal(getattr(got.raster, field), getattr(expected.raster, field))
    assert got.raster.lattice == expected.raster.lattice
    np.testing.assert_array_equal(got.expression_columns, expected.expression_columns)
    assert set(got.layers) == set(expected.layers)
    for name, matrix in expected.layers.items():
        assert got.layers[name].dtype == np.float32
        np.testing.assert_array_equal(got.layers[name].toarray(), matrix.toarray())
    assert got.settings == expected.settings
    assert got.run == expected.run


def same_bytes(a: sparse.csr_matrix, b: sparse.csr_matrix) -> bool:
    """Return whether two sparse matrices have equal bytes: values, indices and row pointer."""
    return all(
        getattr(a, part).dtype == getattr(b, part).dtype and getattr(a, part).tobytes() == getattr(b, part).tobytes()
        for part in ("data", "indices", "indptr")
    )
