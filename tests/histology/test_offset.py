from __future__ import annotations

import numpy as np
import pytest

from napari_srast.errors import Cancelled
from napari_srast.histology import fit_image_expert
from napari_srast.histology.offset import OffsetEstimate, estimate_offset


def _registration(tissue, shift: tuple[float, float]) -> OffsetEstimate:
    move = np.eye(3)
    move[:2, 2] = shift
    return estimate_offset(fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image(to_intrinsic=move)))


def test_an_image_in_place_is_trusted_without_a_word(tissue) -> None:
    found = _registration(tissue, (0.0, 0.0))
    assert found.trusted
    assert found.notice("he") is None
    assert found.offset_pitches <= 0.125


@pytest.mark.parametrize("shift", [(50.0, 0.0), (-35.0, 35.0)])
def test_a_shift_of_half_a_pitch_is_named_to_a_quarter_of_a_pitch(tissue, shift: tuple[float, float]) -> None:
    found = _registration(tissue, shift)
    assert np.hypot(found.offset[0] - shift[0], found.offset[1] - shift[1]) <= 25.0
    notice = found.notice("he", scale=2.0, unit="um")
    assert notice is not None
    assert "'he' seems to lie" in notice
    assert f"x {2 * found.offset[0]:+.4g} um" in notice


def test_an_image_of_another_tissue_is_told_of(tissue, tissue_maker) -> None:
    other = tissue_maker(seed=5)
    found = estimate_offset(fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image(density=other.density)))
    assert not found.trusted
    notice = found.notice("he")
    assert notice is not None
    assert "of this section" in notice or "seems to lie" in notice


def test_the_check_can_be_stopped(tissue) -> None:
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image())
    with pytest.raises(Cancelled):
        estimate_offset(expert, lambda: True)
