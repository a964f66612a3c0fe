"""A failed write has ended in all threads before its error reaches the caller."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr
import zarr.storage._local as local_store

from napari_srast.core.progress import RunMonitor
from napari_srast.errors import Cancelled
from napari_srast.io.zarr_writes import reported_blocks, settle_zarr_writes, settled_writes


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first chunk fail immediately and delay the others, as on a disk that fills up."""
    put, first = local_store._put, threading.Event()

    def put_slowly(path: Path, *args: object, **kwargs: object) -> int:
        if path.name.startswith("zarr"):
            return put(path, *args, **kwargs)
        if not first.is_set():
            first.set()
            raise OSError(28, "No space left on device")
        time.sleep(0.3)
        return put(path, *args, **kwargs)

    monkeypatch.setattr(local_store, "_put", put_slowly)


def stays_removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    time.sleep(0.6)
    return not folder.exists()


@pytest.mark.usefixtures("slow_disk")
def test_pending_chunks_end_before_clean_up(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(8, 4), chunks=(1, 4), dtype="f4")
    with pytest.raises(OSError, match="No space left"):
        array[:] = 1.0
    settle_zarr_writes()
    assert stays_removed(tmp_path / "a.zarr")


@pytest.mark.usefixtures("slow_disk")
def test_pending_dask_tasks_end_before_the_error_is_raised(tmp_path: Path) -> None:
    def compute(block: np.ndarray) -> np.ndarray:
        time.sleep(0.2 * float(block.max()))
        return block

    values = da.from_array(np.arange(8.0)[:, None] * np.ones((1, 4)), chunks=(1, 4)).map_blocks(compute, dtype=float)
    target = zarr.create_array(tmp_path / "a.zarr", shape=(8, 4), chunks=(1, 4), dtype="f8")
    with pytest.raises(OSError, match="No space left"), settled_writes():
        da.store(values, target, lock=False)
    assert stays_removed(tmp_path / "a.zarr")


def test_blocks_are_reported_and_canceled_in_their_thread_only() -> None:
    fractions: list[float] = []
    array = da.ones((8, 8), chunks=4) + 1
    with reported_blocks(RunMonitor(on_progress=lambda step: fractions.append(step.fraction)), "writing", (64, 192)):
        array.compute()
        first = len(fractions)
        array.compute()
    assert fractions == sorted(fractions)
    assert fractions[first - 1] == pytest.approx(0.25)
    assert fractions[-1] == pytest.approx(1)
    others: list[float] = []
    with reported_blocks(RunMonitor(should_stop=lambda: True), "writing", (64,)):
        thread = threading.Thread(target=lambda: others.append(float(array.sum().compute())))
        thread.start()
        thread.join()
        with pytest.raises(Cancelled):
            array.compute()
    assert others == [128]
    assert float(array.sum().compute()) == 128
