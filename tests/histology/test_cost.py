from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: the highest memory of a process that ran other tests would be theirs. And as /proc tells it:
# what getrusage tells holds the memory of the process that started this one.
PROGRAM = """
import json, time
from pathlib import Path
import dask.array as da
import numpy as np
from scipy import sparse
from napari_srast.histology import fit_image_expert
from napari_srast.core.slide import SlideImage

image = da.random.default_rng(0).integers(0, 256, (3, 10_000, 10_000), dtype=np.uint8, chunks=(3, 1024, 1024))
side = np.arange(71) * 140.0 + 70
x, y = np.meshgrid(side, side)
spots = np.random.default_rng(0).permutation(np.column_stack([x.ravel(), y.ravel()]))[:5000]
counts = sparse.random(5000, 3000, 0.2, format="csr", random_state=0, dtype=np.float32)
counts.data = np.ceil(counts.data * 5)
start = time.process_time()
fit_image_expert(counts, spots, 140.0, SlideImage(name="he", levels=(image,), to_intrinsic=(np.eye(3),)))
told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
highest = 1024 * int(told["VmHWM"].split()[0])
print(json.dumps({"seconds": time.process_time() - start, "highest": highest}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the highest memory of a process is not told here")
def test_a_large_slide_and_image_take_less_than_a_minute_and_two_gigabytes() -> None:
    output = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    cost = json.loads(output)
    assert cost["seconds"] < 60
    assert cost["highest"] < 2e9
