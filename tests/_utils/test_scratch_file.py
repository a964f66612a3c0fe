"""Tests of temporary storage on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_srast._utils.scratch_file import ScratchFile, ScratchSlice, allocate_on_disk, release_pages


def test_slices_of_arrays_are_read_as_written() -> None:
    scratch, rng = ScratchFile(), np.random.default_rng(0)
    arrays = [(rng.integers(0, 9, n).astype(np.int32), rng.random(n).astype(np.float32)) for n in (5, 0, 70_000)]
    stored = [scratch.write(*pair) for pair in arrays]
    for one, pair in zip(stored, arrays, strict=True):
        assert one is not None
        for first, last in ((0, len(pair[0])), (len(pair[0]) // 2, len(pair[0])), (0, 0)):
            for got, array in zip(one.read(first, last), pair, strict=True):
                np.testing.assert_array_equal(got, array[first:last])
    scratch.close()


def test_released_space_is_used_again() -> None:
    scratch, live, end = ScratchFile(), [], 0
    rng = np.random.default_rng(1)
    for step in range(300):
        array = np.full(rng.integers(500, 1500), step, dtype=np.float32)
        stored = scratch.write(array)
        assert isinstance(stored, ScratchSlice)
        live.append((stored, array))
        end = max(end, stored.offset + stored.size)
        if len(live) > 5:
            scratch.release(live.pop(0)[0])
        for one, expected in live:
            np.testing.assert_array_equal(one.read(0, len(expected))[0], expected)
    assert end < 20 * 1500 * 4  # of 300
    scratch.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the pages")
def test_released_pages_keep_their_values_and_take_no_memory() -> None:
    import psutil

    process, size = psutil.Process(), 1 << 23
    arrays = allocate_on_disk([(size, np.float32), (10, np.int32)])
    assert arrays is not None
    before = process.memory_info().rss
    arrays[0].reshape(2, -1)[1] = 7
    arrays[1][:] = np.arange(10)
    assert process.memory_info().rss - before > 2 * size - 1e6
    release_pages(arrays[0].reshape(2, -1))
    assert process.memory_info().rss - before < size / 2
    np.testing.assert_array_equal(arrays[1], np.arange(10))
    assert arrays[0][: size // 2].max() == 0
    assert arrays[0][size // 2 :].min() == 7


def test_pages_of_other_arrays_cannot_be_released() -> None:
    array = np.ones(5)
    release_pages(array[1:])
    np.testing.assert_array_equal(array, np.ones(5))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs the limits of POSIX")
def test_full_disk_refuses_writes_and_stays_readable(tmp_path: Path) -> None:
    """A write that failed must not stay in a buffer, because every later access would try it again."""
    code = """
import resource, signal
import numpy as np
from napari_srast._utils.scratch_file import ScratchFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
scratch = ScratchFile()
stored = [scratch.write(np.full(700, i, dtype=np.float32), np.full(700, -i, dtype=np.int32)) for i in range(8)]
assert [one is not None for one in stored] == [True] * 3 + [False] * 5, stored
for i, one in enumerate(stored[:3]):
    a, b = one.read(0, 700)
    assert (a == i).all() and (b == -i).all()
scratch.release(stored[1])
again = scratch.write(np.full(600, 9, dtype=np.float32), np.full(600, 8, dtype=np.int32))
assert (again.read(0, 600)[0] == 9).all() and (stored[2].read(0, 700)[0] == 2).all()
scratch.close()
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert process.returncode == 0, process.stderr
    assert list(tmp_path.iterdir()) == []
