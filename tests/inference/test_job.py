"""What a run computes: which pixels the calibration reaches."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.inference.job import calibration_gap


@pytest.mark.parametrize(
    ("n_pixels", "spot_area", "gap"),
    [
        ([4, 4, 0], None, None),  # spots without pixels are ignored
        ([4, 4, 3], 100.0**2, None),
        ([16, 16, 0], 100.0**2, "small pixels"),
        ([4, 4, 4], np.pi / 4 * 55.0**2, "unmeasured gaps"),  # Visium
        ([], None, None),
    ],
)
def test_calibration_reaches_two_pixels_per_pitch_without_gaps(
    n_pixels: list[int], spot_area: float | None, gap: str | None
) -> None:
    assert calibration_gap(np.array(n_pixels, dtype=int), spot_area, 100.0) == gap
