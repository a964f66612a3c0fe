"""A result is put together in its order, in memory or on disk, and a full disk costs memory alone."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from scipy import sparse

from napari_srast import api
from napari_srast._utils import scratch_file
from napari_srast.core import sinks as assembly_module
from napari_srast.core.sinks import InMemorySink

N_PIXELS, N_GENES = 1000, 50


def assembled(in_memory: int, seed: int = 0) -> tuple[sparse.csr_matrix, list[sparse.csr_matrix]]:
    """Return counts, and what comes of them in pieces of scattered rows: counts and standard deviations."""
    whole = sparse.random(N_PIXELS, N_GENES, 0.3, format="csr", dtype=np.float32, random_state=seed)
    whole.sort_indices()
    rows = np.random.default_rng(seed).permutation(N_PIXELS)
    pieces = InMemorySink(N_PIXELS, N_GENES, in_memory)
    for start in range(0, N_PIXELS, 130):
        some = rows[start : start + 130]
        pieces.add(some, whole[some], 2 * whole[some])
    return whole, list(pieces.finish())


def same(a: sparse.csr_matrix, b: sparse.csr_matrix) -> bool:
    parts = ("data", "indices", "indptr")
    return all(
        getattr(a, part).dtype == getattr(b, part).dtype and np.array_equal(getattr(a, part), getattr(b, part))
        for part in parts
    )


@pytest.mark.parametrize("in_memory", [0, 30_000, 10**9], ids=["disk", "both", "memory"])
def test_pieces_give_the_whole(in_memory: int) -> None:
    whole, (counts, spread) = assembled(in_memory)
    assert same(counts, whole)
    assert same(spread, 2 * whole)


def test_one_piece_is_the_whole() -> None:
    whole = sparse.random(40, 9, 0.5, format="csr", dtype=np.float32, random_state=1)
    for in_memory in (0, 10**9):
        order = np.arange(40)[::-1]
        single = InMemorySink(40, 9, in_memory)
        single.add(order, whole[order], None)
        counts, spread = single.finish()
        assert spread is None
        assert same(counts, whole)


def test_nothing_at_all() -> None:
    counts, _ = InMemorySink(3, 2).finish()
    assert counts.shape == (3, 2)
    assert counts.nnz == 0


@pytest.mark.parametrize("where", ["_reserve", "_unnamed"])
def test_a_full_disk_costs_memory_alone(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch_file, where, full)
    whole, (counts, spread) = assembled(0)
    assert same(counts, whole)
    assert same(spread, 2 * whole)


def test_room_is_taken_at_once_where_the_system_cannot_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(scratch_file.os, "posix_fallocate", raising=False)
    monkeypatch.setattr(scratch_file, "_ZEROS", 100)
    whole, (counts, _) = assembled(0)
    assert same(counts, whole)


def test_a_run_on_disk_gives_the_bytes_of_one_in_memory(make_slide, monkeypatch, tmp_path) -> None:
    slide = make_slide(9, 9)
    expected = api.upsample(slide, method="pycnophylactic", mode="integer")
    assert assembly_module.IN_MEMORY > 0
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(api, "InMemorySink", lambda *shape: InMemorySink(*shape, in_memory=0))
    result = api.upsample(slide, method="pycnophylactic", mode="integer")
    assert same(result.counts, expected.counts)
    assert not list(tmp_path.iterdir())  # nothing that could be left behind has a name
    written = result.write(tmp_path / "result.zarr")
    again = expected.write(tmp_path / "expected.zarr")
    names = [next((path / "tables").glob("*_table/X/data/c/0")).read_bytes() for path in (written, again)]
    assert names[0] == names[1]
