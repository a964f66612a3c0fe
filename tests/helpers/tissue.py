"""Make a synthetic tissue whose image shows the distribution of counts at a finer resolution than the spots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, sparse

from napari_srast.api import upsample
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide, SlideImage
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

PITCH, SIDE, PIXELS = 100.0, 14, 24  # units of length, spots along a side, image pixels per pitch


@dataclass(frozen=True, kw_only=True, eq=False)
class Tissue:
    """Hold spots, their counts, the true counts of pixels, and the cell density in image pixels."""

    counts: sparse.csr_matrix
    centers: np.ndarray
    truth: np.ndarray
    layout: SpotPixelMap
    density: np.ndarray

    def slide(self, image: SlideImage | None = None) -> Slide:
        """Return the slide of the tissue, with square spots that cover it."""
        return Slide(
            counts=self.counts,
            genes=np.array([f"Gene{i}" for i in range(6)]),
            spot_ids=np.arange(len(self.centers)).astype(str),
            centers=self.centers,
            spot_diameter=PITCH,
            spot_shape="square",
            image=image,
        )

    def upsample(self, image: SlideImage | None = None, **options: Any) -> UpsampleResult:
        """Upsample the slide with an image; all runs but the first use the cached slide model."""
        return upsample(self.slide(image), factor=2, device="cpu", **options)

    def image(
        self, kind: str = "color", to_intrinsic: np.ndarray | None = None, density: np.ndarray | None = None
    ) -> SlideImage:
        """Render an image of some kind; ``to_intrinsic`` displaces it, ``density`` replaces the cell density."""
        density = self.density if density is None else density
        scale = PITCH / PIXELS
        aligned = np.diag([scale, scale, 1.0])
        aligned[:2, 2] = -PITCH / 2
        affine = aligned if to_intrinsic is None else to_intrinsic @ aligned
        return SlideImage(name="he", levels=(_render(density, kind),), to_intrinsic=(affine,))


def _render(density: np.ndarray, kind: str) -> np.ndarray:
    light = np.exp(-density[None] * np.array([1.2, 1.6, 0.5])[:, None, None])
    if kind == "color":
        return (255 * light).astype(np.uint8)
    if kind == "color16":
        return (4095 * light).astype(np.uint16)  # twelve of sixteen bits, as cameras store them
    if kind == "gray":
        return (255 * light[1:2]).astype(np.uint8)
    if kind == "alpha":
        return np.concatenate([255 * light, np.full((1, *density.shape), 255.0)]).astype(np.uint8)
    rng = np.random.default_rng(1)
    other = rng.poisson(20, size=(1, *density.shape))
    return np.concatenate([300 + 4000 * density[None], other, 50 + 900 * density[None]]).astype(np.uint16)


def make_tissue(seed: int = 0) -> Tissue:
    """Make a tissue of two cell types, one of them stained; three genes are specific to each type."""
    rng = np.random.default_rng(seed)
    size = SIDE * PIXELS

    def texture(width: float) -> np.ndarray:
        field = ndimage.gaussian_filter(rng.normal(size=(size, size)), width * PIXELS)
        return np.asarray((field - field.mean()) / field.std())

    pattern = 0.8 * texture(0.3) + 0.5 * texture(1.5)
    stained = np.exp(0.8 * pattern)
    density = stained / stained.max() * 2.0
    # Off-center, and different for each seed: rotated images and other tissues must have another outline.
    middle = size * (np.array([0.44, 0.42]) if seed == 0 else np.array([0.58, 0.6]))
    inside = np.hypot(*(np.mgrid[:size, :size] - middle[:, None, None])) < 0.39 * size
    density = np.where(inside, density + 0.1, 0.0)
    intensity = np.stack([stained] * 3 + [np.full_like(stained, stained.mean())] * 3) * inside
    row, col = (a.ravel() for a in np.mgrid[:SIDE, :SIDE])
    centers = np.column_stack([col, row]) * PITCH
    half = PIXELS // 2
    fine = intensity.reshape(6, 2 * SIDE, half, 2 * SIDE, half).mean(axis=(2, 4))
    pixel_counts = rng.poisson(40 * fine / stained.mean())
    counts = pixel_counts.reshape(6, SIDE, 2, SIDE, 2).sum(axis=(2, 4)).reshape(6, -1).T
    raster = make_raster(centers, factor=2, spot_diameter=PITCH, spot_shape="square")
    layout = SpotPixelMap.of_raster(centers, raster)
    cell = np.floor((layout.pixels + PITCH / 2) / (PITCH / 2)).astype(int)
    return Tissue(
        counts=sparse.csr_matrix(counts, dtype=np.float32),
        centers=centers,
        truth=pixel_counts[:, cell[:, 1], cell[:, 0]].T.astype(float),
        layout=layout,
        density=density,
    )
