"""Tests of lattice detection."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.lattices import lattice_points
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_srast.errors import InputError
from napari_srast.geometry.lattice import detect_lattice


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["square", "hex"]),
    angle=st.floats(-3, 3),
    pitch=st.floats(0.01, 1e4),
    shift=st.floats(-1e5, 1e5),
)
def test_kind_pitch_and_angle_are_detected(kind: str, angle: float, pitch: float, shift: float) -> None:
    lattice = detect_lattice(lattice_points(kind, 9, 11, angle, pitch=pitch) + shift * pitch)
    fold = 4 if kind == "square" else 6
    assert lattice.kind == kind
    assert lattice.pitch == pytest.approx(pitch, rel=1e-4)
    assert np.abs(np.exp(1j * fold * lattice.angle) - np.exp(1j * fold * angle)) < 0.05
    assert lattice.misfit < 0.01


def test_jitter_and_gaps_do_not_change_the_pitch() -> None:
    rng = np.random.default_rng(1)
    points = lattice_points("square", 16, 16, 0.3, pitch=200.0)[rng.random(256) > 0.3]
    lattice = detect_lattice(points + rng.normal(scale=12, size=points.shape))
    assert lattice.kind == "square"
    assert lattice.pitch == pytest.approx(200, rel=0.01)
    assert lattice.angle == pytest.approx(0.3, abs=0.02)


def test_random_points_have_no_lattice() -> None:
    assert detect_lattice(np.random.default_rng(0).uniform(size=(300, 2))).kind == "irregular"


def test_spot_order_does_not_change_the_lattice() -> None:
    rng = np.random.default_rng(2)
    points = lattice_points("hex", 8, 8, 0.1) + rng.normal(scale=3, size=(64, 2))
    assert detect_lattice(points) == detect_lattice(points[rng.permutation(64)])


def test_single_spot_needs_its_diameter() -> None:
    assert detect_lattice(np.array([[3.0, 4.0]]), spot_diameter=55.0).pitch == 55
    with pytest.raises(InputError, match="spot diameter"):
        detect_lattice(np.array([[3.0, 4.0]]))


def test_spots_with_equal_coordinates_are_refused() -> None:
    with pytest.raises(InputError, match="All 3 spots have the same coordinates"):
        detect_lattice(np.ones((3, 2)))
