"""What lies on disk for a while is read as it was written, also where the disk fills up; room is used again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_srast._utils.scratch_file import ScratchFile, ScratchSlice


def test_parts_of_arrays_are_read() -> None:
    scratch, rng = ScratchFile(), np.random.default_rng(0)
    arrays = [(rng.integers(0, 9, n).astype(np.int32), rng.random(n).astype(np.float32)) for n in (5, 0, 70_000)]
    kept = [scratch.keep(*pair) for pair in arrays]
    for one, pair in zip(kept, arrays, strict=True):
        assert one is not None
        for first, last in ((0, len(pair[0])), (len(pair[0]) // 2, len(pair[0])), (0, 0)):
            for got, array in zip(one.read(first, last), pair, strict=True):
                np.testing.assert_array_equal(got, array[first:last])
    scratch.close()


def test_room_of_what_is_forgotten_is_used_again() -> None:
    scratch, held, most = ScratchFile(), [], 0
    rng = np.random.default_rng(1)
    for step in range(300):
        array = np.full(rng.integers(500, 1500), step, dtype=np.float32)
        kept = scratch.keep(array)
        assert isinstance(kept, ScratchSlice)
        held.append((kept, array))
        most = max(most, kept.place + kept.size)
        if len(held) > 5:
            scratch.forget(held.pop(0)[0])
        for one, expected in held:
            np.testing.assert_array_equal(one.read(0, len(expected))[0], expected)
    assert most < 20 * 1500 * 4  # of 300
    scratch.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs the limits of POSIX")
def test_a_disk_that_fills_up_takes_no_more_and_gives_back_what_it_has(tmp_path: Path) -> None:
    """What was not taken must not stay in a buffer: every later access would try to write it again."""
    code = """
import resource, signal
import numpy as np
from napari_srast._utils.scratch_file import Scratch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
scratch = Scratch()
kept = [scratch.keep(np.full(700, i, dtype=np.float32), np.full(700, -i, dtype=np.int32)) for i in range(8)]
assert [one is not None for one in kept] == [True] * 3 + [False] * 5, kept
for i, one in enumerate(kept[:3]):
    a, b = one.read(0, 700)
    assert (a == i).all() and (b == -i).all()
scratch.forget(kept[1])
again = scratch.keep(np.full(600, 9, dtype=np.float32), np.full(600, 8, dtype=np.int32))
assert (again.read(0, 600)[0] == 9).all() and (kept[2].read(0, 700)[0] == 2).all()
scratch.close()
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
