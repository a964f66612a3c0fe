"""Where what lies: a basic plan of domains, and motifs laid over it.

Everything is painted on candidate places of cells: a shaken hexagonal grid as fine as the densest domain, from which
looser domains keep a share. A motif is a signed distance (negative inside) and a few thresholds.

Shape legend: n places, D domains.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from napari_srast.simulation.tissues.fields import SmoothFields, log_uniform

__all__ = ["MOTIFS", "PLANS", "Canvas"]


class Canvas:
    """Places of a tissue, and what has been painted on them so far.

    Parameters
    ----------
    places
        Candidate places of cells in micrometers, shape (n, 2).
    span_um
        Side of the field of view.
    spacing_um
        Distance of neighboring places.

    Attributes
    ----------
    domain
        Domain of each place, (n,).
    density
        Share of the places that hold a cell, (n,).
    walls
        For each domain, whether it is a sheet of one cell type (epithelium, endothelium).
    coordinates
        Smooth functions of place that gene programs may follow (n,): depth in the layers, distance from a vessel.
    """

    def __init__(self, places: np.ndarray, span_um: float, spacing_um: float):
        self.places = places
        self.span = span_um
        self.spacing = spacing_um
        self.domain = np.zeros(len(places), dtype=np.int64)
        self.density = np.ones(len(places))
        self.walls: list[bool] = []
        self.coordinates: list[np.ndarray] = []

    def paint(self, where: np.ndarray, density: float, *, wall: bool = False) -> None:
        """Give the places of a mask (n,) to a new domain."""
        self.domain[where] = len(self.walls)
        self.density[where] = density
        self.walls.append(wall)

    def clear(self, where: np.ndarray) -> None:
        """Leave the places of a mask (n,) without cells."""
        self.density[where] = 0.0


def _territories(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Label by the largest of several random fields; a finer field frays the borders."""
    n_domains = int(rng.integers(2, 8))
    length = canvas.span * log_uniform(rng, 0.07, 0.4)
    height = SmoothFields(rng, np.full(n_domains, length))(canvas.places) + rng.normal(0, 0.5, n_domains)
    frayed = SmoothFields(rng, np.full(n_domains, max(length / 6, 2 * canvas.spacing)))(canvas.places)
    return np.argmax(height + rng.uniform(0, 0.4) * frayed, axis=1)


