from __future__ import annotations

import resource
import time

import dask.array as da
import numpy as np
import pytest
from scipy import sparse

from napari_srast.histology import fit_image_expert
from napari_srast.slide import SlideImage


@pytest.mark.slow
def test_a_large_slide_and_image_take_less_than_a_minute_and_two_gigabytes() -> None:
    image = da.random.default_rng(0).integers(0, 256, (3, 10_000, 10_000), dtype=np.uint8, chunks=(3, 1024, 1024))
    side = np.arange(71) * 140.0 + 70
    x, y = np.meshgrid(side, side)
    spots = np.random.default_rng(0).permutation(np.column_stack([x.ravel(), y.ravel()]))[:5000]
    counts = sparse.random(5000, 3000, 0.2, format="csr", random_state=0, dtype=np.float32)
    counts.data = np.ceil(counts.data * 5)
    start = time.process_time()
    fit_image_expert(counts, spots, 140.0, SlideImage(name="he", levels=(image,), to_intrinsic=(np.eye(3),)))
    assert time.process_time() - start < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2e6  # kilobytes, of the whole process so far
