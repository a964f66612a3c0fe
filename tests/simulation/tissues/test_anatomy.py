"""Plans and motifs of procedural tissues."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from napari_srast.simulation.tissues.anatomy import MOTIFS, PLANS, Canvas
from napari_srast.simulation.tissues.cells import jittered_hexagonal_grid


@pytest.mark.parametrize("name", MOTIFS)
def test_motif_changes_a_part_of_the_canvas(name: str) -> None:
    changed = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        canvas = Canvas(jittered_hexagonal_grid(rng, 600.0, 8.0), 600.0, 8.0)
        canvas.paint(np.ones(len(canvas.positions), dtype=bool), 1.0)
        MOTIFS[name](canvas, rng)
        changed.append(np.mean((canvas.domain > 0) | (canvas.density == 0)))
    assert 0.005 < np.median(changed) < 0.9


def test_glands_are_rings_around_an_empty_lumen() -> None:
    rng = np.random.default_rng(1)
    canvas = Canvas(jittered_hexagonal_grid(rng, 800.0, 8.0), 800.0, 8.0)
    canvas.paint(np.ones(len(canvas.positions), dtype=bool), 1.0)
    MOTIFS["glands"](canvas, rng)
    lumen, wall = canvas.density == 0, np.isin(canvas.domain, np.flatnonzero(canvas.walls))
    assert lumen.any()
    near = cKDTree(canvas.positions).query(canvas.positions[lumen], k=7)[1]
    assert (lumen | wall)[near].all()  # no lumen touches the stroma


@pytest.mark.parametrize(("plan", "several"), [("territories", True), ("layers", True), ("mosaic", False)])
def test_plans_label_connected_domains(plan: str, several: bool) -> None:
    rng = np.random.default_rng(2)
    canvas = Canvas(jittered_hexagonal_grid(rng, 600.0, 8.0), 600.0, 8.0)
    labels = PLANS[plan][1](canvas, rng)
    assert (len(np.unique(labels)) > 1) == several
    near = cKDTree(canvas.positions).query(canvas.positions, k=7)[1]
    assert np.mean(labels[near] == labels[:, None]) > 0.8
