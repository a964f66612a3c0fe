"""Generate the cells of a tissue: positions, types, and smooth functions of the position that genes may follow.

Shape legend: n cells, T types, D domains, C coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from napari_srast.simulation.tissues.anatomy import MOTIFS, PLANS, Canvas
from napari_srast.simulation.tissues.fields import SmoothFields, log_uniform
from napari_srast.simulation.tissues.settings import TissueSettings

__all__ = ["Cells", "generate_cells", "jittered_hexagonal_grid"]

_MEAN_OCCUPANCY = 0.6  # approximate fraction of the candidate positions with a cell


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Positions, types and domains of cells.

    Parameters
    ----------
    positions
        Centers (x, y) of the cells in micrometers, shape (n, 2).
    types, domains
        Type and domain of each cell, shape (n,).
    coordinates
        Smooth functions of the position with variance 1, shape (n, C).
    spacing_um
        Distance between neighboring cells at the highest density, in micrometers.
    span_um
        Side of the field of view in micrometers.
    plan, motifs
        Names of the plan and the motifs.
    """

    positions: np.ndarray
    types: np.ndarray
    domains: np.ndarray
    coordinates: np.ndarray
    spacing_um: float
    span_um: float
    plan: str
    motifs: tuple[str, ...]


def generate_cells(rng: np.random.Generator, n_cells: int, n_types: int, settings: TissueSettings) -> Cells:
    """Draw plan and motifs, place the cells, and assign a type to each.

    Parameters
    ----------
    rng
        Random generator.
    n_cells, n_types
        Approximate number of cells, and number of cell types.
    settings
        Ranges of the random parameters.
    """
    spacing = log_uniform(rng, *settings.spacing_um)
    span = spacing * float(np.sqrt(n_cells / _MEAN_OCCUPANCY * np.sqrt(3) / 2))
    canvas = Canvas(jittered_hexagonal_grid(rng, span, spacing), span, spacing)
    plan = str(rng.choice(list(PLANS), p=[weight for weight, _ in PLANS.values()]))
    labels = PLANS[plan][1](canvas, rng)
    min_density = rng.uniform(0.2, 1.0)
    for label in np.unique(labels):
        canvas.paint(labels == label, rng.uniform(min_density, 1.0))
    motifs = tuple(name for name in MOTIFS if rng.random() < settings.motif_chance)
    for name in motifs:
        MOTIFS[name](canvas, rng)
    drift = SmoothFields(rng, np.array([span * rng.uniform(0.05, 0.3)]))(canvas.positions)[:, 0]
    chance = canvas.density * np.exp(np.minimum(rng.uniform(0, 0.6) * drift, 0))
    occupied = rng.random(len(chance)) < chance
    if occupied.sum() < min(200, n_cells / 4):  # the motifs removed nearly all cells, so ignore them
        motifs, occupied = (), np.ones(len(chance), dtype=bool)
    positions, domains = canvas.positions[occupied], canvas.domain[occupied]
    coordinates = [c[occupied] for c in canvas.coordinates]
    border, reach = _border_distance(positions, domains), log_uniform(rng, 2, 8) * spacing
    coordinates.append(np.exp(-border / reach))
    types, infiltrated = _assign_types(rng, canvas, positions, domains, coordinates, n_types)
    if infiltrated:
        motifs += ("infiltrate",)
    return Cells(
        positions=positions,
        types=types,
        domains=domains,
        coordinates=_unit_variance(np.column_stack(coordinates)),
        spacing_um=spacing,
        span_um=span,
        plan=plan,
        motifs=motifs,
    )


def jittered_hexagonal_grid(rng: np.random.Generator, span: float, spacing: float) -> np.ndarray:
    """Return positions (n, 2) on a hexagonal lattice over a square with random offsets, less than the spacing.

    Parameters
    ----------
    rng
        Random generator.
    span
        Side of the square.
    spacing
        Distance between neighboring positions.
    """
    y, x = np.mgrid[0 : span : spacing * np.sqrt(3) / 2, 0:span:spacing]
    x = x + spacing / 2 * (np.arange(len(x)) % 2)[:, None]
    return np.column_stack([x.ravel(), y.ravel()]) + rng.normal(0, 0.25 * spacing, (x.size, 2))


