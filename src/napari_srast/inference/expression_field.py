"""Evaluate the intensity field of the genes with expression: in pixels, in spots, and in spots that are left out.

Shape legend: N spots, n some spots, q points, E genes with expression, P programs of the image.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast._utils.row_blocks import MAX_WHOLE_ROWS
from napari_srast._utils.threads import map_on_cores
from napari_srast.geometry.bisection import bisect_points
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology import ImagePredictor, PixelImageEvidence
from napari_srast.histology.features import disk_offsets, pixel_area
from napari_srast.inference.fit_cache import FitMemory, digest_of
from napari_srast.inference.image_samples import sample_evidence
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import PreparedMethod, TileInput
from napari_srast.inference.slide_intensity import intensity_key, measured_area
from napari_srast.models.intensity import FittedIntensity, GeneLoadings, PixelIntensity, SharedViews

__all__ = [
    "ExpressionField",
    "SpotsAround",
    "left_out_means",
    "prepare_samples",
    "shape_spots",
    "spot_means",
    "spread_spots",
    "with_image",
]

_MAX_SHAPE_SPOTS = 2_000  # that the shapes of the genes are fitted to
_MAX_SAMPLES = 3  # of a slide, in memory
_MAX_LEVEL_SPOTS = 2_000  # that the level of a field with the image is fitted to
_SPOT_SAMPLES = 7  # points that represent the measured area of a spot
_LARGE_SPOT_SAMPLES = 3  # of a large slide, within whose small spots the field hardly differs
_N_AROUND = 64  # nearest spots of a spot: more than any of its pixels reads
_VALUES_PER_BLOCK = 2_000_000  # points x genes that are computed together
_FADE = 0.2  # pitches: difference of the distances to both spots, from which on the weight is 1
_SEPARATION = 1.3  # pitches: spots that are left out together are farther apart


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpressionField:
    """The intensity field of the genes with expression, with the evidence of the histology.

    Parameters
    ----------
    fitted, loadings, counts
        Intensity of the slide, loadings of the genes, and their counts in all spots, float32, shape (N, E).
    image_loadings
        Loadings of the genes on the programs of the image, shape (P, E); None without.
    image_shift
        Log factor of each gene that gives the field with the image the level of the field without, shape (E,).
    """

    fitted: FittedIntensity
    loadings: GeneLoadings
    counts: np.ndarray
    image_loadings: np.ndarray | None = None
    image_shift: np.ndarray | None = None

    def select(self, genes: slice) -> ExpressionField:
        """Return the field of some of its genes."""
        return replace(
            self,
            loadings=self.loadings[genes],
            counts=self.counts[:, genes],
            image_loadings=None if self.image_loadings is None else self.image_loadings[:, genes],
            image_shift=None if self.image_shift is None else self.image_shift[genes],
        )

    def log_values(
        self,
        layout: SpotPixelMap,
        spots: np.ndarray,
        image: PixelImageEvidence | None,
        sample_of: UpsampleJob | None = None,
        tile_input: TileInput | None = None,
    ) -> np.ndarray:
        """Return the log field in pixels, minus infinity on bare glass, shape (q, E).

        Parameters
        ----------
        layout
            Some spots around the pixels, and the pixels.
        spots
            These spots as indices into the slide's.
        image
            Evidence of the histology in the pixels; None without.
        sample_of
            Job of the slide if the pixels are the same for all its regions and genes. Default: they are not.
        tile_input
            Input of a tile with the same pixels; its intensity is used if it was computed before.
        """
        if tile_input is not None and tile_input.pixel_intensity is not None:
            pixels, spots = tile_input.pixel_intensity, tile_input.tile.spots
        elif sample_of is None:
            pixels = _intensity(self.fitted, layout, spots)
        else:
            pixels = _sample_intensity(self.fitted, layout, spots, sample_of)
        field = pixels.log_intensities(self.counts[spots], self.loadings)
        if image is None or self.image_loadings is None or self.image_shift is None:
            return field
        pooled = image.weights.others * field + image.log_rates(self.image_loadings) - self.image_shift
        field = np.where(image.covered(layout)[:, None], pooled, field)
        field[image.background] = -np.inf
        return field


_samples: weakref.WeakKeyDictionary[FittedIntensity, FitMemory[PixelIntensity]] = weakref.WeakKeyDictionary()


def _intensity(fitted: FittedIntensity, layout: SpotPixelMap, spots: np.ndarray) -> PixelIntensity:
    return fitted.in_pixels(layout, fitted.fields[spots])


def _fit_sample(fitted: FittedIntensity, layout: SpotPixelMap, spots: np.ndarray) -> PixelIntensity:
    return _intensity(fitted, layout, spots)


def _sample_intensity(
    fitted: FittedIntensity, layout: SpotPixelMap, spots: np.ndarray, job: UpsampleJob
) -> PixelIntensity:
    """Return the intensity in a sample of points, which is computed once for a slide, and stored in the job's cache."""
    computed: list[PixelIntensity] = []  # with the weights that the caller will use next

    def fit() -> SharedViews:
        computed.append(_fit_sample(fitted, layout, spots))
        return computed[0].shared

    memory = _samples.setdefault(fitted, FitMemory((SharedViews,), max_fits=_MAX_SAMPLES))
    key = digest_of("sample", intensity_key(job), spots, layout.spots, layout.pixels, layout.parent)
    known = memory.get(
        key,
        fit,
        lambda shared: PixelIntensity(fitted.model, layout, shared),
        file_key=lambda: (job.slide_digest, key),
        cache=job.cache,
        monitor=job.monitor,
    )
    return computed[0] if computed else known.without_weights()


