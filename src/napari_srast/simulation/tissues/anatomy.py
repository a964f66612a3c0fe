"""Generate the anatomy of a tissue: a basic plan of domains, and motifs on top of it.

Domains are assigned to candidate positions of cells: a jittered hexagonal lattice with the spacing of the densest
domain, of which less dense domains use a fraction. A motif is a signed distance (negative inside) with thresholds.

Shape legend: n positions, D domains.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from napari_srast.simulation.tissues.fields import SmoothFields, log_uniform

__all__ = ["MOTIFS", "PLANS", "Canvas"]


class Canvas:
    """Candidate positions of cells, with the domains that have been painted so far.

    Parameters
    ----------
    positions
        Candidate positions (x, y) of cells in micrometers, shape (n, 2).
    span_um
        Side of the field of view in micrometers.
    spacing_um
        Distance between neighboring positions in micrometers.

    Attributes
    ----------
    domain
        Domain of each position, shape (n,).
    density
        Probability of a cell at each position, shape (n,).
    walls
        Whether each domain is a sheet of one cell type (epithelium, endothelium).
    coordinates
        Smooth functions of the position, shape (n,), that gene programs may follow, such as depth in the layers or
        distance from a vessel.
    """

    def __init__(self, positions: np.ndarray, span_um: float, spacing_um: float):
        self.positions = positions
        self.span_um = span_um
        self.spacing_um = spacing_um
        self.domain = np.zeros(len(positions), dtype=np.int64)
        self.density = np.ones(len(positions))
        self.walls: list[bool] = []
        self.coordinates: list[np.ndarray] = []

    def paint(self, where: np.ndarray, density: float, *, wall: bool = False) -> None:
        """Assign the positions of a mask (n,) to a new domain."""
        self.domain[where] = len(self.walls)
        self.density[where] = density
        self.walls.append(wall)

    def clear(self, where: np.ndarray) -> None:
        """Remove all cells at the positions of a mask (n,)."""
        self.density[where] = 0.0


def _territories(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Return the index of the largest of several random fields; finer fields roughen the borders."""
    n_domains = int(rng.integers(2, 8))
    length = canvas.span_um * log_uniform(rng, 0.07, 0.4)
    height = SmoothFields(rng, np.full(n_domains, length))(canvas.positions) + rng.normal(0, 0.5, n_domains)
    roughness = SmoothFields(rng, np.full(n_domains, max(length / 6, 2 * canvas.spacing_um)))(canvas.positions)
    return np.argmax(height + rng.uniform(0, 0.4) * roughness, axis=1)


