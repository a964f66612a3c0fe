"""Ratios by interpolation: the distribution of each spot's counts over its pixels if the slide were smooth.

Every method predicts a non-negative intensity at each pixel and scales it to sum to 1 within its spot, so every method
conserves the counts of every spot. Shape legend: N spots, Q pixels, F fields (genes or programs).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.arrays import PixelRatios, SpotFields
from napari_srast.errors import invalid_choice, value_out_of_range
from napari_srast.geometry.lattice_frame import LatticeFrame
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation.gaussian_process import NOISES, WIDTHS, FittedProcess, GaussianProcessGrid
from napari_srast.interpolation.linear import clamp_to_hull, linear_weights, nearest_weights, weights_on_frame
from napari_srast.interpolation.local_kriging import LocalKriging, cubic, matern32

__all__ = ["GAUSSIAN_WIDTHS", "INTERPOLATIONS", "HaloContext", "Interpolator", "gaussian_weights"]

INTERPOLATIONS = ("uniform", "nearest", "bilinear", "bicubic", "gaussian", "pycnophylactic", "gp")
GAUSSIAN_WIDTHS = (0.4, 0.5, 0.65, 0.8, 1.0, 1.3, 1.8, 2.5)
"""Standard deviations that the Gaussian kernel is chosen from, in pitches."""

_VALUES_PER_BLOCK = 1 << 18  # in double precision 2 MB, which the allocator does not return to the system at every step
_CACHE_BYTES = 1 << 28  # of kriging weights
_N_GAUSSIAN_NEAREST = 24
_MAX_GAUSSIAN_TIES = 12
_TIE = 1e-6  # in pitches


@dataclass(frozen=True, kw_only=True, eq=False)
class HaloContext:
    """Data around a tile that makes its interpolation equal to that of the whole slide.

    Parameters
    ----------
    extended
        Map of the tile with the pixels around it: first the tile's pixels, then those of the halo.
    frame
        Square lattice of the whole slide; None without a square lattice.
    max_pixels_per_spot
        Largest number of pixels of any spot of the whole slide.
    """

    extended: SpotPixelMap
    frame: LatticeFrame | None
    max_pixels_per_spot: int


class Interpolator:
    """Interpolates fields at the pixels of one map; weights are computed once and shared by all fields.

    Parameters
    ----------
    layout
        Map between spots and pixels.
    halo
        Data around the map if it is a tile of a slide; None if it is the whole slide.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_srast.geometry.spot_pixel_map import SpotPixelMap
    >>> spots = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> pixels = np.array([[-0.25, 0.0], [0.25, 0.0], [0.75, 0.0], [1.25, 0.0]])
    >>> layout = SpotPixelMap(spots=spots, pixels=pixels, parent=np.array([0, 0, 1, 1]), pitch=1.0)
    >>> Interpolator(layout).ratios("bilinear", np.array([[4.0], [8.0]]))[:, 0].round(3)
    array([0.444, 0.556, 0.467, 0.533], dtype=float32)
    """

    def __init__(self, layout: SpotPixelMap, halo: HaloContext | None = None) -> None:
        self.layout = layout
        self._wide = layout if halo is None else halo.extended
        self._halo = halo
        max_pixels_per_spot = int(layout.n_pixels_per_spot.max(initial=1))
        self._most_pixels = max_pixels_per_spot if halo is None else halo.max_pixels_per_spot
        self._kriging = LocalKriging(layout)
        self._grid = GaussianProcessGrid(layout.spots, layout.pitch)
        self._process_weights: dict[int, sparse.csr_matrix] = {}

    def ratios(
        self, name: str, fields: SpotFields, *, width: float | None = None, process: FittedProcess | None = None
    ) -> PixelRatios:
        """Compute the share of each pixel in its spot.

        The ratios of a field depend on that field only, not on the other fields of the call.

        Parameters
        ----------
        name
            One of :data:`INTERPOLATIONS`: "uniform" (uniform split); "nearest" (value of the nearest spot, so uniform
            wherever that is the pixel's parent); "bilinear" (barycentric without a square lattice); "bicubic" (local
            cubic polyharmonic spline); "gaussian" (kernel mean); "pycnophylactic" (Tobler 1979,
            doi:10.1080/01621459.1979.10481647: smooth over adjacent pixels, restore every spot's total, repeat); "gp"
            (Gaussian process on log1p counts, Matern 3/2 kernel, local kriging).
        fields
            Non-negative counts or intensities, shape (N, F).
        width
            Standard deviation of "gaussian" in pitches; None chooses it for each field by leave-one-out prediction.
        process
            For "gp", the processes of the fields as fitted on the whole slide; None fits them on this map's spots.

        Returns
        -------
        np.ndarray
            Non-negative ratios, float32, shape (Q, F), with sum 1 within each spot that has pixels. A spot without any
            intensity gets a uniform split.

        Raises
        ------
        SettingsError
            The name is unknown, or the width is not above 0.
        """
        if name not in INTERPOLATIONS:
            raise invalid_choice("method", name, INTERPOLATIONS)
        if width is not None and not width > 0:
            raise value_out_of_range("width", float(width), "above 0 pitches")
        fields = np.asarray(fields)
        layout = self.layout
        ratios = np.empty((layout.n_pixels, fields.shape[1]), dtype=np.float32)
        if name == "uniform":
            ratios[:] = (1.0 / layout.n_pixels_per_spot[layout.parent])[:, None]
            return ratios
        per_block = max(1, _VALUES_PER_BLOCK // max(layout.n_pixels, layout.n_spots, 1))
        for start in range(0, fields.shape[1], per_block):
            block = slice(start, start + per_block)
            values = np.ascontiguousarray(fields[:, block], dtype=np.float32)
            of_block = None if process is None else process[block]
            ratios[:, block] = layout.normalize(self._intensity(name, values, width, of_block))
        return ratios

    def _intensity(
        self, name: str, fields: np.ndarray, width: float | None, process: FittedProcess | None
    ) -> np.ndarray:
        """Predict non-negative intensities (Q, F) up to a factor."""
        if name == "nearest":
            return self._nearest @ fields
        if name == "bilinear":
            return self._linear[: self.layout.n_pixels] @ fields
        if name == "bicubic":
            return np.maximum(self._cubic @ fields, 0.0)
        if name == "gaussian":
            return self._gaussian(fields, width)
        if name == "pycnophylactic":
            return self._pycnophylactic(fields)
        return self._process(fields, self._grid.fit(fields) if process is None else process)

    @cached_property
    def _nearest(self) -> sparse.csr_matrix:
        return nearest_weights(self.layout).astype(np.float32)

    @cached_property
    def _linear(self) -> sparse.csr_matrix:
        halo = self._halo
        weights = linear_weights(self.layout) if halo is None else weights_on_frame(halo.extended, halo.frame)
        return weights.astype(np.float32)

    @cached_property
    def _cubic(self) -> sparse.csr_matrix:
        layout = self.layout
        inside = SpotPixelMap(
            spots=layout.spots,
            pixels=clamp_to_hull(layout.spots, layout.pixels),  # outside the hull a cubic may diverge
            parent=layout.parent,
            pitch=layout.pitch,
        )
        return LocalKriging(inside).weights(cubic, 1e-6, linear=True)

    # Gaussian kernel ---------------------------------------------------------------------------------------------

    def _gaussian(self, fields: np.ndarray, width: float | None) -> np.ndarray:
        if width is not None:
            return _kernel_mean(*self._pixel_distances, self.layout, width) @ fields
        chosen = self._best_widths(fields)
        values = np.empty((self.layout.n_pixels, fields.shape[1]), dtype=np.float32)
        for i in np.unique(chosen):
            of_width = chosen == i
            values[:, of_width] = (
                _kernel_mean(*self._pixel_distances, self.layout, GAUSSIAN_WIDTHS[i]) @ fields[:, of_width]
            )
        return values

    @cached_property
    def _pixel_distances(self) -> tuple[np.ndarray, np.ndarray]:
        return _nearest_spots(self.layout, self.layout.pixels, _N_GAUSSIAN_NEAREST)

    @cached_property
    def _spot_distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances to and indices of the other spots; the spot itself gets an infinite distance."""
        distance, index = _nearest_spots(self.layout, self.layout.spots, _N_GAUSSIAN_NEAREST)
        itself = index == np.arange(len(index))[:, None]
        return np.where(itself, np.inf, distance), index

    def _best_widths(self, fields: np.ndarray) -> np.ndarray:
        """Return for each field the width with the least error of square roots when a spot is predicted from others."""
        if self.layout.n_spots < 3:
            return np.zeros(fields.shape[1], dtype=np.int64)
        root = np.sqrt(fields)
        errors = [
            np.sum((np.sqrt(_kernel_mean(*self._spot_distances, self.layout, width) @ fields) - root) ** 2, axis=0)
            for width in GAUSSIAN_WIDTHS
        ]
        return np.argmin(errors, axis=0)

    # Pycnophylactic interpolation --------------------------------------------------------------------------------

    @cached_property
    def _smoother(self) -> sparse.csr_matrix:
        """Matrix that averages each pixel and its adjacent pixels, float32, shape (Q, Q), halo included."""
        pixels, n_pixels = self._wide.pixels, self._wide.n_pixels
        tree = cKDTree(pixels)
        spacing = np.median(tree.query(pixels, k=[min(2, n_pixels)])[0])
        pairs = tree.query_pairs(1.3 * spacing, output_type="ndarray")  # between 1 (adjacent) and sqrt(2) (diagonal)
        i = np.concatenate([pairs[:, 0], pairs[:, 1], np.arange(n_pixels)])
        j = np.concatenate([pairs[:, 1], pairs[:, 0], np.arange(n_pixels)])
        n_averaged = np.bincount(i, minlength=n_pixels)
        return sparse.csr_matrix((np.float32(1) / n_averaged[i].astype(np.float32), (i, j)), shape=(n_pixels, n_pixels))

    def _pycnophylactic(self, fields: np.ndarray) -> np.ndarray:
        layout = self._wide
        membership = layout.membership.astype(np.float32)
        # Each pixel gets the density of its spot, so that spots with more pixels do not look denser.
        n_pixels = layout.n_pixels_per_spot.astype(np.float32)[:, None]
        mass = (fields * n_pixels)[layout.parent]
        # The start is close to the solution. The number of rounds is fixed, so that no field depends on another.
        values = layout.normalize(self._linear @ fields).astype(np.float32) * mass
        for _ in range(int(np.clip(4 * self._most_pixels, 16, 100))):
            values = self._smoother @ values
            total = (membership @ values)[layout.parent]
            values *= np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
        return values[: self.layout.n_pixels]

    # Gaussian process --------------------------------------------------------------------------------------------

    def _process(self, fields: np.ndarray, process: FittedProcess) -> np.ndarray:
        centered = np.log1p(fields) - process.mean
        values = np.empty((self.layout.n_pixels, fields.shape[1]), dtype=np.float32)
        for point in np.unique(process.point):
            of_point = process.point == point
            values[:, of_point] = self._weights_at(int(point)) @ centered[:, of_point] + process.mean[of_point]
        return np.expm1(np.maximum(values, 0.0))

    def _weights_at(self, point: int) -> sparse.csr_matrix:
        """Return the kriging weights of a grid point from a cache of limited size."""
        if point not in self._process_weights:
            width, noise = WIDTHS[point // len(NOISES)], NOISES[point % len(NOISES)]
            weights = self._kriging.weights(matern32(width), noise)
            capacity = _CACHE_BYTES // max(1, weights.data.nbytes + weights.indices.nbytes)
            while self._process_weights and len(self._process_weights) >= capacity:
                self._process_weights.pop(next(iter(self._process_weights)))
            self._process_weights[point] = weights
        return self._process_weights[point]


def gaussian_weights(layout: SpotPixelMap, width: float) -> sparse.csr_matrix:
    """Return the weights of the nearest spots in a Gaussian kernel mean at each pixel, float32, shape (Q, N).

    Parameters
    ----------
    layout
        Spots and pixels.
    width
        Standard deviation of the kernel, in pitches.
    """
    return _kernel_mean(*_nearest_spots(layout, layout.pixels, _N_GAUSSIAN_NEAREST), layout, width)


def _nearest_spots(layout: SpotPixelMap, points: np.ndarray, n_nearest: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the spots nearest to points.

    Returns
    -------
    distance, index
        Distances in pitches and indices of the spots, shape (n, M) each. Spots as far as the last of the nearest are
        all included; the others, which only pad the arrays, have an infinite distance.
    """
    n_candidates = min(n_nearest + _MAX_GAUSSIAN_TIES, layout.n_spots)
    distance, index = cKDTree(layout.spots).query(points, k=np.arange(1, n_candidates + 1))
    distance /= layout.pitch
    last = min(n_nearest, layout.n_spots) - 1
    return np.where(distance <= distance[:, last : last + 1] + _TIE, distance, np.inf), index


def _kernel_mean(distance: np.ndarray, index: np.ndarray, layout: SpotPixelMap, width: float) -> sparse.csr_matrix:
    """Return the matrix (n, N) of Gaussian kernel means over spots."""
    nearest = np.min(distance, axis=1, keepdims=True)  # subtracted, so that a narrow kernel never vanishes
    weights = np.exp(-(distance**2 - nearest**2) / (2 * width**2))
    weights /= weights.sum(axis=1, keepdims=True)
    pointer = np.arange(len(index) + 1) * index.shape[1]
    return sparse.csr_matrix(
        (weights.astype(np.float32).ravel(), index.ravel(), pointer), shape=(len(index), layout.n_spots)
    )
