"""Smooth random fields."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.simulation.tissues.fields import SmoothFields


def test_fields_have_unit_variance_length_scale_and_gradient() -> None:
    fields = SmoothFields(np.random.default_rng(0), np.full(60, 50.0))
    positions = np.random.default_rng(1).uniform(0, 2000, (400, 2))
    values = fields(positions)
    assert values.var() == pytest.approx(1, abs=0.1)
    away, step = np.array([50.0, 0.0]), np.array([0.5, 0.0])
    correlation = np.mean(values * fields(positions + away)) / values.var()
    assert correlation == pytest.approx(np.exp(-0.5), abs=0.1)
    slope = fields(positions + step) - fields(positions - step)
    np.testing.assert_allclose(fields.gradient(positions)[..., 0], slope, atol=2e-3)
