"""Choose the genes that are shown as images, and build the image elements of a result.

Shape legend: Q pixels, G genes.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from napari_srast._utils.scratch_file import allocate_on_disk, release_pages
from napari_srast.core.mass_balance import gene_totals
from napari_srast.core.progress import RunMonitor
from napari_srast.core.result import UpsampleMetadata, no_columns
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError
from napari_srast.io.image_levels import coarser_images, coarser_labels, join_levels
from napari_srast.io.transforms import to_affines

if TYPE_CHECKING:
    from xarray import DataArray, DataTree

    from napari_srast.geometry.raster import Raster

__all__ = [
    "MAX_EXPRESSION_ENTRIES",
    "MAX_EXPRESSION_GENES",
    "MAX_IMAGE_BYTES",
    "MAX_IMAGE_GENES",
    "ColumnReader",
    "DeferredErrors",
    "ImageBuffer",
    "ImageSource",
    "build_images",
    "build_labels",
    "channel_columns",
    "column_reader",
    "expression_columns",
    "image_columns",
    "image_genes",
    "instance_ids",
    "to_dense_image",
]

ColumnReader = Callable[[int], np.ndarray]
"""Returns the values (Q,) of a gene, given the index of its image channel."""

MAX_IMAGE_GENES = 64
"""Largest number of channels of the image."""
MAX_IMAGE_BYTES = 1_000_000_000
"""Largest size of the image; it has at least one channel, however large."""
MAX_EXPRESSION_GENES = 512
"""Largest number of genes for which "auto" estimates the expression of all genes of a run."""
MAX_EXPRESSION_ENTRIES = 200_000_000
"""Number of pixels times genes below which "auto" estimates the expression of all genes of a run."""
_MAX_BYTES_IN_MEMORY = 1 << 26  # larger images of genes that are being computed go to a scratch file
_LABEL_CHUNK = 2048  # rows and columns
_COLUMN_VALUES = 4_000_000  # values of the columns that are extracted together


class DeferredErrors:
    """Progress of threads that write, whose errors and cancellation are raised after all threads have ended.

    An error that is raised immediately in one thread would let the caller clean up while the other threads still write
    and create folders again.

    Parameters
    ----------
    monitor
        Receives the progress of the stage "saving", and is asked for cancellation before each report.

    Attributes
    ----------
    span
        Completed fractions at the start and end of the current step; reports are scaled to it.
    """

    def __init__(self, monitor: RunMonitor) -> None:
        self._monitor = monitor
        self._error: BaseException | None = None
        self._fraction = 0.0
        self.span = 0.0, 1.0

    def report(self, fraction: float) -> bool:
        """Report the completed fraction of the current step, and return whether to continue."""
        if self._error is None:
            try:
                self._fraction = fraction
                self._monitor.check_canceled()
                self._monitor.report_fraction("saving", self.span[0] + fraction * (self.span[1] - self.span[0]))
            except BaseException as error:  # noqa: BLE001 - raise_pending raises it
                self._error = error
        return self._error is None

    def repeat(self) -> bool:
        """Report the completed fraction again during work that is not part of it, and return whether to continue."""
        return self.report(self._fraction)

    def record(self, error: BaseException) -> None:
        """Store an error of a thread; it stops the writing like a cancellation."""
        self._error = self._error or error

    def raise_pending(self) -> None:
        """Raise the stored error, if there is one; call it after all threads have ended."""
        if self._error is not None:
            raise self._error


def image_genes(result: UpsampleMetadata) -> dict[str, np.ndarray]:
    """Return the genes of each image, as ascending indices into the genes of the result.

    Parameters
    ----------
    result
        The result, with or without its matrices.

    Returns
    -------
    dict
        "counts": the genes that :func:`image_columns` selects. "expression": those of them that have expression; absent
        if none has.
    """
    columns = result.slide.gene_indices([str(gene) for gene in result.genes])
    return channel_columns(image_columns(result.slide, result.raster, columns), result.expression_columns)


def channel_columns(shown: np.ndarray, expression: np.ndarray) -> dict[str, np.ndarray]:
    """Return the channels of each image: see :func:`image_genes`.

    Parameters
    ----------
    shown
        The genes that :func:`image_columns` selects.
    expression
        The genes that have expression, as indices into the genes of the result.
    """
    with_expression = np.intersect1d(shown, expression)
    return {"counts": shown} | ({"expression": with_expression} if len(with_expression) else {})


def image_columns(slide: Slide, raster: Raster, columns: np.ndarray) -> np.ndarray:
    """Return the genes that get an image channel, as ascending indices into ``columns``.

    These are all genes within the limits :data:`MAX_IMAGE_GENES` and :data:`MAX_IMAGE_BYTES`, or else the most abundant
    ones by the total counts of the spots, so that they are known before the result is computed. The table always
    contains all genes.

    Parameters
    ----------
    slide
        The slide.
    raster
        The pixels of the result.
    columns
        The genes of the result, as columns of the slide's counts, shape (G,).
    """
    rows, cols = raster.shape
    n_channels = max(1, min(MAX_IMAGE_GENES, MAX_IMAGE_BYTES // (4 * rows * cols)))
    if len(columns) <= n_channels:
        return np.arange(len(columns))
    counts = slide.counts if len(raster.spots) == slide.n_spots else slide.counts[raster.spots]
    totals = gene_totals(counts)[columns]
    return np.sort(np.argsort(-totals, kind="stable")[:n_channels])


def expression_columns(slide: Slide, raster: Raster, columns: np.ndarray, choice: str | Sequence[str]) -> np.ndarray:
    """Return the genes whose expression a run estimates, as ascending indices into ``columns``.

    Parameters
    ----------
    slide
        The slide.
    raster
        The pixels of the result.
    columns
        The genes of the result, as columns of the slide's counts, shape (G,).
    choice
        The setting :attr:`~napari_srast.core.settings.UpsampleSettings.expression`. "auto" stands for all genes if they
        are at most :data:`MAX_EXPRESSION_GENES`, and pixels times genes are below :data:`MAX_EXPRESSION_ENTRIES`; or
        else for the genes of :func:`image_columns`.

    Raises
    ------
    InputError
        A named gene is not in the slide or not in the result.
    """
    if choice == "none":
        return no_columns()
    if choice == "auto":
        is_small = len(columns) <= MAX_EXPRESSION_GENES and raster.n_pixels * len(columns) < MAX_EXPRESSION_ENTRIES
        return np.arange(len(columns)) if is_small else image_columns(slide, raster, columns)
    position = {int(column): i for i, column in enumerate(columns)}
    wanted = slide.gene_indices(choice)
    missing = [column for column in wanted if int(column) not in position]
    if missing:
        raise InputError(
            f"The expression of gene '{slide.genes[missing[0]]}' was asked for, but the run does not compute this "
            "gene; add it to the genes of the run, or leave it out of --expression."
        )
    return np.unique([position[int(column)] for column in wanted])


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Content of an image.

    Parameters
    ----------
    name
        Name of the element.
    columns
        The genes of its channels, as indices into the genes of the result.
    read
        Returns the values of a channel.
    """

    name: str
    columns: np.ndarray
    read: ColumnReader


