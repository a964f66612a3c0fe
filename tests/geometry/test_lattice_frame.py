"""Tests of the nodes of spots on a lattice."""

from __future__ import annotations

import numpy as np
from helpers.lattices import lattice_points

from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.lattice_frame import lattice_frame


def test_nodes_of_stretched_hexagonal_array_are_distinct() -> None:
    centers = lattice_points("hex", 60, 60, angle=0.1, stretch=1.03)
    frame = lattice_frame(centers, detect_lattice(centers))
    assert len(np.unique(frame.nodes, axis=0)) == len(centers)
    np.testing.assert_allclose(frame.to_positions(frame.nodes), centers, atol=1)
    np.testing.assert_allclose(frame.to_nodes(centers), frame.nodes, atol=0.02)
