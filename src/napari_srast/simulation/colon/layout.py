"""Generate the zones and cells of a section through the wall of a colon.

From the lumen down: surface epithelium, a mucosa of crypts in an infiltrated stroma, a thin muscle, a submucosa with
vessels and a lymphoid follicle, and a thick muscle. Lengths are in micrometers; y points down.

Shape legend: C cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from PIL import Image
from scipy.spatial import cKDTree

__all__ = ["CELL_TYPES", "PIXEL_UM", "SIZE_UM", "CellType", "Tissue", "Zone", "generate_tissue", "smooth_noise"]

SIZE_UM = (2700.0, 2500.0)
"""Width and height of the section."""
PIXEL_UM = 1.35
"""Side of a pixel of the zone map and of the histology."""
_EPITHELIUM_UM = 26.0  # height of the epithelium of crypts and surface


class Zone(IntEnum):
    """Kind of tissue."""

    BACKGROUND = 0
    SURFACE = 1
    LAMINA = 2
    CRYPT = 3
    LUMEN = 4
    THIN_MUSCLE = 5
    SUBMUCOSA = 6
    FOLLICLE = 7
    VESSEL_WALL = 8
    BLOOD = 9
    MUSCLE = 10


class CellType(IntEnum):
    """Type of a cell."""

    ENTEROCYTE = 0
    CRYPT_CELL = 1
    GOBLET = 2
    FIBROBLAST = 3
    SMOOTH_MUSCLE = 4
    ENDOTHELIAL = 5
    T_CELL = 6
    B_CELL = 7
    PLASMA = 8
    MACROPHAGE = 9


CELL_TYPES = tuple(t.name.lower() for t in CellType)

# Semi-axes of the nuclei in micrometers.
_NUCLEUS = {
    CellType.ENTEROCYTE: (5.4, 3.0),
    CellType.CRYPT_CELL: (5.2, 3.1),
    CellType.GOBLET: (3.8, 2.7),
    CellType.FIBROBLAST: (6.6, 2.0),
    CellType.SMOOTH_MUSCLE: (8.6, 1.8),
    CellType.ENDOTHELIAL: (5.6, 1.9),
    CellType.T_CELL: (3.2, 3.0),
    CellType.B_CELL: (3.4, 3.2),
    CellType.PLASMA: (3.7, 3.3),
    CellType.MACROPHAGE: (4.6, 3.5),
}
# Distance between cells in micrometers, and fractions of the types, in each zone.
_SCATTER: dict[Zone, tuple[float, dict[CellType, float]]] = {
    Zone.LAMINA: (
        14.5,
        {
            CellType.FIBROBLAST: 0.34,
            CellType.PLASMA: 0.24,
            CellType.T_CELL: 0.2,
            CellType.MACROPHAGE: 0.12,
            CellType.ENDOTHELIAL: 0.1,
        },
    ),
    Zone.THIN_MUSCLE: (15.0, {CellType.SMOOTH_MUSCLE: 0.95, CellType.FIBROBLAST: 0.05}),
    Zone.SUBMUCOSA: (
        25.0,
        {
            CellType.FIBROBLAST: 0.72,
            CellType.ENDOTHELIAL: 0.1,
            CellType.MACROPHAGE: 0.1,
            CellType.T_CELL: 0.05,
            CellType.PLASMA: 0.03,
        },
    ),
    Zone.FOLLICLE: (8.8, {CellType.B_CELL: 0.8, CellType.T_CELL: 0.16, CellType.MACROPHAGE: 0.04}),
    Zone.VESSEL_WALL: (11.0, {CellType.SMOOTH_MUSCLE: 0.9, CellType.FIBROBLAST: 0.1}),
    Zone.MUSCLE: (17.5, {CellType.SMOOTH_MUSCLE: 0.93, CellType.FIBROBLAST: 0.05, CellType.ENDOTHELIAL: 0.02}),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Tissue:
    """Zones and cells of a section.

    Parameters
    ----------
    zones
        :class:`Zone` of each image pixel, shape (rows, columns).
    depth
        Micrometers below the surface, same shape.
    flow
        Direction of the fibers in radians, same shape.
    cells
        Centers (x, y) of the nuclei in micrometers, shape (C, 2).
    types
        :class:`CellType` of each cell, shape (C,).
    angles, axes
        Direction of each nucleus in radians, shape (C,), and its semi-axes, shape (C, 2).
    heights
        For cells of crypts and surface: 0 at the bottom of the crypt, 1 at the surface; 0 elsewhere. Shape (C,).
    """

    zones: np.ndarray
    depth: np.ndarray
    flow: np.ndarray
    cells: np.ndarray
    types: np.ndarray
    angles: np.ndarray
    axes: np.ndarray
    heights: np.ndarray


@dataclass(frozen=True)
class _Crypt:
    """Side view of a tube: all points within ``radius`` of a line segment."""

    x: float
    y: float
    half_length: float
    angle: float
    radius: float

    @property
    def direction(self) -> np.ndarray:
        return np.array([np.cos(self.angle), np.sin(self.angle)])

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the distance of points from the line segment."""
        dx, dy = x - self.x, y - self.y
        along = np.clip(dx * self.direction[0] + dy * self.direction[1], -self.half_length, self.half_length)
        return np.hypot(dx - along * self.direction[0], dy - along * self.direction[1])