def _border_distance(positions: np.ndarray, domains: np.ndarray) -> np.ndarray:
    """Return the distance (n,) of each cell from the nearest cell with a neighbor in another domain."""
    neighbors = cKDTree(positions).query(positions, k=min(7, len(positions)))[1]
    at_border = (domains[neighbors] != domains[:, None]).any(axis=1)
    if not at_border.any():
        return np.full(len(positions), np.inf)
    return cKDTree(positions[at_border]).query(positions)[0]


def _assign_types(
    rng: np.random.Generator,
    canvas: Canvas,
    positions: np.ndarray,
    domains: np.ndarray,
    coordinates: list[np.ndarray],
    n_types: int,
) -> tuple[np.ndarray, bool]:
    """Draw the type of each cell from the mix of its domain, modified by niches, borders and infiltrates.

    Returns the types (n,), and whether there is an infiltrate.
    """
    chance = np.log(_mixes(rng, canvas.walls, n_types))[domains]
    # Niches: frequencies of types vary smoothly within a domain, by different amounts.
    lengths = canvas.span_um * np.exp(rng.uniform(np.log(0.03), np.log(0.4), n_types))
    strength = rng.uniform(0, 1.3) * rng.uniform(0, 1, n_types)
    chance = chance + strength * SmoothFields(rng, np.maximum(lengths, 2 * canvas.spacing_um))(positions)
    if rng.random() < 0.4:  # one type prefers the borders of domains, a vessel, or a depth
        chance[:, rng.integers(n_types)] += rng.uniform(1, 4) * coordinates[rng.integers(len(coordinates))]
    infiltrated = bool(rng.random() < 0.5)
    if infiltrated:
        infiltrating = rng.choice(n_types, rng.integers(1, min(3, n_types) + 1), replace=False)
        clusters = _clusters(rng, positions, canvas) if rng.random() < 0.6 else np.zeros(len(positions))
        mixed = rng.uniform(-2, 0.5) + rng.uniform(1, 4) * clusters
        chance[:, infiltrating] = np.logaddexp(chance[:, infiltrating], mixed[:, None] - np.log(len(infiltrating)))
    return np.argmax(chance + rng.gumbel(size=chance.shape), axis=1), infiltrated


def _mixes(rng: np.random.Generator, walls: list[bool], n_types: int) -> np.ndarray:
    """Return the frequencies (D, T) of types in each domain: one main type in walls, a few in other domains."""
    background = rng.dirichlet(np.full(n_types, 0.5))
    purity = rng.uniform(0.4, 0.98)
    order = rng.permutation(n_types)
    mixes, n_used = [], 0
    for wall in walls:
        n_main = 1 if wall else int(rng.integers(1, 4))
        main = np.zeros(n_types)
        main[order[np.arange(n_used, n_used + n_main) % n_types]] = rng.dirichlet(np.full(n_main, 2.0))
        n_used += n_main
        share = rng.uniform(0.85, 0.98) if wall else np.clip(purity + rng.normal(0, 0.15), 0.1, 0.98)
        mixes.append(share * main + (1 - share) * background)
    return np.maximum(np.array(mixes), 1e-4)


def _clusters(rng: np.random.Generator, positions: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Return the density (n,), 0 to 1, of clusters around random parents, as in a Neyman-Scott process."""
    parents = positions[rng.integers(len(positions), size=round(log_uniform(rng, 2, 40)))]
    width = log_uniform(rng, 2, 8) * canvas.spacing_um
    return np.exp(-0.5 * (cKDTree(parents).query(positions)[0] / width) ** 2)


def _unit_variance(values: np.ndarray) -> np.ndarray:
    centered = values - values.mean(axis=0)
    return centered / np.maximum(centered.std(axis=0), 1e-3)