class SpotsAround:
    """Restricts a slide to the spots that some pixels need, so that the cost of a tile does not grow with the slide.

    Parameters
    ----------
    spots
        All spot centers, shape (N, 2).
    pitch
        Distance between neighboring spots.
    """

    def __init__(self, spots: np.ndarray, pitch: float) -> None:
        self._spots = spots
        self._pitch = pitch
        self._tree = cKDTree(spots)
        self._nearest = np.arange(1, min(_N_AROUND, len(spots)) + 1)

    def of_spots(self, spots: np.ndarray) -> np.ndarray:
        """Return some spots and those around them, sorted."""
        if len(spots) == len(self._spots):
            return np.arange(len(spots))
        return np.unique(self._tree.query(self._spots[spots], k=self._nearest)[1])

    def fade_at_borders(self, pixels: np.ndarray) -> np.ndarray:
        """Return a weight of each pixel that is 0 on the border between two nearest spots and 1 away from it, (q,)."""
        if len(self._spots) < 2:
            return np.ones(len(pixels))
        distance, _ = self._tree.query(pixels, k=2)
        return np.asarray(np.minimum((distance[:, 1] - distance[:, 0]) / (_FADE * self._pitch), 1.0))

    def part(self, pixels: np.ndarray, parent: np.ndarray) -> tuple[SpotPixelMap, np.ndarray]:
        """Return the map of some pixels and the spots around them, and these spots as indices into all."""
        spots = self.of_spots(np.unique(parent))
        layout = SpotPixelMap(
            spots=self._spots[spots], pixels=pixels, parent=np.searchsorted(spots, parent), pitch=self._pitch
        )
        return layout, spots


def with_image(
    field: ExpressionField, job: UpsampleJob, method: PreparedMethod, gene_counts: sparse.csc_matrix
) -> ExpressionField:
    """Add the histology to a field, with the level that the field has without it at the spot centers."""
    assert method.image_predictor is not None
    layout = _spread_centers(job)
    image = sample_evidence(job, method.image_predictor, layout)
    loadings = method.image_predictor.field_loadings(gene_counts.tocsr()).astype(np.float64)
    used = image.covered(layout) & ~image.background
    all_spots = np.arange(layout.n_spots)
    log_field = field.log_values(layout, all_spots, None, job)
    change = (image.weights.others - 1) * log_field + image.log_rates(loadings)
    shift = change[used].mean(axis=0) if used.any() else np.zeros(loadings.shape[1])
    return replace(field, image_loadings=loadings, image_shift=shift)