def generate_tissue(rng: np.random.Generator) -> Tissue:
    """Generate a section: the zones first, and then their cells.

    Parameters
    ----------
    rng
        Random generator.
    """
    width, height = SIZE_UM
    shape = (round(height / PIXEL_UM), round(width / PIXEL_UM))
    y, x = ((np.indices(shape, dtype=np.float32) + 0.5) * PIXEL_UM).astype(np.float32)
    zones, depth = _layers(rng, x, y)
    crypts = _place_crypts(rng, zones)
    wobble = 5 * smooth_noise(rng, shape, 28)
    for crypt in crypts:
        window = _window(crypt.x, crypt.y, crypt.half_length + crypt.radius + 20, shape)
        near = crypt.distance(x[window], y[window]) + wobble[window]
        zones[window][near < crypt.radius] = Zone.CRYPT
        zones[window][near < crypt.radius - _EPITHELIUM_UM] = Zone.LUMEN
    vessels = ((1830.0, 1330.0, 92.0, 66.0, 0.3), (760.0, 1480.0, 55.0, 48.0, -0.5), (2260.0, 1220.0, 40.0, 30.0, 1.0))
    for cx, cy, a, b, angle in vessels:
        radius = _ellipse(x, y, cx, cy, a, b, angle)
        zones[radius < 1.42] = Zone.VESSEL_WALL
        zones[radius < 1.0] = Zone.BLOOD
    # Fibers follow the layers, and swirl in the submucosa.
    swirl = smooth_noise(rng, shape, 90)
    flow = 0.18 * smooth_noise(rng, shape, 160) + np.where(zones == Zone.SUBMUCOSA, 0.9, 0.06) * swirl
    flow[zones == Zone.LAMINA] += np.float32(np.pi / 2)
    return _place_cells(rng, zones, depth, flow.astype(np.float32), crypts, vessels)


