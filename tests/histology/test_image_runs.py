"""Test whole runs with wrong and shifted images, moved and permuted slides, and regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.tissue import PITCH, Tissue
from scipy import sparse

from napari_srast.api import upsample
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult


@pytest.fixture(scope="module")
def with_image(tissue: Tissue) -> UpsampleResult:
    return tissue.upsample(tissue.image())


@pytest.fixture(scope="module")
def without_image(tissue: Tissue) -> UpsampleResult:
    return tissue.upsample()


WRONG: dict[str, Callable[[Any], np.ndarray]] = {
    "rotated": lambda density: density[::-1, ::-1],
    "mirrored": lambda density: density[:, ::-1],
    "noise": lambda density: np.random.default_rng(2).uniform(0, 2, density.shape),
    "blank": np.zeros_like,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_image_changes_no_count_and_is_reported(
    tissue: Tissue, without_image: UpsampleResult, wrong: str
) -> None:
    result = tissue.upsample(tissue.image(density=WRONG[wrong](tissue.density)))
    np.testing.assert_array_equal(result.counts.toarray(), without_image.counts.toarray())
    np.testing.assert_array_equal(result.skill, without_image.skill)
    (warning,) = result.provenance["notices"]
    assert warning.startswith("The image 'he'")
    assert "not used" in warning
    assert not result.provenance["calibration"]["image"]["used"]


def test_image_shifted_by_half_a_pitch_is_reported_with_its_shift(tissue: Tissue) -> None:
    move = np.eye(3)
    move[:2, 2] = 0.5 * PITCH, 0.0
    result = tissue.upsample(tissue.image(to_intrinsic=move))
    (warning,) = result.provenance["notices"]
    assert "appears to be shifted from the spots by 0." in warning
    record = result.provenance["calibration"]["image"]
    assert np.hypot(record["offset"][0] - 0.5 * PITCH, record["offset"][1]) <= 0.15 * PITCH
    assert f"x {record['offset'][0]:+.4g}" in warning
    assert record["correction"] == [0.0, 0.0]


def test_moved_and_permuted_slide_gets_the_same_counts(tissue: Tissue, with_image: UpsampleResult) -> None:
    move = np.eye(3)
    move[:2, 2] = 5e4, -3e4
    order = np.random.default_rng(0).permutation(len(tissue.centers))
    moved = replace(
        tissue.slide(tissue.image(to_intrinsic=move)),
        counts=sparse.csr_matrix(tissue.counts[order]),
        spot_ids=order.astype(str),
        centers=tissue.centers[order] + move[:2, 2],
    )
    result = upsample(moved, factor=2, device="cpu")
    np.testing.assert_allclose(result.raster.centers - move[:2, 2], with_image.raster.centers, atol=1e-6)
    np.testing.assert_allclose(result.counts.toarray(), with_image.counts.toarray(), rtol=1e-4, atol=1e-4)


def test_permuted_spots_change_no_count(tissue: Tissue, with_image: UpsampleResult) -> None:
    order = np.random.default_rng(1).permutation(len(tissue.centers))
    permuted = replace(
        tissue.slide(tissue.image()),
        counts=sparse.csr_matrix(tissue.counts[order]),
        spot_ids=order.astype(str),
        centers=tissue.centers[order],
    )
    result = upsample(permuted, factor=2, device="cpu")
    np.testing.assert_array_equal(result.counts.toarray(), with_image.counts.toarray())


@pytest.mark.parametrize("factor", [2, 3])
def test_region_equals_the_same_part_of_the_slide(tissue: Tissue, factor: int) -> None:
    slide = tissue.slide(tissue.image())
    corners = np.array([[250.0, 350.0], [850.0, 350.0], [850.0, 950.0], [250.0, 950.0]])
    whole = upsample(slide, factor=factor, device="cpu")
    part = upsample(slide, Region.from_polygons([corners], slide.coordinate_system), factor=factor, device="cpu")
    assert part.provenance["calibration"]["image"]["used"]
    inside = np.isin(whole.raster.parent, part.raster.spots)
    np.testing.assert_allclose(part.counts.toarray(), whole.counts[inside].toarray(), rtol=1e-3, atol=1e-3)


def test_bare_glass_gets_no_counts(tissue: Tissue, with_image: UpsampleResult) -> None:
    half = PITCH / 2
    row, col = np.rint((with_image.raster.centers[:, ::-1] + half) / PITCH * 24).astype(int).T
    glass = np.array(
        [
            tissue.density[max(r - 12, 0) : r + 12, max(c - 12, 0) : c + 12].max() == 0
            for r, c in zip(row, col, strict=True)
        ]
    )
    n_tissue = np.bincount(with_image.raster.parent, weights=~glass)[with_image.raster.parent]
    assert (glass & (n_tissue > 0)).sum() > 5
    assert with_image.counts[glass & (n_tissue > 0)].sum() == 0


def test_skill_is_the_expected_information(tissue: Tissue, with_image: UpsampleResult) -> None:
    counts, spots = with_image.counts.toarray(), tissue.counts.toarray()[with_image.raster.parent]
    ratio = np.divide(counts, spots, out=np.ones_like(counts), where=spots > 0)
    n_pixels = np.bincount(with_image.raster.parent)[with_image.raster.parent][:, None]
    information = (counts * np.log(np.maximum(ratio * n_pixels, 1e-30))).sum(axis=0) / tissue.counts.toarray().sum(
        axis=0
    )
    np.testing.assert_allclose(with_image.skill, information, atol=1e-4)
