"""Test the estimate of the image offset."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.core.progress import RunMonitor
from napari_srast.errors import Cancelled
from napari_srast.histology import fit_image_expert
from napari_srast.histology.offset import OffsetEstimate, estimate_offset


def _estimate(tissue, shift: tuple[float, float]) -> OffsetEstimate:
    move = np.eye(3)
    move[:2, 2] = shift
    return estimate_offset(fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image(to_intrinsic=move)))


def test_aligned_image_is_usable_without_warning(tissue) -> None:
    estimate = _estimate(tissue, (0.0, 0.0))
    assert estimate.usable
    assert estimate.warning("he") is None
    assert estimate.offset_pitches <= 0.125
    assert np.hypot(*estimate.correction) <= 12.5


@pytest.mark.parametrize("shift", [(25.0, 0.0), (-14.0, 14.0)])
def test_small_shift_is_corrected_without_warning(tissue, shift: tuple[float, float]) -> None:
    estimate = _estimate(tissue, shift)
    assert estimate.usable
    assert estimate.warning("he") is None
    assert estimate.correction == estimate.offset
    assert np.hypot(estimate.correction[0] - shift[0], estimate.correction[1] - shift[1]) <= 12.5


@pytest.mark.parametrize("shift", [(50.0, 0.0), (-35.0, 35.0)])
def test_shift_is_estimated_within_a_quarter_pitch(tissue, shift: tuple[float, float]) -> None:
    estimate = _estimate(tissue, shift)
    assert np.hypot(estimate.offset[0] - shift[0], estimate.offset[1] - shift[1]) <= 25.0
    warning = estimate.warning("he", scale=2.0, unit="um")
    assert warning is not None
    assert "'he' appears to be shifted" in warning
    assert f"x {2 * estimate.offset[0]:+.4g} um" in warning
    assert estimate.correction == (0.0, 0.0)


def test_image_of_another_tissue_is_not_usable(tissue, tissue_maker) -> None:
    other = tissue_maker(seed=5)
    estimate = estimate_offset(
        fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image(density=other.density))
    )
    assert not estimate.usable
    warning = estimate.warning("he")
    assert warning is not None
    assert "shows this section" in warning or "appears to be shifted" in warning


def test_estimate_can_be_canceled(tissue) -> None:
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image())
    with pytest.raises(Cancelled):
        estimate_offset(expert, RunMonitor(should_stop=lambda: True))


def test_an_image_that_is_moved_by_the_offset_fits(tissue) -> None:
    move = np.eye(3)
    move[:2, 2] = (50.0, 0.0)
    image = tissue.image(to_intrinsic=move)
    offset = estimate_offset(fit_image_expert(tissue.counts, tissue.centers, 100.0, image)).offset
    back = image.moved_by(-np.array(offset))
    assert back.moved == (-offset[0], -offset[1])
    again = estimate_offset(fit_image_expert(tissue.counts, tissue.centers, 100.0, back))
    assert again.usable
    assert not again.misaligned