def prepare_samples(fitted: FittedIntensity, job: UpsampleJob, predictor: ImagePredictor | None) -> None:
    """Compute what the expression of any region and genes needs in some points: intensity and evidence of the image.

    Parameters
    ----------
    fitted, job
        Intensity and job of the slide.
    predictor
        Predictor of the image; None if it is not used.
    """
    centers = _spread_centers(job)
    if job.image is not None:
        _sample_intensity(fitted, centers, np.arange(centers.n_spots), job)
    job.monitor.check_canceled()
    points, parent = _points_inside(job, shape_spots(len(job.centers)))
    layout, spots = SpotsAround(job.layout.spots, job.layout.pitch).part(points, parent)
    _sample_intensity(fitted, layout, spots, job)
    if predictor is not None:
        job.monitor.check_canceled()
        sample_evidence(job, predictor, centers)
        sample_evidence(job, predictor, *_layout_of_points(job, points, parent))


def _spread_centers(job: UpsampleJob) -> SpotPixelMap:
    sample = spread_spots(len(job.centers), _MAX_LEVEL_SPOTS)
    return SpotPixelMap(spots=job.layout.spots, pixels=job.layout.spots[sample], parent=sample, pitch=job.layout.pitch)


def spread_spots(n_spots: int, n_most: int) -> np.ndarray:
    """Return at most a number of spots, spread over the slide, the same for any region of it."""
    return np.unique(np.linspace(0, n_spots - 1, min(n_spots, n_most)).astype(np.int64))


def shape_spots(n_spots: int) -> np.ndarray:
    """Return the spots that the shapes of the genes are fitted to."""
    return spread_spots(n_spots, _MAX_SHAPE_SPOTS)


def spot_means(
    field: ExpressionField, job: UpsampleJob, method: PreparedMethod, around: SpotsAround, spots: np.ndarray
) -> np.ndarray:
    """Return the mean of the field over the measured area of some spots, :func:`shape_spots` among them: (n, E)."""
    means = np.empty((len(spots), field.counts.shape[1]), dtype=field.fitted.model.dtype)
    shared = np.isin(spots, shape_spots(len(job.centers)))
    means[shared] = _means(field, job, method, around, spots[shared], is_sample=True)
    means[~shared] = _means(field, job, method, around, spots[~shared], is_sample=False)
    return means


def _means(
    field: ExpressionField,
    job: UpsampleJob,
    method: PreparedMethod,
    around: SpotsAround,
    spots: np.ndarray,
    *,
    is_sample: bool,
) -> np.ndarray:
    """Return the means of spots whose points are, or are not, a sample that all regions share."""
    means = np.empty((len(spots), field.counts.shape[1]), dtype=field.fitted.model.dtype)
    if len(spots) == 0:
        return means
    blocks = _compact_blocks(job.layout.spots[spots], field, len(_offsets(job)))
    sample_of = job if is_sample and len(blocks) == 1 else None

    def compute(block: slice | np.ndarray) -> None:
        job.monitor.check_canceled()
        points, parent, image = _inside_spots(job, method, spots[block], is_sample=sample_of is not None)
        values = np.exp(field.log_values(*around.part(points, parent), image, sample_of))
        means[block] = _mean_of_spots(values, len(means[block]))

    map_on_cores(compute, blocks)
    return means


