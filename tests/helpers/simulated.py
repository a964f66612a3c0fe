"""Small simulated slides whose rates are known everywhere: few or irregular spots of any size, with images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide, SlideImage

__all__ = ["SimulatedSlide", "simulate"]

_STEPS = 16  # of the grid of rates, in each pitch
_WIDTHS = (0.35, 0.8, 1.5, 2.5)  # of the patterns, in pitches
_MARGIN = 2.0  # pitches around the spots


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedSlide:
    """A slide, and its rates (G, y, x) on a grid with a step and a first corner."""

    slide: Slide
    rates: np.ndarray
    step: float
    corner: np.ndarray

    def rates_at(self, points: np.ndarray) -> np.ndarray:
        """Return the rates at points (n, 2), shape (n, G)."""
        column, row = ((points - self.corner) / self.step).astype(int).T
        return self.rates[:, row, column].T

    def nats_per_count(self, result: UpsampleResult) -> float:
        """Score a result by the true rates of its pixels: nats per count over the uniform split of every spot."""
        parent, n_spots = result.raster.parent, self.slide.n_spots
        of_spot = np.zeros((n_spots, parent.size))
        of_spot[parent, np.arange(parent.size)] = 1
        n_pixels = of_spot.sum(axis=1)[parent][:, None]
        spots = self.slide.counts.toarray()[parent]
        split = np.where(spots > 0, result.counts.toarray() / np.maximum(spots, 1e-9), 1 / n_pixels)
        truth = self.rates_at(result.raster.centers)
        return float((truth * np.log(np.maximum(split * n_pixels, 1e-3))).sum() / truth.sum())


def simulate(
    centers: np.ndarray,
    pitch: float,
    diameter: float,
    *,
    seed: int,
    depth: float = 15.0,
    n_genes: int = 10,
    image: str | None = None,
    structure: float = 1.0,
) -> SimulatedSlide:
    """Simulate a slide: cell density and programs vary over a third of a pitch to some pitches; spots count by discs.

    Parameters
    ----------
    centers
        Spot centers, shape (N, 2).
    pitch, diameter
        Length that the patterns refer to, and diameter of the disc that a spot measures.
    seed
        Seed of rates and counts.
    depth
        Mean counts of a spot and a gene.
    n_genes
        Number of genes.
    image
        "gray" for one bright channel that cells darken, "fluorescence" for two dark channels with nuclei and with
        another pattern; None for no image.
    structure
        Size of all variation; 0 for a flat slide.
    """
    rng = np.random.default_rng(seed)
    step = pitch / _STEPS
    corner = centers.min(axis=0) - _MARGIN * pitch
    columns, rows = np.ceil((np.ptp(centers, axis=0) + 2 * _MARGIN * pitch) / step).astype(int)
    patterns = []
    for width in _WIDTHS:
        smooth = ndimage.gaussian_filter(rng.normal(size=(rows, columns)), width * _STEPS)
        patterns.append(structure * (smooth - smooth.mean()) / smooth.std())
    density = np.exp(0.5 * patterns[0] + 0.4 * patterns[1])
    loadings = 0.4 * rng.normal(size=(n_genes, len(patterns)))
    rates = density * np.exp(np.tensordot(loadings, np.stack(patterns), axes=1))
    rates *= rng.lognormal(0.0, 0.8, (n_genes, 1, 1)) / rates.mean(axis=(1, 2), keepdims=True)
    shown = SimulatedSlide(slide=None, rates=rates, step=step, corner=corner)  # type: ignore[arg-type]
    angle, radius = 2.4 * np.arange(40), diameter / 2 * np.sqrt((np.arange(40) + 0.5) / 40)
    disc = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    means = np.mean([shown.rates_at(centers + offset) for offset in disc], axis=0)
    slide = Slide(
        counts=sparse.csr_matrix(rng.poisson(depth * means).astype(np.float32)),
        genes=np.array([f"Gene{i}" for i in range(n_genes)]),
        spot_ids=np.arange(len(centers)).astype(str),
        centers=centers,
        spot_diameter=diameter,
        spot_shape="circle",
        image=None if image is None else _render(image, density, np.exp(patterns[2]), step, corner),
    )
    return SimulatedSlide(slide=slide, rates=rates, step=step, corner=corner)


def _render(kind: str, density: np.ndarray, other: np.ndarray, step: float, corner: np.ndarray) -> SlideImage:
    rng = np.random.default_rng(0)
    if kind == "gray":
        pixels = (245 * np.exp(-0.4 * density[None]) + rng.normal(0, 4, (1, *density.shape))).clip(0, 255)
        stored = pixels.astype(np.uint8)
    else:
        light = np.stack([900 * density, 500 * other])
        stored = (200 + rng.poisson(light)).astype(np.uint16)
    to_spots = np.array([[step, 0.0, corner[0]], [0.0, step, corner[1]], [0.0, 0.0, 1.0]])
    return SlideImage(name="image", levels=(stored,), to_intrinsic=(to_spots,))
