from __future__ import annotations

import numpy as np
import pytest

from napari_srast.calibration.pooling import EXPERT_NAMES, PoolWeights
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.skill import GeneSkill
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap


def test_gain_is_over_the_best_interpolation() -> None:
    col, row = (a.ravel().astype(float) for a in np.meshgrid(np.arange(8), np.arange(8)))
    centers = np.column_stack([col, row])
    layout = SpotPixelMap.of_raster(centers, make_raster(centers, factor=2))
    rng = np.random.default_rng(0)
    right = layout.normalize(rng.gamma(1.0, 1.0, (layout.n_pixels, 2)) + 0.05)
    counts = np.full((layout.n_spots, 2), 40.0)
    truth = rng.poisson(right * 40.0).astype(float)
    log_experts = np.zeros((len(EXPERT_NAMES), layout.n_pixels, 2)) - np.log(4)
    log_experts[0] = np.log(right)
    log_experts[2, :, 1] = np.log(right[:, 1])  # an interpolation that is as good for the second gene
    one = HoldoutPredictions(log_experts=log_experts, counts=counts, truth=truth, layout=layout)
    weights = np.zeros((2, len(EXPERT_NAMES)))
    weights[0, 0] = 1.0
    skill = GeneSkill.from_predictions([one], PoolWeights(weights=weights, coarse_weights=weights))
    assert skill.best[1] == EXPERT_NAMES[2]
    assert skill.gain[0] == pytest.approx(skill.skill[0], abs=1e-6)
    assert skill.gain[0] > 4 * skill.gain_error[0] > 0
    assert skill.gain[1] == pytest.approx(0.0, abs=1e-6)
    assert list(skill.describe_gain(["A", "B"])) == ["A", "B"]
    assert GeneSkill.unknown(2).describe_gain(["A", "B"]) == {}
