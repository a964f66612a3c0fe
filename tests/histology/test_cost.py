"""Test time and memory of the image on a large slide, from its features to the prediction of all pixels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# A separate process, because the peak memory of this one includes other tests; and /proc, because getrusage includes
# the memory of the parent process.
PROGRAM = """
import json, time
from pathlib import Path
import dask.array as da
import numpy as np
from scipy import sparse
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology import fit_image_expert, fit_image_predictor
from napari_srast.core.slide import SlideImage

image = da.random.default_rng(0).integers(0, 256, (3, 10_000, 10_000), dtype=np.uint8, chunks=(3, 1024, 1024))
side = np.arange(71) * 140.0 + 70
x, y = np.meshgrid(side, side)
spots = np.random.default_rng(0).permutation(np.column_stack([x.ravel(), y.ravel()]))[:5000]
counts = sparse.random(5000, 3000, 0.2, format="csr", random_state=0, dtype=np.float32)
counts.data = np.ceil(counts.data * 5)
start = time.process_time()
image = SlideImage(name="he", levels=(image,), to_intrinsic=(np.eye(3),))
expert = fit_image_expert(counts, spots, 140.0, image)
predictor = fit_image_predictor(expert, counts, np.zeros(2), 140.0**2)
predictor.predict(SpotPixelMap.of_raster(spots, make_raster(spots, factor=8)))
predictor.field_loadings(counts)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak_memory = 1024 * int(status["VmHWM"].split()[0])
print(json.dumps({"seconds": time.process_time() - start, "peak_memory": peak_memory}))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="this system does not report the peak memory of a process"
)
def test_large_slide_needs_less_than_a_minute_and_2_gb() -> None:
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # waiting threads would add to the processor time
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=one_thread
    ).stdout
    cost = json.loads(output)
    assert cost["seconds"] < 60
    assert cost["peak_memory"] < 2e9
