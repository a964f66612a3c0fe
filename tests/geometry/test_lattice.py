"""The lattice is found whatever its angle, jitter and gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_srast.errors import InputError
from napari_srast.geometry.lattice import detect_lattice


def grid(kind: str, rows: int, cols: int, pitch: float = 1.0, angle: float = 0.0) -> np.ndarray:
    row, col = (a.ravel().astype(float) for a in np.mgrid[:rows, :cols])
    points = np.column_stack([col + 0.5 * (row % 2), row * np.sqrt(0.75)] if kind == "hex" else [col, row])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return pitch * points @ turn


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["square", "hex"]),
    angle=st.floats(-3, 3),
    pitch=st.floats(0.01, 1e4),
    shift=st.floats(-1e5, 1e5),
)
def test_kind_pitch_and_angle_are_found(kind: str, angle: float, pitch: float, shift: float) -> None:
    found = detect_lattice(grid(kind, 9, 11, pitch, angle) + shift * pitch)
    fold = 4 if kind == "square" else 6
    assert found.kind == kind
    assert found.pitch == pytest.approx(pitch, rel=1e-4)
    assert np.abs(np.exp(1j * fold * found.angle) - np.exp(1j * fold * angle)) < 0.05
    assert found.misfit < 0.01


def test_jitter_and_missing_spots_leave_the_pitch() -> None:
    rng = np.random.default_rng(1)
    points = grid("square", 16, 16, 200.0, 0.3)[rng.random(256) > 0.3]
    found = detect_lattice(points + rng.normal(scale=12, size=points.shape))
    assert found.kind == "square"
    assert found.pitch == pytest.approx(200, rel=0.01)
    assert found.angle == pytest.approx(0.3, abs=0.02)


def test_random_points_have_no_lattice() -> None:
    assert detect_lattice(np.random.default_rng(0).uniform(size=(300, 2))).kind == "irregular"


def test_order_of_spots_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    points = grid("hex", 8, 8, 100.0, 0.1) + rng.normal(scale=3, size=(64, 2))
    assert detect_lattice(points) == detect_lattice(points[rng.permutation(64)])


def test_one_spot_takes_its_diameter_or_says_what_is_missing() -> None:
    assert detect_lattice(np.array([[3.0, 4.0]]), spot_diameter=55.0).pitch == 55
    with pytest.raises(InputError, match="spot diameter"):
        detect_lattice(np.array([[3.0, 4.0]]))
