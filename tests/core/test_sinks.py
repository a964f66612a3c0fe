"""Tests of sinks that assemble a result from its tiles, in memory or on disk."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from helpers.results import same_bytes
from scipy import sparse

from napari_srast import api
from napari_srast._utils import scratch_file
from napari_srast.core.sinks import InMemorySink, ResultPlan
from napari_srast.core.slide import Slide

N_PIXELS, N_GENES = 1000, 50
MakeSlide = Callable[..., Slide]


def planned_sink(n_pixels: int, n_genes: int, memory_limit: int) -> InMemorySink:
    """Return a sink that has begun a result of a size, and accepts all counts."""
    sink = InMemorySink(memory_limit)
    raster = cast(Any, SimpleNamespace(n_pixels=n_pixels))
    columns = np.arange(n_genes)
    sink.begin(
        ResultPlan(slide=cast(Any, None), raster=raster, columns=columns, with_std=True, validate=lambda *_: None)
    )
    return sink


def assembled(memory_limit: int, seed: int = 0) -> tuple[sparse.csr_matrix, InMemorySink]:
    """Return counts, and a sink that assembled them from tiles of scattered rows, with doubled counts as std."""
    expected = sparse.random(N_PIXELS, N_GENES, 0.3, format="csr", dtype=np.float32, random_state=seed)
    expected.sort_indices()
    rows = np.random.default_rng(seed).permutation(N_PIXELS)
    sink = planned_sink(N_PIXELS, N_GENES, memory_limit)
    for start in range(0, N_PIXELS, 130):
        tile = rows[start : start + 130]
        sink.add(tile, expected[tile], 2 * expected[tile])
    sink.assemble()
    return expected, sink


@pytest.mark.parametrize("memory_limit", [0, 30_000, 10**9], ids=["disk", "both", "memory"])
def test_tiles_are_assembled_in_order(memory_limit: int) -> None:
    expected, sink = assembled(memory_limit)
    assert same_bytes(sink.counts, expected)
    assert same_bytes(sink.std, 2 * expected)


@pytest.mark.parametrize("memory_limit", [0, 10**9], ids=["disk", "memory"])
def test_single_tile_is_the_result(memory_limit: int) -> None:
    expected = sparse.random(40, 9, 0.5, format="csr", dtype=np.float32, random_state=1)
    rows = np.arange(40)[::-1]
    sink = planned_sink(40, 9, memory_limit)
    sink.add(rows, expected[rows], None)
    sink.assemble()
    assert sink.std is None
    assert same_bytes(sink.counts, expected)


def test_expression_is_assembled_like_counts() -> None:
    expected = sparse.random(200, 9, 0.5, format="csr", dtype=np.float32, random_state=1)
    rows = np.random.default_rng(0).permutation(200)
    sink = planned_sink(200, 9, 500)
    for start in range(0, 200, 30):
        tile = rows[start : start + 30]
        sink.add(tile, expected[tile], None, 3 * expected[tile], 4 * expected[tile])
    sink.assemble()
    assert same_bytes(sink.counts, expected)
    assert same_bytes(sink.expression, 3 * expected)
    assert same_bytes(sink.expression_std, 4 * expected)
    assert sink.std is None


def test_tile_without_a_layer_of_the_others_is_refused() -> None:
    tile = sparse.random(5, 3, 0.5, format="csr", dtype=np.float32, random_state=1)
    sink = planned_sink(10, 3, 500)
    sink.add(np.arange(5), tile, None, tile)
    sink.add(np.arange(5, 10), tile, None)
    with pytest.raises(ValueError, match="lack a layer"):
        sink.assemble()


def test_result_without_tiles_is_empty() -> None:
    sink = planned_sink(3, 2, 0)
    sink.assemble()
    assert sink.counts.shape == (3, 2)
    assert sink.counts.nnz == 0


@pytest.mark.parametrize("function", ["_reserve", "_open_unnamed"])
def test_full_scratch_disk_falls_back_to_memory(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch_file, function, fail)
    expected, sink = assembled(0)
    assert same_bytes(sink.counts, expected)
    assert same_bytes(sink.std, 2 * expected)


def test_scratch_file_is_filled_where_it_cannot_be_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(scratch_file.os, "posix_fallocate", raising=False)
    monkeypatch.setattr(scratch_file, "_ZEROS_PER_WRITE", 100)
    expected, sink = assembled(0)
    assert same_bytes(sink.counts, expected)


def test_run_on_disk_gives_the_bytes_of_one_in_memory(
    make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slide = make_slide(9, 9)
    expected = api.upsample(slide, method="pycnophylactic", mode="integer")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(api, "InMemorySink", lambda: InMemorySink(memory_limit=0))
    result = api.upsample(slide, method="pycnophylactic", mode="integer")
    assert same_bytes(result.counts, expected.counts)
    assert not list(tmp_path.iterdir())  # scratch files have no name that could be left behind
    stores = [result.write(tmp_path / "result.zarr"), expected.write(tmp_path / "expected.zarr")]
    written, again = (next((store / "tables").glob("*_table/X/data/c/0")).read_bytes() for store in stores)
    assert written == again
