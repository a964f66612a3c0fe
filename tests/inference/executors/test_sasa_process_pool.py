"""Tests of fits in other processes: equal bytes, prompt cancellation, and a fallback to this process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from napari_srast._utils.threads import single_threaded
from napari_srast.api import upsample
from napari_srast.core.progress import RunMonitor
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled
from napari_srast.geometry.lattice import Lattice, detect_lattice
from napari_srast.inference.executors import sasa_process_pool as module
from napari_srast.inference.executors.local import ThreadExecutor
from napari_srast.inference.executors.sasa_process_pool import SasaProcessPool
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.fitting import fit_sasa

pytest.importorskip("loky")
QUICK = SasaConfig(epochs=20, n_components=10)
LONG = SasaConfig(epochs=100_000, n_components=10)


@pytest.fixture(scope="module")
def process_pool() -> Iterator[SasaProcessPool]:
    processes = SasaProcessPool()
    processes.prepare()
    _wait_until_ready(processes)
    yield processes
    processes.close()


@pytest.fixture
def slide() -> tuple[sparse.csr_matrix, np.ndarray, Lattice]:
    rng = np.random.default_rng(0)
    row, col = (a.ravel() for a in np.mgrid[:9, :9])
    counts = sparse.csr_matrix(rng.poisson(np.where(col[:, None] > 4, [4.0, 1.0] * 10, [1.0, 4.0] * 10)))
    centers = np.column_stack([col, row]) * 100.0
    return counts.astype(np.float32), centers, detect_lattice(centers)


def _wait_until_ready(processes: SasaProcessPool) -> None:
    end = time.monotonic() + 120
    while not processes.is_ready:
        assert time.monotonic() < end
        time.sleep(0.05)


def _fit_only(in_other_process: bool) -> Callable[..., Any]:
    """Return a fit that fails in this process, or in other processes."""
    this_process = os.getpid()

    def fit(*arguments: Any, **options: Any) -> Any:
        from napari_srast.models.sasa.fitting import fit_sasa

        if (os.getpid() == this_process) is in_other_process:
            raise LookupError("not in this process")
        return fit_sasa(*arguments, **options)

    return fit


def test_fit_in_another_process_has_the_same_bytes(
    process_pool: SasaProcessPool, slide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with single_threaded():
        expected = fit_sasa(*slide, config=QUICK, seed=3)
    monkeypatch.setattr(module, "_fit", _fit_only(in_other_process=True))
    pool = process_pool.fit(*slide, config=QUICK, seed=3)
    for name in ("latent", "raw_latent", "components", "totals"):
        np.testing.assert_array_equal(getattr(pool, name), getattr(expected, name))
    assert (pool.context != expected.context).nnz == 0


def test_run_with_a_process_pool_has_the_same_bytes(
    process_pool: SasaProcessPool, make_slide: Callable[..., Slide]
) -> None:
    slide = make_slide(12, 12)
    pooled = upsample(slide, executor=ThreadExecutor(fit=process_pool.fit), seed=5)
    local = upsample(slide, seed=6)  # another seed is not in the cache
    assert (local.counts != pooled.counts).nnz > 0
    from napari_srast.inference import fitted_slide

    fitted_slide._cache.clear()
    local = upsample(slide, seed=5)
    assert (local.counts != pooled.counts).nnz == 0


def test_failed_process_falls_back_to_this_process(
    process_pool: SasaProcessPool, slide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_fit", _fit_only(in_other_process=False))
    assert process_pool.fit(*slide, config=QUICK).latent.shape == (81, QUICK.latent)
    assert process_pool.is_ready


def test_large_slides_and_gpus_use_this_process(
    process_pool: SasaProcessPool, slide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_fit", lambda *_, **options: options["device"])
    assert process_pool.fit(*slide, device="cuda") == "cuda"
    monkeypatch.setattr(module, "_MAX_BYTES", 100)
    assert process_pool.fit(*slide) == "cpu"


def test_canceled_and_killed_processes_are_replaced(process_pool: SasaProcessPool, slide: Any) -> None:
    start = time.monotonic()
    with pytest.raises(Cancelled):
        process_pool.fit(*slide, config=LONG, monitor=RunMonitor(should_stop=lambda: time.monotonic() > start + 1))
    assert time.monotonic() < start + 10
    assert not process_pool.is_ready  # new processes are loading
    start = time.monotonic()
    process_pool.fit(*slide, config=QUICK)  # in either process, after a short wait
    _wait_until_ready(process_pool)
    processes = process_pool._processes
    assert processes is not None
    for process in list(processes._processes.values()):
        os.kill(process.pid, signal.SIGKILL)
    assert process_pool.fit(*slide, config=QUICK).latent.shape == (81, QUICK.latent)
    _wait_until_ready(process_pool)


def test_fit_without_loky_uses_this_process(slide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "loky", None)
    processes = SasaProcessPool()
    processes.prepare()
    assert not processes.is_ready
    assert processes.fit(*slide, config=QUICK).latent.shape == (81, QUICK.latent)
    processes.close()