def left_out_means(
    field: ExpressionField,
    job: UpsampleJob,
    method: PreparedMethod,
    spots: np.ndarray,
    smoothed: Callable[[SpotPixelMap, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return what the other spots predict for some spots, without their neighbors if these are left out, too: (n, E).

    The parameters of the field, and an image model, were fitted with all spots.

    Parameters
    ----------
    field, job, method
        The field, and what it was fitted to.
    spots
        The spots, as indices into the slide's, shape (n,).
    smoothed
        Returns the log correction of the field in the points of a map, given the map's spots as indices into the
        slide's, shape (q, E).
    """
    centers = job.layout.spots
    around = SpotsAround(centers, job.layout.pitch)
    means = np.tile(field.counts.mean(axis=0, dtype=np.float64), (len(spots), 1))  # if there are no others
    for group in _separate(centers[spots], _SEPARATION * job.layout.pitch):
        others = np.setdiff1d(around.of_spots(spots[group]), spots[group])
        if len(others) == 0:
            continue
        nearest = cKDTree(centers[others])
        for block in _blocks(len(group), field.counts.shape[1] * len(_offsets(job))):
            job.monitor.check_canceled()
            points, _, image = _inside_spots(job, method, spots[group[block]])
            layout = SpotPixelMap(
                spots=centers[others], pixels=points, parent=nearest.query(points)[1], pitch=job.layout.pitch
            )
            values = np.exp(field.log_values(layout, others, image) + smoothed(layout, others))
            means[group[block]] = _mean_of_spots(values, len(group[block]))
    return means


def _separate(points: np.ndarray, distance: float) -> list[np.ndarray]:
    """Divide points into groups, given as indices, whose members are farther apart than a distance."""
    tree = cKDTree(points)
    group = np.full(len(points), -1)
    for i, near in enumerate(tree.query_ball_point(points, distance)):
        taken = set(group[near])
        group[i] = next(number for number in range(len(points)) if number not in taken)
    return [np.flatnonzero(group == number) for number in range(group.max(initial=-1) + 1)]


def _blocks(n_spots: int, values_per_spot: int) -> list[slice]:
    size = max(1, _VALUES_PER_BLOCK // values_per_spot)
    return [slice(start, start + size) for start in range(0, n_spots, size)]


def _compact_blocks(centers: np.ndarray, field: ExpressionField, n_points: int) -> Sequence[slice | np.ndarray]:
    """Divide spots of some points each into blocks; those of a large slide are compact: each reads the spots around."""
    n_genes = field.counts.shape[1]
    if len(centers) <= MAX_WHOLE_ROWS:
        return _blocks(len(centers), n_points * n_genes)
    size = _blocks(len(centers), n_points * (n_genes + field.fitted.fields.shape[1]))[0].stop
    return bisect_points(centers, lambda group: len(group) <= size)


def _inside_spots(
    job: UpsampleJob, method: PreparedMethod, spots: np.ndarray, *, is_sample: bool = False
) -> tuple[np.ndarray, np.ndarray, PixelImageEvidence | None]:
    """Return points in the measured area of some spots, their spots, and the evidence of the image there."""
    points, parent = _points_inside(job, spots)
    if method.image is None or method.image_predictor is None:
        return points, parent, None
    everywhere, area = _layout_of_points(job, points, parent)
    if is_sample:
        return points, parent, sample_evidence(job, method.image_predictor, everywhere, area)
    return points, parent, method.image_predictor.predict(everywhere, area)


def _layout_of_points(job: UpsampleJob, points: np.ndarray, parent: np.ndarray) -> tuple[SpotPixelMap, float]:
    """Return the map of all spots and some points in their measured areas, and the area that a point stands for."""
    everywhere = SpotPixelMap(spots=job.layout.spots, pixels=points, parent=parent, pitch=job.layout.pitch)
    # The points of one spot state the area that a point stands for: it must not depend on which spots are asked for.
    offsets = _offsets(job)
    parents = np.zeros(len(offsets), dtype=np.int64)
    area = pixel_area(SpotPixelMap(spots=np.zeros((1, 2)), pixels=offsets, parent=parents, pitch=job.layout.pitch))
    return everywhere, area


def _points_inside(job: UpsampleJob, spots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    offsets = _offsets(job)
    return (job.layout.spots[spots][:, None] + offsets).reshape(-1, 2), np.repeat(spots, len(offsets))


def _offsets(job: UpsampleJob) -> np.ndarray:
    """Return the points that represent the measured area of a spot, relative to its center, shape (points, 2)."""
    is_large = len(job.centers) > MAX_WHOLE_ROWS
    return disk_offsets(_area(job), _LARGE_SPOT_SAMPLES if is_large else _SPOT_SAMPLES)


def _area(job: UpsampleJob) -> float:
    return measured_area(job.spot_area, job.lattice)


def _mean_of_spots(values: np.ndarray, n_spots: int) -> np.ndarray:
    """Return the means over the points of each spot, given those of all spots in turn (points, E), shape (n, E)."""
    return np.asarray(values.reshape(n_spots, -1, values.shape[1]).mean(axis=1))