def _layers(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the layers of the wall as zones, and the depth below the surface in micrometers."""
    shape = x.shape
    waves = smooth_noise(rng, (1, shape[1]), 130)
    folds = 38 * np.sin(2 * np.pi * x[:1] / 760 + 0.6) + 26 * waves
    depth = y - (270 + folds)
    low = 12 * smooth_noise(rng, shape, 120)
    zones = np.full(shape, Zone.BACKGROUND, dtype=np.uint8)
    for start, zone in (
        (0, Zone.SURFACE),
        (_EPITHELIUM_UM, Zone.LAMINA),
        (840, Zone.THIN_MUSCLE),
        (900, Zone.SUBMUCOSA),
        (1390, Zone.MUSCLE),
    ):
        zones[depth + (low if start > 100 else 0) >= start] = zone
    follicle = _ellipse(x, y, 1290, 1190, 235, 190, 0.15) + 0.05 * smooth_noise(rng, shape, 45)
    zones[follicle < 1] = Zone.FOLLICLE
    edge = 40 * smooth_noise(rng, (shape[0], 1), 190)
    frayed = 5 * smooth_noise(rng, shape, 20)
    outside = (x < 105 + edge + frayed) | (x > SIZE_UM[0] - 120 + np.roll(edge, 333, axis=0) + frayed)
    bottom = SIZE_UM[1] - 110 + 35 * smooth_noise(rng, (1, shape[1]), 140)
    zones[outside | (y > bottom + frayed)] = Zone.BACKGROUND
    return zones, depth.astype(np.float32)


def _place_crypts(rng: np.random.Generator, zones: np.ndarray) -> list[_Crypt]:
    """Draw random crypts in the mucosa, and accept those that overlap with nothing."""
    stride = 4
    step = stride * PIXEL_UM
    coarse = zones[::stride, ::stride]
    free = coarse == Zone.LAMINA
    crypts: list[_Crypt] = []
    for half_length, tries in ((165.0, 900), (100.0, 1200), (45.0, 1500), (0.0, 2000)):
        for _ in range(tries):
            crypt = _Crypt(
                x=rng.uniform(120, SIZE_UM[0] - 120),
                y=rng.uniform(300, 1180),
                half_length=half_length * rng.uniform(0.7, 1.15),
                angle=np.pi / 2 + rng.normal(0, 0.13),
                radius=rng.uniform(36, 48),
            )
            reach = crypt.half_length + crypt.radius + 30
            rows = slice(max(int((crypt.y - reach) / step), 0), int((crypt.y + reach) / step) + 1)
            cols = slice(max(int((crypt.x - reach) / step), 0), int((crypt.x + reach) / step) + 1)
            patch = free[rows, cols]
            py, px = np.indices(patch.shape)
            near = crypt.distance((px + cols.start + 0.5) * step, (py + rows.start + 0.5) * step)
            if patch[near < crypt.radius + 11].all():
                patch[near < crypt.radius + 5] = False
                crypts.append(crypt)
    return crypts


def _place_cells(
    rng: np.random.Generator,
    zones: np.ndarray,
    depth: np.ndarray,
    flow: np.ndarray,
    crypts: list[_Crypt],
    vessels: tuple[tuple[float, ...], ...],
) -> Tissue:
    """Place the cells, first along epithelia and vessels and then between them, without overlap."""
    lined = [_line_surface(rng, depth)]
    lined += [_line_crypt(rng, crypt, depth, zones) for crypt in crypts]
    lined += [_line_vessel(rng, *vessel) for vessel in vessels]
    # Columns: x, y, type, angle, height.
    rows = np.concatenate([*lined, *(_scatter(rng, zones, flow, zone) for zone in _SCATTER)])
    rows = rows[zones[_pixel(rows[:, :2], zones.shape)] != Zone.BACKGROUND]
    crowded = np.zeros(len(rows), dtype=bool)
    for first, second in cKDTree(rows[:, :2]).query_pairs(5.2, output_type="ndarray"):
        if not crowded[first]:
            crowded[second] = True
    rows = rows[~crowded]
    types = rows[:, 2].astype(np.int64)
    axes = np.array([_NUCLEUS[t] for t in CellType])[types]
    axes = axes * rng.lognormal(0, 0.1, size=axes.shape)
    return Tissue(
        zones=zones,
        depth=depth,
        flow=flow,
        cells=rows[:, :2],
        types=types,
        angles=rows[:, 3],
        axes=axes,
        heights=rows[:, 4],
    )


def _line_surface(rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    """Return the cells of the surface epithelium."""
    x = np.arange(60, SIZE_UM[0] - 60, 7.2)
    top = -depth[0, (x / PIXEL_UM).astype(int)] + PIXEL_UM / 2  # depth grows by one per micrometer downwards
    slope = np.gradient(top, x)
    points = np.column_stack([x + rng.normal(0, 0.7, len(x)), top + 16 + rng.normal(0, 1.6, len(x))])
    types = np.where(rng.random(len(x)) < 0.12, CellType.GOBLET, CellType.ENTEROCYTE)
    return np.column_stack([points, types, np.arctan(slope) + np.pi / 2, np.ones(len(x))])


def _line_crypt(rng: np.random.Generator, crypt: _Crypt, depth: np.ndarray, zones: np.ndarray) -> np.ndarray:
    """Return the cells of a crypt, whose nuclei are near its outer border."""
    ring = crypt.radius - 9.5
    length = 4 * crypt.half_length + 2 * np.pi * ring
    n_cells = int(length / 7.4)
    s = (np.arange(n_cells) + rng.uniform(0, 1) + rng.normal(0, 0.12, n_cells)) / n_cells * length % length
    straight, arc = 2 * crypt.half_length, np.pi * ring
    edges = np.cumsum([straight, arc, straight])
    side = np.searchsorted(edges, s, side="right")
    turn = np.select(
        [side == 0, side == 1, side == 2],
        [np.pi / 2, np.pi / 2 - (s - edges[0]) / ring, -np.pi / 2],
        default=-np.pi / 2 - (s - edges[2]) / ring,
    )
    along = np.select(
        [side == 0, side == 1, side == 2],
        [s - crypt.half_length, crypt.half_length, crypt.half_length - (s - edges[1])],
        default=-crypt.half_length,
    )
    angle = crypt.angle + turn
    offset = ring + rng.normal(0, 1.5, n_cells)
    points = (
        np.array([crypt.x, crypt.y])
        + along[:, None] * crypt.direction
        + offset[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    )
    height = np.clip(1 - depth[_pixel(points, depth.shape)] / 840, 0, 1)
    types = np.where(rng.random(n_cells) < 0.16 + 0.22 * height, CellType.GOBLET, CellType.CRYPT_CELL)
    rows = np.column_stack([points, types, angle, height])
    return rows[zones[_pixel(points, zones.shape)] == Zone.CRYPT]


def _line_vessel(rng: np.random.Generator, cx: float, cy: float, a: float, b: float, angle: float) -> np.ndarray:
    """Return the endothelial cells of a vessel, which is an ellipse."""
    n_cells = int(np.pi * (a + b) / 13)
    turn = 2 * np.pi * (np.arange(n_cells) + rng.uniform(-0.2, 0.2, n_cells)) / n_cells
    local = np.column_stack([1.04 * a * np.cos(turn), 1.04 * b * np.sin(turn)])
    along = np.arctan2(b * np.cos(turn), -a * np.sin(turn)) + angle
    cos, sin = np.cos(angle), np.sin(angle)
    points = local @ np.array([[cos, sin], [-sin, cos]]) + [cx, cy]
    return np.column_stack([points, np.full(n_cells, CellType.ENDOTHELIAL), along, np.zeros(n_cells)])


def _scatter(rng: np.random.Generator, zones: np.ndarray, flow: np.ndarray, zone: Zone) -> np.ndarray:
    """Return the cells of a zone, on a jittered hexagonal lattice."""
    spacing, shares = _SCATTER[zone]
    y, x = np.mgrid[0 : SIZE_UM[1] : spacing * np.sqrt(3) / 2, 0 : SIZE_UM[0] : spacing]
    x = x + spacing / 2 * (np.arange(len(x)) % 2)[:, None]
    points = np.column_stack([x.ravel(), y.ravel()]) + rng.normal(0, 0.24 * spacing, size=(x.size, 2))
    points = points[((points > 0) & (points < SIZE_UM)).all(axis=1)]
    pixel = _pixel(points, zones.shape)
    inside = zones[pixel] == zone
    points, pixel = points[inside], (pixel[0][inside], pixel[1][inside])
    # Types vary smoothly over the zone: noise that raises the chance of one type lowers that of the others.
    chances = np.tile(list(shares.values()), (len(points), 1))
    for column in range(1, chances.shape[1]):
        chances[:, column] *= np.exp(0.9 * smooth_noise(rng, zones.shape, 170)[pixel])
    chances /= chances.sum(axis=1, keepdims=True)
    pick = (rng.random(len(points))[:, None] > chances.cumsum(axis=1)).sum(axis=1).clip(max=chances.shape[1] - 1)
    types = np.array([int(t) for t in shares])[pick]
    round_cells = np.isin(types, [CellType.T_CELL, CellType.B_CELL, CellType.PLASMA, CellType.MACROPHAGE])
    angles = np.where(round_cells, rng.uniform(0, np.pi, len(points)), flow[pixel] + rng.normal(0, 0.28, len(points)))
    return np.column_stack([points, types, angles, np.zeros(len(points))])


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale_um: float) -> np.ndarray:
    """Return smooth noise of unit variance, float32.

    Parameters
    ----------
    rng
        Random generator.
    shape
        Number of rows and columns, in image pixels.
    scale_um
        Approximate length over which the noise varies, in micrometers.
    """
    step = max(scale_um / PIXEL_UM, 1.0)
    rows, cols = (max(int(np.ceil(n / step)) + 3, 4) for n in shape)
    coarse = Image.fromarray(rng.standard_normal((rows, cols), dtype=np.float32))
    box = (1, 1, 1 + shape[1] / step, 1 + shape[0] / step)
    fine = np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box))
    return np.asarray(fine / 0.72, dtype=np.float32)  # interpolation reduces the standard deviation to this


def _ellipse(x: np.ndarray, y: np.ndarray, cx: float, cy: float, a: float, b: float, angle: float) -> np.ndarray:
    """Return the distance from the center of an ellipse, in units of its radius in that direction."""
    dx, dy = x - cx, y - cy
    cos, sin = np.cos(angle), np.sin(angle)
    return np.hypot((dx * cos + dy * sin) / a, (dy * cos - dx * sin) / b)


def _window(x: float, y: float, reach: float, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return rows and columns of the pixels within ``reach`` of a point."""
    low_x, low_y = (max(int((v - reach) / PIXEL_UM), 0) for v in (x, y))
    return slice(low_y, min(int((y + reach) / PIXEL_UM) + 1, shape[0])), slice(
        low_x, min(int((x + reach) / PIXEL_UM) + 1, shape[1])
    )


def _pixel(points: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the pixel of each point."""
    cols, rows = (points / PIXEL_UM).astype(int).T
    return rows.clip(0, shape[0] - 1), cols.clip(0, shape[1] - 1)