class ImageBuffer:
    """Values of the genes of an image, in memory or in a scratch file.

    Parameters
    ----------
    columns
        The genes, as columns of the tiles.
    n_pixels
        Number of pixels of the result.
    """

    def __init__(self, columns: np.ndarray, n_pixels: int) -> None:
        self._columns = columns
        size = len(columns) * n_pixels
        on_disk = allocate_on_disk([(size, np.float32)]) if 4 * size > _MAX_BYTES_IN_MEMORY else None
        values = np.zeros(size, dtype=np.float32) if on_disk is None else on_disk[0]
        self._values = values.reshape(len(columns), n_pixels)

    def add(self, rows: np.ndarray, tile: sparse.csr_matrix) -> None:
        """Take some rows (q,) of a matrix, shape (q, G)."""
        shown = tile if len(self._columns) == tile.shape[1] else tile[:, self._columns]
        self._values[:, rows] = shown.toarray().T
        release_pages(self._values)

    def read(self, channel: int) -> np.ndarray:
        """Return the values of a gene, given the index of its channel, shape (Q,)."""
        release_pages(self._values)  # of the genes before
        return np.asarray(self._values[channel])


def build_images(
    metadata: UpsampleMetadata, sources: Sequence[ImageSource], progress: DeferredErrors | None
) -> dict[str, DataArray | DataTree]:
    """Build lazy images, float32, shape (c, y, x), with one chunk per channel and 0 outside the pixels.

    Images above :data:`~napari_srast.io.image_levels.MAX_FLAT_SIDE` have coarser levels.

    Parameters
    ----------
    metadata
        The result, with or without its matrices.
    sources
        Content of each image.
    progress
        Receives a report before each channel.
    """
    n_channels = sum(len(source.columns) for source in sources)
    n_done = itertools.count()  # threads compute the channels in any order

    def starts() -> bool:
        return progress is None or progress.report(min(next(n_done) / n_channels, 1.0))

    return {source.name: _image(metadata, source, starts, progress) for source in sources}


