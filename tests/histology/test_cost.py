from __future__ import annotations

import json
import subprocess
import sys

import pytest

# In a process of its own: the highest memory of a process that ran other tests would be theirs.
PROGRAM = """
import json, resource, sys, time
import dask.array as da
import numpy as np
from scipy import sparse
from napari_srast.histology import fit_image_expert
from napari_srast.slide import SlideImage

image = da.random.default_rng(0).integers(0, 256, (3, 10_000, 10_000), dtype=np.uint8, chunks=(3, 1024, 1024))
side = np.arange(71) * 140.0 + 70
x, y = np.meshgrid(side, side)
spots = np.random.default_rng(0).permutation(np.column_stack([x.ravel(), y.ravel()]))[:5000]
counts = sparse.random(5000, 3000, 0.2, format="csr", random_state=0, dtype=np.float32)
counts.data = np.ceil(counts.data * 5)
start = time.process_time()
fit_image_expert(counts, spots, 140.0, SlideImage(name="he", levels=(image,), to_intrinsic=(np.eye(3),)))
highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # bytes
print(json.dumps({"seconds": time.process_time() - start, "highest": highest}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the highest memory of a process is not told there")
def test_a_large_slide_and_image_take_less_than_a_minute_and_two_gigabytes() -> None:
    output = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    cost = json.loads(output)
    assert cost["seconds"] < 60
    assert cost["highest"] < 2e9