def _voronoi(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Label by the nearest of random seeds, seen through a warp."""
    n_seeds = round(log_uniform(rng, 6, 80))
    warp = SmoothFields(rng, np.full(2, canvas.span * rng.uniform(0.05, 0.2)))(canvas.places)
    warped = canvas.places + canvas.span * rng.uniform(0.005, 0.05) * warp
    nearest = cKDTree(rng.uniform(0, canvas.span, (n_seeds, 2))).query(warped)[1]
    return rng.integers(0, rng.integers(2, 8), n_seeds)[nearest]


def _layers(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Label by the depth below a bent surface, or around a center, as in cortex, bulb, skin and embryo."""
    angle = rng.uniform(0, 2 * np.pi)
    bend = SmoothFields(rng, np.array([canvas.span * rng.uniform(0.25, 0.8)]))(canvas.places)[:, 0]
    if rng.random() < 0.4:
        center = canvas.span * rng.uniform(-0.2, 0.7, 2)
        depth = np.hypot(*(canvas.places - center).T)
    else:
        depth = canvas.places @ np.array([np.cos(angle), np.sin(angle)])
    depth = depth + canvas.span * rng.uniform(0.01, 0.09) * bend
    canvas.coordinates.append(_standardized(depth))
    fuzzy = depth + canvas.span * rng.uniform(0, 0.02) * rng.standard_normal(len(depth))
    thickness = rng.dirichlet(np.full(rng.integers(3, 9), 2.5))
    cuts = np.ptp(depth) * np.cumsum(thickness)[:-1] + depth.min()
    return np.searchsorted(cuts, fuzzy)


def _mosaic(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """One domain: an unpatterned mix, as in many nuclei of the brain."""
    return np.zeros(len(canvas.places), dtype=np.int64)


def _outer_inner(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Put one plan beside another: layers here, territories there."""
    first, second = (_PARTS[i](canvas, rng) for i in rng.choice(len(_PARTS), 2))
    side = SmoothFields(rng, np.array([canvas.span * 0.4]))(canvas.places)[:, 0]
    return np.where(side > rng.normal(0, 0.4), first, first.max() + 1 + second)


Plan = Callable[[Canvas, np.random.Generator], np.ndarray]
_PARTS: tuple[Plan, ...] = (_territories, _voronoi, _layers, _mosaic)
PLANS: dict[str, tuple[float, Plan]] = {
    "territories": (0.25, _territories),
    "voronoi": (0.15, _voronoi),
    "layers": (0.25, _layers),
    "mosaic": (0.15, _mosaic),
    "two plans": (0.2, _outer_inner),
}


def _glands(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint rings of epithelium around a lumen, some with a thin outer sheath."""
    radius = log_uniform(rng, 3.5, 8) * canvas.spacing
    distance, _ = _bodies(canvas, rng, radius, share=rng.uniform(0.2, 0.9))
    wall = rng.uniform(1.2, 2.2) * canvas.spacing
    if rng.random() < 0.5:
        canvas.paint((distance < rng.uniform(0.9, 1.5) * canvas.spacing) & (distance >= 0), 0.9, wall=True)
    canvas.paint((distance < 0) & (distance > -wall), 1.0, wall=True)
    canvas.clear(distance <= -wall)


def _tubules(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint winding tubes: a level of a random field, walled, with a lumen."""
    distance = _level_set(canvas, rng, log_uniform(rng, 4, 9) * canvas.spacing, rng.uniform(0.3, 1.0))
    wall = rng.uniform(1.0, 2.0) * canvas.spacing
    canvas.paint((distance < 0) & (distance > -wall), 1.0, wall=True)
    canvas.clear(distance <= -wall)


def _nests(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint round aggregates, some with a core of another kind: follicles, islets, tumor nests."""
    radius = log_uniform(rng, 5, 18) * canvas.spacing
    distance, reach = _bodies(canvas, rng, radius, share=rng.uniform(0.1, 0.6))
    canvas.paint(distance < 0, rng.uniform(0.7, 1.0))
    canvas.coordinates.append(np.exp(-np.maximum(distance, 0) / (0.5 * radius)))
    if rng.random() < 0.5:
        canvas.paint(distance < -rng.uniform(0.35, 0.6) * reach, rng.uniform(0.6, 1.0))


def _vessels(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint curved tubes seen along or across, with a wall and a gradient around them."""
    distance = np.full(len(canvas.places), np.inf)
    for _ in range(rng.integers(1, 7)):
        path = _curve(canvas, rng, length=canvas.span * rng.uniform(0.03, 1.0))
        radius = log_uniform(rng, 0.8, 4) * canvas.spacing
        distance = np.minimum(distance, cKDTree(path).query(canvas.places)[0] - radius)
    canvas.paint((distance > 0) & (distance < rng.uniform(0.9, 2.0) * canvas.spacing), 1.0, wall=True)
    canvas.clear(distance <= 0)
    canvas.coordinates.append(np.exp(-np.maximum(distance, 0) / (log_uniform(rng, 3, 12) * canvas.spacing)))


def _strands(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint fibrous bands: the levels of a stretched field."""
    field = SmoothFields(
        rng,
        np.array([log_uniform(rng, 3, 8) * canvas.spacing]),
        stretch=rng.uniform(3, 8),
        angle=rng.uniform(0, np.pi),
    )
    canvas.paint(field(canvas.places)[:, 0] > rng.uniform(0.5, 1.3), rng.uniform(0.25, 0.8))


def _fat(canvas: Canvas, rng: np.random.Generator) -> None:
    """Clear round vacuoles side by side, so that cells lie at their rims only."""
    distance, _ = _bodies(canvas, rng, log_uniform(rng, 2.5, 5) * canvas.spacing, share=rng.uniform(0.1, 0.5))
    canvas.clear(distance < -0.5 * canvas.spacing)


def _tears(canvas: Canvas, rng: np.random.Generator) -> None:
    """Clear cracks."""
    for _ in range(rng.integers(1, 4)):
        path = _curve(canvas, rng, length=canvas.span * rng.uniform(0.2, 0.8))
        canvas.clear(cKDTree(path).query(canvas.places)[0] < rng.uniform(0.6, 4) * canvas.spacing)


def _holes(canvas: Canvas, rng: np.random.Generator) -> None:
    """Clear a few large openings."""
    length = canvas.span * rng.uniform(0.1, 0.2)
    canvas.clear(_level_set(canvas, rng, length, rng.uniform(1.3, 1.8)) < 0)


def _outline(canvas: Canvas, rng: np.random.Generator) -> None:
    """Clear what lies outside a round, wavy edge of the tissue."""
    centerd = canvas.places / canvas.span - rng.uniform(0.4, 0.6, 2)
    wave = SmoothFields(rng, np.array([canvas.span * rng.uniform(0.08, 0.3)]))(canvas.places)[:, 0]
    canvas.clear(np.hypot(*centerd.T) + 0.03 * wave > rng.uniform(0.4, 0.55))


MOTIFS: dict[str, Callable[[Canvas, np.random.Generator], None]] = {
    "strands": _strands,
    "nests": _nests,
    "glands": _glands,
    "tubules": _tubules,
    "fat": _fat,
    "vessels": _vessels,
    "holes": _holes,
    "tears": _tears,
    "outline": _outline,
}


def _bodies(canvas: Canvas, rng: np.random.Generator, radius: float, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Scatter wobbly ellipses that hardly overlap; return the signed distance and the reach of the nearest (n,)."""
    tries = max(int(3 * (canvas.span / (2 * radius)) ** 2), 4)
    centers = rng.uniform(0, canvas.span, (tries, 2))
    kept = np.ones(tries, dtype=bool)
    for first, second in cKDTree(centers).query_pairs(2.3 * radius, output_type="ndarray"):
        if kept[first]:
            kept[second] = False
    centers = centers[kept]
    # Bodies come in groups: only where a field is high, or at least at its highest.
    field = SmoothFields(rng, np.array([canvas.span * 0.3]))(centers)[:, 0]
    centers = centers[field >= np.quantile(field, 1 - share)]
    reach = radius * rng.uniform(0.65, 1.1, len(centers))
    ratio = np.exp(rng.uniform(-0.3, 0.3, len(centers)))
    angle, phase = rng.uniform(0, 2 * np.pi, (2, len(centers)))
    best, size = np.full(len(canvas.places), np.inf), np.full(len(canvas.places), radius)
    _, nearest = cKDTree(centers).query(canvas.places, k=min(3, len(centers)))
    for body in nearest.reshape(len(canvas.places), -1).T:
        dx, dy = (canvas.places - centers[body]).T
        cos, sin = np.cos(angle[body]), np.sin(angle[body])
        x, y = (dx * cos + dy * sin) * ratio[body], (dy * cos - dx * sin) / ratio[body]
        wobble = 1 + 0.08 * np.cos(3 * np.arctan2(y, x) + phase[body])
        distance = np.hypot(x, y) / wobble - reach[body]
        closer = distance < best
        best, size = np.where(closer, distance, best), np.where(closer, reach[body], size)
    return best, size


def _level_set(canvas: Canvas, rng: np.random.Generator, length: float, level: float) -> np.ndarray:
    """Return the signed distance from where a random field passes a level, to first order (n,)."""
    field = SmoothFields(rng, np.array([length]))
    slope = np.linalg.norm(field.gradient(canvas.places)[:, 0], axis=1)
    return (level - field(canvas.places)[:, 0]) / np.maximum(slope, 0.2 / length)


def _curve(canvas: Canvas, rng: np.random.Generator, length: float) -> np.ndarray:
    """Return closely spaced points of a smooth random path."""
    step = 0.5 * canvas.spacing
    n_steps = max(int(length / step), 2)
    kernel = np.hanning(41)
    turning = np.convolve(rng.standard_normal(n_steps + 40), kernel / np.linalg.norm(kernel), mode="valid")
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.uniform(0.005, 0.03) * turning)
    start = rng.uniform(0, canvas.span, 2)
    return start + step * np.cumsum(np.column_stack([np.cos(heading), np.sin(heading)]), axis=0)


def _standardized(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)