def _image(
    metadata: UpsampleMetadata, source: ImageSource, starts: Callable[[], bool], progress: DeferredErrors | None
) -> DataArray | DataTree:
    import dask.array as da
    from spatialdata.models import Image2DModel

    rows, cols = metadata.raster.shape

    def channel(block_info: Any = None) -> np.ndarray:
        if starts():
            try:
                values = source.read(block_info[None]["chunk-location"][0])
                return to_dense_image(metadata.raster, values, np.float32)[None]
            except MemoryError as error:
                if progress is None:
                    raise
                progress.record(error)
        return np.broadcast_to(np.float32(0), (1, rows, cols))  # the store is discarded

    image = da.map_blocks(
        channel,
        chunks=((1,) * len(source.columns), (rows,), (cols,)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), dtype=np.float32),
    )
    transformations = to_affines(metadata.slide.transforms, first=metadata.raster.affine)
    genes = metadata.genes[source.columns].astype(str).tolist()
    levels = [
        Image2DModel.parse(level, dims=("c", "y", "x"), c_coords=genes, transformations=transformations)
        for level in (image, *coarser_images(image))
    ]
    return join_levels(levels, transformations, Image2DModel)


def build_labels(metadata: UpsampleMetadata) -> DataArray | DataTree:
    """Build the labels of the pixels, int32, shape (y, x): their instance ids, and 0 outside.

    Parameters
    ----------
    metadata
        The result, with or without its matrices.
    """
    import dask.array as da
    from spatialdata.models import Labels2DModel

    labels = to_dense_image(metadata.raster, instance_ids(metadata.raster), np.int32)
    transformations = to_affines(metadata.slide.transforms, first=metadata.raster.affine)
    levels = [
        Labels2DModel.parse(da.from_array(level, chunks=_LABEL_CHUNK), dims=("y", "x"), transformations=transformations)
        for level in (labels, *coarser_labels(labels))
    ]
    return join_levels(levels, transformations, Labels2DModel)


def instance_ids(raster: Raster) -> np.ndarray:
    """Return the ids of the pixels in the labels, the circles and the table: 1, 2, ..., shape (Q,)."""
    return np.arange(1, raster.n_pixels + 1)


def to_dense_image(raster: Raster, values: np.ndarray, dtype: type) -> np.ndarray:
    """Arrange (Q,) pixel values as an image (rows, columns), 0 where no pixel has a parent."""
    image: np.ndarray = np.zeros(raster.shape, dtype=dtype)
    image[raster.row, raster.col] = values
    return image


def column_reader(counts: sparse.csr_matrix, columns: np.ndarray) -> ColumnReader:
    """Return a function that extracts one column of a matrix.

    It extracts a few neighboring columns together, and never copies the whole matrix.

    Parameters
    ----------
    counts
        The matrix, CSR (Q, G).
    columns
        The columns, by index of their image channel.
    """
    group_size = max(1, _COLUMN_VALUES // max(counts.shape[0], 1))
    lock = threading.Lock()  # threads that need the same group wait for the first one to extract it

    @functools.lru_cache(maxsize=1)
    def extract(group: int) -> sparse.csc_matrix:
        return sparse.csc_matrix(counts[:, columns[group * group_size : (group + 1) * group_size]])

    def column(channel: int) -> np.ndarray:
        with lock:
            group = extract(channel // group_size)
        return group[:, [channel % group_size]].toarray()[:, 0]

    return column
