"""Test the expected information of a result against a direct computation."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse

from napari_srast.geometry.raster import Raster, make_raster
from napari_srast.inference.expected_information import ExpectedInformation


class Split(NamedTuple):
    """A raster, counts of its spots, and their split to its pixels."""

    raster: Raster
    spot_counts: sparse.csr_matrix
    counts: sparse.csr_matrix


def _split(side: int = 12, n_genes: int = 5) -> Split:
    rng = np.random.default_rng(0)
    centers = np.argwhere(np.ones((side, side))) * 100.0
    raster = make_raster(centers, factor=3, spot_diameter=100.0, spot_shape="square")
    spot_counts = sparse.csr_matrix(rng.poisson(2.0, (side * side, n_genes)).astype(np.float32))
    ratios = rng.gamma(0.7, size=(raster.n_pixels, n_genes))
    sums = np.zeros((side * side, n_genes))
    np.add.at(sums, raster.parent, ratios)
    counts = spot_counts.toarray()[raster.parent] * ratios / sums[raster.parent]
    return Split(raster, spot_counts, sparse.csr_matrix(counts.astype(np.float32)))


def test_information_equals_the_direct_computation() -> None:
    split = _split()
    information = ExpectedInformation(split.spot_counts, split.raster)
    information.add(split.counts)
    counts = split.counts.toarray().astype(float)
    n_pixels = np.bincount(split.raster.parent)[split.raster.parent][:, None]
    spots = split.spot_counts.toarray()[split.raster.parent]
    ratio = np.divide(counts, spots, out=np.zeros_like(counts), where=spots > 0)
    expected = (counts * np.log(np.maximum(ratio * n_pixels, 1e-300))).sum(axis=0) / split.spot_counts.sum(axis=0)
    nats = information.nats_per_count()
    np.testing.assert_allclose(nats, np.asarray(expected).ravel(), atol=1e-5)
    assert (nats > 0.1).all()


def test_uniform_split_has_no_information() -> None:
    split = _split()
    n_pixels = np.bincount(split.raster.parent)[split.raster.parent][:, None]
    information = ExpectedInformation(split.spot_counts, split.raster)
    information.add(sparse.csr_matrix(split.spot_counts.toarray()[split.raster.parent] / n_pixels))
    np.testing.assert_allclose(information.nats_per_count(), 0.0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 17, 400])
def test_information_does_not_depend_on_tiles(size: int) -> None:
    split = _split()
    at_once = ExpectedInformation(split.spot_counts, split.raster)
    at_once.add(split.counts)
    pixels = np.random.default_rng(size).permutation(split.raster.n_pixels)
    by_tile = ExpectedInformation(split.spot_counts, split.raster)
    for start in range(0, len(pixels), size):
        by_tile.add(split.counts[pixels[start : start + size]])
    np.testing.assert_array_equal(by_tile.nats_per_count(), at_once.nats_per_count())


def test_rare_genes_have_no_skill() -> None:
    split = _split()
    spot_counts = split.spot_counts.toarray()
    spot_counts[:, 0] = 0.0
    spot_counts[:19, 0] = 1.0
    information = ExpectedInformation(sparse.csr_matrix(spot_counts), split.raster)
    information.add(split.counts)
    np.testing.assert_array_equal(np.isnan(information.nats_per_count()), [True, False, False, False, False])


def test_slides_of_few_spots_have_no_skill() -> None:
    split = _split(side=10)
    information = ExpectedInformation(split.spot_counts, split.raster)
    information.add(split.counts)
    assert split.spot_counts.sum(axis=0).min() > 20
    assert np.isnan(information.nats_per_count()).all()


def test_small_region_of_a_slide_has_a_skill() -> None:
    split = _split()
    is_inside = split.raster.parent < 40
    arrays = {name: getattr(split.raster, name)[is_inside] for name in ("row", "col", "parent")}
    information = ExpectedInformation(split.spot_counts, dataclasses.replace(split.raster, **arrays))
    information.add(split.counts[is_inside])
    assert np.isfinite(information.nats_per_count()).all()
