"""Cells of a tissue: places, types, and the smooth functions of place that their genes may follow.

Shape legend: n cells, T types, D domains, C coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from napari_srast.simulation.tissues.anatomy import MOTIFS, PLANS, Canvas
from napari_srast.simulation.tissues.fields import SmoothFields, log_uniform
from napari_srast.simulation.tissues.settings import TissueSettings

__all__ = ["Cells", "grow_cells", "shaken_grid"]

_KEPT = 0.6  # share of the candidate places that hold a cell in the end, about


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Cells and where they are.

    Parameters
    ----------
    places
        In micrometers, shape (n, 2).
    types, domains
        Type and domain of each cell, (n,).
    coordinates
        Smooth functions of place, variance 1, shape (n, C).
    spacing_um
        Distance of neighboring cells where they lie densest.
    span_um
        Side of the field of view.
    plan, motifs
        Names of what was painted.
    """

    places: np.ndarray
    types: np.ndarray
    domains: np.ndarray
    coordinates: np.ndarray
    spacing_um: float
    span_um: float
    plan: str
    motifs: tuple[str, ...]


def grow_cells(rng: np.random.Generator, n_cells: int, n_types: int, settings: TissueSettings) -> Cells:
    """Draw a plan, lay motifs over it, place cells and give each a type."""
    spacing = log_uniform(rng, *settings.spacing_um)
    span = spacing * float(np.sqrt(n_cells / _KEPT * np.sqrt(3) / 2))
    canvas = Canvas(shaken_grid(rng, span, spacing), span, spacing)
    plan = str(rng.choice(list(PLANS), p=[weight for weight, _ in PLANS.values()]))
    labels = PLANS[plan][1](canvas, rng)
    loosest = rng.uniform(0.2, 1.0)
    for label in np.unique(labels):
        canvas.paint(labels == label, rng.uniform(loosest, 1.0))
    motifs = tuple(name for name in MOTIFS if rng.random() < settings.motif_chance)
    for name in motifs:
        MOTIFS[name](canvas, rng)
    drift = SmoothFields(rng, np.array([span * rng.uniform(0.05, 0.3)]))(canvas.places)[:, 0]
    chance = canvas.density * np.exp(np.minimum(rng.uniform(0, 0.6) * drift, 0))
    held = rng.random(len(chance)) < chance
    if held.sum() < min(200, n_cells / 4):  # motifs have emptied the view: keep the cells without them
        motifs, held = (), np.ones(len(chance), dtype=bool)
    places, domains = canvas.places[held], canvas.domain[held]
    coordinates = [c[held] for c in canvas.coordinates]
    border, reach = _border_distance(places, domains), log_uniform(rng, 2, 8) * spacing
    coordinates.append(np.exp(-border / reach))
    types, infiltrated = _assign_types(rng, canvas, places, domains, coordinates, n_types)
    if infiltrated:
        motifs += ("infiltrate",)
    return Cells(
        places=places,
        types=types,
        domains=domains,
        coordinates=_unit_variance(np.column_stack(coordinates)),
        spacing_um=spacing,
        span_um=span,
        plan=plan,
        motifs=motifs,
    )


def shaken_grid(rng: np.random.Generator, span: float, spacing: float) -> np.ndarray:
    """Return hexagonally packed places over a square, each shaken: neighbors keep a distance, (n, 2)."""
    y, x = np.mgrid[0 : span : spacing * np.sqrt(3) / 2, 0:span:spacing]
    x = x + spacing / 2 * (np.arange(len(x)) % 2)[:, None]
    return np.column_stack([x.ravel(), y.ravel()]) + rng.normal(0, 0.25 * spacing, (x.size, 2))


def _border_distance(places: np.ndarray, domains: np.ndarray) -> np.ndarray:
    """Return each cell's distance from the nearest cell that touches another domain (n,)."""
    neighbors = cKDTree(places).query(places, k=min(7, len(places)))[1]
    at_border = (domains[neighbors] != domains[:, None]).any(axis=1)
    if not at_border.any():
        return np.full(len(places), np.inf)
    return cKDTree(places[at_border]).query(places)[0]


def _assign_types(
    rng: np.random.Generator,
    canvas: Canvas,
    places: np.ndarray,
    domains: np.ndarray,
    coordinates: list[np.ndarray],
    n_types: int,
) -> tuple[np.ndarray, bool]:
    """Draw a type for each cell from its domain's mix, bent by niches, borders and infiltrates."""
    chance = np.log(_mixes(rng, canvas.walls, n_types))[domains]
    # Niches: types come and go smoothly within a domain, some of them much more than others.
    lengths = canvas.span * np.exp(rng.uniform(np.log(0.03), np.log(0.4), n_types))
    strength = rng.uniform(0, 1.3) * rng.uniform(0, 1, n_types)
    chance = chance + strength * SmoothFields(rng, np.maximum(lengths, 2 * canvas.spacing))(places)
    if rng.random() < 0.4:  # one type keeps to the border of domains, or to a vessel, or to a depth
        chance[:, rng.integers(n_types)] += rng.uniform(1, 4) * coordinates[rng.integers(len(coordinates))]
    infiltrated = bool(rng.random() < 0.5)
    if infiltrated:
        guests = rng.choice(n_types, rng.integers(1, min(3, n_types) + 1), replace=False)
        crowd = _clusters(rng, places, canvas) if rng.random() < 0.6 else np.zeros(len(places))
        mixed = rng.uniform(-2, 0.5) + rng.uniform(1, 4) * crowd
        chance[:, guests] = np.logaddexp(chance[:, guests], mixed[:, None] - np.log(len(guests)))
    return np.argmax(chance + rng.gumbel(size=chance.shape), axis=1), infiltrated


def _mixes(rng: np.random.Generator, walls: list[bool], n_types: int) -> np.ndarray:
    """Return the mix of types of each domain, (D, T): walls nearly pure, others with a few main types."""
    everywhere = rng.dirichlet(np.full(n_types, 0.5))
    purity = rng.uniform(0.4, 0.98)
    order = rng.permutation(n_types)
    mixes, turn = [], 0
    for wall in walls:
        n_main = 1 if wall else int(rng.integers(1, 4))
        main = np.zeros(n_types)
        main[order[np.arange(turn, turn + n_main) % n_types]] = rng.dirichlet(np.full(n_main, 2.0))
        turn += n_main
        share = rng.uniform(0.85, 0.98) if wall else np.clip(purity + rng.normal(0, 0.15), 0.1, 0.98)
        mixes.append(share * main + (1 - share) * everywhere)
    return np.maximum(np.array(mixes), 1e-4)


def _clusters(rng: np.random.Generator, places: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Return how deep each cell lies in clusters around random parents, 0 to 1 (n,): a Neyman-Scott process."""
    parents = places[rng.integers(len(places), size=round(log_uniform(rng, 2, 40)))]
    width = log_uniform(rng, 2, 8) * canvas.spacing
    return np.exp(-0.5 * (cKDTree(parents).query(places)[0] / width) ** 2)


def _unit_variance(values: np.ndarray) -> np.ndarray:
    centerd = values - values.mean(axis=0)
    return centerd / np.maximum(centerd.std(axis=0), 1e-3)
