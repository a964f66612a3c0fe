"""Tiles on a device whose memory is full: halved, and at last on the CPU, with the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from napari_srast.core.progress import RunMonitor
from napari_srast.errors import Cancelled
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.executors.fallback import OutOfMemoryFallback
from napari_srast.inference.methods.base import Block, TileInput, TilePredictor
from napari_srast.inference.tiles import Tiling

N_GENES = 5


class Predictor(TilePredictor):
    """Predict the number of the pixel plus that of the gene, in tiles of at most ``largest`` core spots."""

    def __init__(self, largest: int, *, fits_cpu: bool = True, sizes: list[int] | None = None) -> None:
        self._largest, self._fits_cpu = largest, fits_cpu
        self.sizes: list[int] = [] if sizes is None else sizes

    def bind(self, tile_input: TileInput, monitor: RunMonitor) -> Callable[[slice], Block]:
        n_spots = len(tile_input.tile.core_spots)
        self.sizes.append(n_spots)
        if n_spots > self._largest:
            raise torch.cuda.OutOfMemoryError("out of memory")
        values = tile_input.tile.rows[:, None] + 100.0 * (1 + np.arange(N_GENES))

        def predict(block: slice) -> Block:
            return sparse.csc_matrix(values[:, block]), sparse.csc_matrix(values[:, block] / 2)

        return predict

    def blocks(self, n_pixels: int) -> list[slice]:
        return [slice(0, 3), slice(3, N_GENES)]

    def to_device(self, device: str) -> Predictor:
        assert device == "cpu"
        return Predictor(10**6 if self._fits_cpu else 0, sizes=self.sizes)


@pytest.fixture(scope="module")
def tile_input() -> TileInput:
    """A tile of 36 spots and 144 pixels, all of the slide."""
    centers = 100.0 * np.argwhere(np.ones((6, 6)))
    layout = SpotPixelMap.of_raster(centers, make_raster(centers, factor=2))
    tile = Tiling(layout, np.ones(layout.n_pixels, dtype=bool)).tile(0)
    assert (len(tile.core_spots), len(tile.rows)) == (36, 144)
    counts = sparse.csr_matrix((36, N_GENES), dtype=np.float32)
    return TileInput(tile=tile, counts=counts, embedding=None, fields=None)


def expected(tile_input: TileInput) -> np.ndarray:
    return tile_input.tile.rows[:, None] + 100.0 * (1 + np.arange(N_GENES))


@pytest.mark.parametrize(
    ("largest", "warning"), [(36, None), (9, "smaller parts"), (1, "rest was computed on the CPU")]
)
def test_full_device_changes_no_number(tile_input: TileInput, largest: int, warning: str | None) -> None:
    fallback = OutOfMemoryFallback(Predictor(largest))
    counts, std = fallback.predict(tile_input)
    np.testing.assert_array_equal(counts.toarray(), expected(tile_input).astype(np.float32))
    assert std is not None
    np.testing.assert_array_equal(std.toarray(), expected(tile_input).astype(np.float32) / 2)
    assert counts.dtype == np.float32
    assert bool(fallback.warnings) == (warning is not None)
    assert warning is None or warning in fallback.warnings[-1]
    assert len(set(fallback.warnings)) == len(fallback.warnings)


def test_next_tile_starts_with_the_size_that_fits(tile_input: TileInput) -> None:
    predictor = Predictor(9)
    fallback = OutOfMemoryFallback(predictor)
    fallback.predict(tile_input)
    predictor.sizes.clear()
    fallback.predict(tile_input)
    assert max(predictor.sizes) == 9
    assert len(predictor.sizes) == 4


def test_full_cpu_and_other_errors_are_raised(tile_input: TileInput) -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError):
        OutOfMemoryFallback(Predictor(0, fits_cpu=False)).predict(tile_input)

    class Broken(Predictor):
        def bind(self, *_: Any) -> Callable[[slice], Block]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        OutOfMemoryFallback(Broken(36)).predict(tile_input)


def test_cancellation_is_checked_between_blocks_of_genes(tile_input: TileInput) -> None:
    blocks: list[int] = []
    monitor = RunMonitor(should_stop=lambda: len(blocks) == 1)
    with pytest.raises(Cancelled):
        OutOfMemoryFallback(Predictor(36)).predict(tile_input, monitor, lambda: blocks.append(1))
    assert blocks == [1]
