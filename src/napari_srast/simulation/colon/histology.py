"""Render a hematoxylin and eosin image: stain concentrations of zones and cells, and colors by the Beer-Lambert law.

The optical density of hematoxylin in red, green and blue is that of Ruifrok and Johnston (2001), as is common in color
deconvolution; that of eosin is slightly warmer, like in the images of many scanners.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from napari_srast.simulation.colon.layout import PIXEL_UM, CellType, Tissue, Zone, smooth_noise

__all__ = ["render_histology"]

_HEMATOXYLIN = np.array([0.65, 0.70, 0.29])
_EOSIN = np.array([0.09, 0.95, 0.27])
_BLOOD = np.array([0.06, 0.75, 0.55])
_OVERSAMPLE = 2

# Concentration of hematoxylin and eosin in each zone, outside nuclei.
_STAIN = {
    Zone.BACKGROUND: (0.0, 0.0),
    Zone.SURFACE: (0.20, 0.34),
    Zone.LAMINA: (0.07, 0.25),
    Zone.CRYPT: (0.19, 0.27),
    Zone.LUMEN: (0.02, 0.02),
    Zone.THIN_MUSCLE: (0.05, 0.46),
    Zone.SUBMUCOSA: (0.02, 0.24),
    Zone.FOLLICLE: (0.19, 0.15),
    Zone.VESSEL_WALL: (0.05, 0.46),
    Zone.BLOOD: (0.0, 0.02),
    Zone.MUSCLE: (0.05, 0.47),
}
# Concentration of hematoxylin in the nuclei.
_CHROMATIN = {
    CellType.ENTEROCYTE: 0.62,
    CellType.CRYPT_CELL: 0.70,
    CellType.GOBLET: 0.66,
    CellType.FIBROBLAST: 0.60,
    CellType.SMOOTH_MUSCLE: 0.52,
    CellType.ENDOTHELIAL: 0.66,
    CellType.T_CELL: 0.98,
    CellType.B_CELL: 0.84,
    CellType.PLASMA: 0.86,
    CellType.MACROPHAGE: 0.52,
}


def render_histology(tissue: Tissue, rng: np.random.Generator) -> np.ndarray:
    """Render the stained section: uint8 RGB, shape (3, rows, columns).

    Parameters
    ----------
    tissue
        Zones and cells.
    rng
        Random generator.
    """
    shape = tissue.zones.shape
    lookup = np.array([_STAIN[zone] for zone in Zone], dtype=np.float32)[tissue.zones]
    # Stains diffuse slightly across the borders of the zones.
    hematoxylin, eosin = (ndimage.gaussian_filter(lookup[..., i], 0.9) for i in range(2))
    hematoxylin *= 1 + 0.25 * smooth_noise(rng, shape, 4)
    eosin *= 1 + 0.10 * smooth_noise(rng, shape, 60) + 0.12 * smooth_noise(rng, shape, 3)
    eosin *= _fiber_texture(tissue, rng)
    _draw_clefts(tissue, rng, hematoxylin, eosin)
    vacuoles, nuclei = _draw_cells(tissue, rng)
    eosin *= 1 - 0.85 * vacuoles
    hematoxylin *= 1 - 0.55 * vacuoles
    chromatin = nuclei * (1 + 0.16 * smooth_noise(rng, shape, 2.5))
    hematoxylin = np.maximum(hematoxylin * (1 - 0.5 * nuclei), 0) + chromatin
    eosin *= 1 - 0.35 * nuclei
    blood = _erythrocytes(tissue, rng)
    thickness = 1 + 0.07 * smooth_noise(rng, shape, 220)
    light = np.array([0.957, 0.953, 0.965], dtype=np.float32)  # color of the empty slide
    noise = rng.standard_normal(shape, dtype=np.float32) * 0.006
    channels = []
    for channel in range(3):
        density = (_HEMATOXYLIN[channel] * hematoxylin + _EOSIN[channel] * eosin + _BLOOD[channel] * blood) * thickness
        bright = light[channel] * np.exp(-1.45 * np.clip(density, 0, None), dtype=np.float32)
        bright = ndimage.gaussian_filter(bright, 0.55) + noise
        channels.append(np.clip(255 * bright, 0, 255).astype(np.uint8))
    return np.stack(channels)


def _fiber_texture(tissue: Tissue, rng: np.random.Generator) -> np.ndarray:
    """Return noise that is averaged along the direction of the fibers, as a factor of the concentration."""
    shape = tissue.zones.shape
    rows, cols = np.indices(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.1)
    step_x, step_y = np.cos(tissue.flow), np.sin(tissue.flow)
    smeared = np.zeros(shape, dtype=np.float32)
    for k in range(-14, 15, 3):
        r = np.clip(rows + k * step_y, 0, shape[0] - 1).astype(np.int32)
        c = np.clip(cols + k * step_x, 0, shape[1] - 1).astype(np.int32)
        smeared += noise[r, c]
    smeared /= smeared.std()
    strength = np.zeros(len(Zone), dtype=np.float32)
    strength[[Zone.LAMINA, Zone.SUBMUCOSA]] = 0.26, 0.42
    strength[[Zone.THIN_MUSCLE, Zone.MUSCLE, Zone.VESSEL_WALL]] = 0.2, 0.2, 0.24
    return np.clip(1 + strength[tissue.zones] * smeared, 0.15, 2.2)


def _draw_clefts(tissue: Tissue, rng: np.random.Generator, hematoxylin: np.ndarray, eosin: np.ndarray) -> None:
    """Draw the white gaps of fixed loose tissue and muscle bundles, in place."""
    shape = tissue.zones.shape
    loose = smooth_noise(rng, shape, 17) + 0.6 * smooth_noise(rng, shape, 7)
    bundles = np.abs(smooth_noise(rng, (shape[0], max(shape[1] // 7, 8)), 22))
    stretched = np.asarray(Image.fromarray(bundles).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
    gap = np.zeros(shape, dtype=np.float32)
    for zone, field, threshold, softness in (
        (Zone.SUBMUCOSA, loose, 1.0, 0.22),
        (Zone.LAMINA, loose, 1.75, 0.25),
        (Zone.MUSCLE, 0.055 - stretched, 0.0, 0.03),
    ):
        in_zone = tissue.zones == zone
        gap[in_zone] = 1 / (1 + np.exp(-np.clip((field[in_zone] - threshold) / softness, -30, 30)))
    eosin *= 1 - 0.93 * gap
    hematoxylin *= 1 - 0.9 * gap


def _draw_cells(tissue: Tissue, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the mucus of the goblet cells, and all nuclei, as two maps of concentration."""
    rows, cols = tissue.zones.shape
    size = (cols * _OVERSAMPLE, rows * _OVERSAMPLE)
    scale = _OVERSAMPLE / PIXEL_UM
    mucus, nuclei = Image.new("L", size), Image.new("L", size)
    mucus_pen, nuclei_pen = ImageDraw.Draw(mucus), ImageDraw.Draw(nuclei)
    turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    circle = np.column_stack([np.cos(turn), np.sin(turn)])
    darkness = np.array([_CHROMATIN[t] for t in CellType])[tissue.types]
    darkness = np.clip(200 * darkness * rng.lognormal(0, 0.12, len(darkness)), 30, 255).astype(int)
    cos, sin = np.cos(tissue.angles), np.sin(tissue.angles)
    for i in range(len(tissue.cells)):
        rotation = np.array([[cos[i], sin[i]], [-sin[i], cos[i]]])
        outline = circle * tissue.axes[i] * (1 + rng.normal(0, 0.05, (len(circle), 1)))
        points = (outline @ rotation + tissue.cells[i]) * scale
        nuclei_pen.polygon([tuple(p) for p in points], fill=int(darkness[i]))
        if tissue.types[i] == CellType.GOBLET:
            inward = tissue.cells[i] - 11.5 * np.array([cos[i], sin[i]])
            drop = circle * [7.2, 4.9] @ rotation + inward
            mucus_pen.polygon([tuple(p) for p in drop * scale], fill=220)
    small = (cols, rows)
    maps = [np.asarray(m.resize(small, Image.Resampling.BOX), dtype=np.float32) for m in (mucus, nuclei)]
    return ndimage.gaussian_filter(maps[0], 0.7) / 255, ndimage.gaussian_filter(maps[1], 0.5) / 200


def _erythrocytes(tissue: Tissue, rng: np.random.Generator) -> np.ndarray:
    """Draw erythrocytes in a part of the vessels, as a map of concentration."""
    rows, cols = tissue.zones.shape
    image = Image.new("L", (cols, rows))
    pen = ImageDraw.Draw(image)
    inside = np.argwhere(ndimage.binary_erosion(tissue.zones == Zone.BLOOD, iterations=3))
    if len(inside):
        drift = smooth_noise(rng, tissue.zones.shape, 45)[inside[:, 0], inside[:, 1]]
        inside = inside[drift > -0.4]
        for row, col in inside[rng.permutation(len(inside))[: len(inside) // 28]]:
            radius = rng.uniform(2.3, 3.0)
            pen.ellipse([col - radius, row - radius, col + radius, row + radius], fill=int(rng.uniform(90, 150)))
    return ndimage.gaussian_filter(np.asarray(image, dtype=np.float32), 0.7) / 200