def _voronoi(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Return labels of the nearest random seed after a smooth warp."""
    n_seeds = round(log_uniform(rng, 6, 80))
    warp = SmoothFields(rng, np.full(2, canvas.span_um * rng.uniform(0.05, 0.2)))(canvas.positions)
    warped = canvas.positions + canvas.span_um * rng.uniform(0.005, 0.05) * warp
    nearest = cKDTree(rng.uniform(0, canvas.span_um, (n_seeds, 2))).query(warped)[1]
    return rng.integers(0, rng.integers(2, 8), n_seeds)[nearest]


def _layers(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Return layers below a bent surface or around a center, as in cortex, olfactory bulb, skin and embryo."""
    angle = rng.uniform(0, 2 * np.pi)
    bend = SmoothFields(rng, np.array([canvas.span_um * rng.uniform(0.25, 0.8)]))(canvas.positions)[:, 0]
    if rng.random() < 0.4:
        center = canvas.span_um * rng.uniform(-0.2, 0.7, 2)
        depth = np.hypot(*(canvas.positions - center).T)
    else:
        depth = canvas.positions @ np.array([np.cos(angle), np.sin(angle)])
    depth = depth + canvas.span_um * rng.uniform(0.01, 0.09) * bend
    canvas.coordinates.append(_standardized(depth))
    blurred = depth + canvas.span_um * rng.uniform(0, 0.02) * rng.standard_normal(len(depth))
    thickness = rng.dirichlet(np.full(rng.integers(3, 9), 2.5))
    cuts = np.ptp(depth) * np.cumsum(thickness)[:-1] + depth.min()
    return np.searchsorted(cuts, blurred)


def _mosaic(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Return one domain: a mix of cells without pattern, as in many nuclei of the brain."""
    return np.zeros(len(canvas.positions), dtype=np.int64)


def _outer_inner(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Combine two plans side by side."""
    first, second = (_PARTS[i](canvas, rng) for i in rng.choice(len(_PARTS), 2))
    side = SmoothFields(rng, np.array([canvas.span_um * 0.4]))(canvas.positions)[:, 0]
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
    """Add rings of epithelium around a lumen, some with a thin outer sheath."""
    radius = log_uniform(rng, 3.5, 8) * canvas.spacing_um
    distance, _ = _bodies(canvas, rng, radius, share=rng.uniform(0.2, 0.9))
    wall = rng.uniform(1.2, 2.2) * canvas.spacing_um
    if rng.random() < 0.5:
        canvas.paint((distance < rng.uniform(0.9, 1.5) * canvas.spacing_um) & (distance >= 0), 0.9, wall=True)
    canvas.paint((distance < 0) & (distance > -wall), 1.0, wall=True)
    canvas.clear(distance <= -wall)


def _tubules(canvas: Canvas, rng: np.random.Generator) -> None:
    """Add winding tubes with wall and lumen: a level set of a random field."""
    distance = _level_set(canvas, rng, log_uniform(rng, 4, 9) * canvas.spacing_um, rng.uniform(0.3, 1.0))
    wall = rng.uniform(1.0, 2.0) * canvas.spacing_um
    canvas.paint((distance < 0) & (distance > -wall), 1.0, wall=True)
    canvas.clear(distance <= -wall)


def _nests(canvas: Canvas, rng: np.random.Generator) -> None:
    """Add round aggregates, some with a different core: follicles, islets, tumor nests."""
    radius = log_uniform(rng, 5, 18) * canvas.spacing_um
    distance, reach = _bodies(canvas, rng, radius, share=rng.uniform(0.1, 0.6))
    canvas.paint(distance < 0, rng.uniform(0.7, 1.0))
    canvas.coordinates.append(np.exp(-np.maximum(distance, 0) / (0.5 * radius)))
    if rng.random() < 0.5:
        canvas.paint(distance < -rng.uniform(0.35, 0.6) * reach, rng.uniform(0.6, 1.0))


def _vessels(canvas: Canvas, rng: np.random.Generator) -> None:
    """Add curved vessels with a wall, and a gradient around them."""
    distance = np.full(len(canvas.positions), np.inf)
    for _ in range(rng.integers(1, 7)):
        path = _curve(canvas, rng, length=canvas.span_um * rng.uniform(0.03, 1.0))
        radius = log_uniform(rng, 0.8, 4) * canvas.spacing_um
        distance = np.minimum(distance, cKDTree(path).query(canvas.positions)[0] - radius)
    canvas.paint((distance > 0) & (distance < rng.uniform(0.9, 2.0) * canvas.spacing_um), 1.0, wall=True)
    canvas.clear(distance <= 0)
    canvas.coordinates.append(np.exp(-np.maximum(distance, 0) / (log_uniform(rng, 3, 12) * canvas.spacing_um)))


def _strands(canvas: Canvas, rng: np.random.Generator) -> None:
    """Add fibrous bands: level sets of a stretched field."""
    field = SmoothFields(
        rng,
        np.array([log_uniform(rng, 3, 8) * canvas.spacing_um]),
        stretch=rng.uniform(3, 8),
        angle=rng.uniform(0, np.pi),
    )
    canvas.paint(field(canvas.positions)[:, 0] > rng.uniform(0.5, 1.3), rng.uniform(0.25, 0.8))


def _fat(canvas: Canvas, rng: np.random.Generator) -> None:
    """Remove cells from adjacent round vacuoles, so that cells remain at their rims only."""
    distance, _ = _bodies(canvas, rng, log_uniform(rng, 2.5, 5) * canvas.spacing_um, share=rng.uniform(0.1, 0.5))
    canvas.clear(distance < -0.5 * canvas.spacing_um)


def _tears(canvas: Canvas, rng: np.random.Generator) -> None:
    """Remove cells along cracks."""
    for _ in range(rng.integers(1, 4)):
        path = _curve(canvas, rng, length=canvas.span_um * rng.uniform(0.2, 0.8))
        canvas.clear(cKDTree(path).query(canvas.positions)[0] < rng.uniform(0.6, 4) * canvas.spacing_um)


def _holes(canvas: Canvas, rng: np.random.Generator) -> None:
    """Remove cells from a few large holes."""
    length = canvas.span_um * rng.uniform(0.1, 0.2)
    canvas.clear(_level_set(canvas, rng, length, rng.uniform(1.3, 1.8)) < 0)


def _outline(canvas: Canvas, rng: np.random.Generator) -> None:
    """Remove cells outside a round, wavy outline of the tissue."""
    centered = canvas.positions / canvas.span_um - rng.uniform(0.4, 0.6, 2)
    wave = SmoothFields(rng, np.array([canvas.span_um * rng.uniform(0.08, 0.3)]))(canvas.positions)[:, 0]
    canvas.clear(np.hypot(*centered.T) + 0.03 * wave > rng.uniform(0.4, 0.55))


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
    """Generate irregular ellipses with little overlap; return signed distance and radius of the nearest one (n,)."""
    n_candidates = max(int(3 * (canvas.span_um / (2 * radius)) ** 2), 4)
    centers = rng.uniform(0, canvas.span_um, (n_candidates, 2))
    accepted = np.ones(n_candidates, dtype=bool)
    for first, second in cKDTree(centers).query_pairs(2.3 * radius, output_type="ndarray"):
        if accepted[first]:
            accepted[second] = False
    centers = centers[accepted]
    # Bodies occur in groups, where a random field has its highest values.
    field = SmoothFields(rng, np.array([canvas.span_um * 0.3]))(centers)[:, 0]
    centers = centers[field >= np.quantile(field, 1 - share)]
    reach = radius * rng.uniform(0.65, 1.1, len(centers))
    ratio = np.exp(rng.uniform(-0.3, 0.3, len(centers)))
    angle, phase = rng.uniform(0, 2 * np.pi, (2, len(centers)))
    best, size = np.full(len(canvas.positions), np.inf), np.full(len(canvas.positions), radius)
    _, nearest = cKDTree(centers).query(canvas.positions, k=min(3, len(centers)))
    for body in nearest.reshape(len(canvas.positions), -1).T:
        dx, dy = (canvas.positions - centers[body]).T
        cos, sin = np.cos(angle[body]), np.sin(angle[body])
        x, y = (dx * cos + dy * sin) * ratio[body], (dy * cos - dx * sin) / ratio[body]
        wobble = 1 + 0.08 * np.cos(3 * np.arctan2(y, x) + phase[body])
        distance = np.hypot(x, y) / wobble - reach[body]
        closer = distance < best
        best, size = np.where(closer, distance, best), np.where(closer, reach[body], size)
    return best, size


def _level_set(canvas: Canvas, rng: np.random.Generator, length: float, level: float) -> np.ndarray:
    """Return the signed distance (n,) from a level set of a random field, to first order."""
    field = SmoothFields(rng, np.array([length]))
    slope = np.linalg.norm(field.gradient(canvas.positions)[:, 0], axis=1)
    return (level - field(canvas.positions)[:, 0]) / np.maximum(slope, 0.2 / length)


def _curve(canvas: Canvas, rng: np.random.Generator, length: float) -> np.ndarray:
    """Return closely spaced points of a smooth random path."""
    step = 0.5 * canvas.spacing_um
    n_steps = max(int(length / step), 2)
    kernel = np.hanning(41)
    turning = np.convolve(rng.standard_normal(n_steps + 40), kernel / np.linalg.norm(kernel), mode="valid")
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.uniform(0.005, 0.03) * turning)
    start = rng.uniform(0, canvas.span_um, 2)
    return start + step * np.cumsum(np.column_stack([np.cos(heading), np.sin(heading)]), axis=0)


def _standardized(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)
