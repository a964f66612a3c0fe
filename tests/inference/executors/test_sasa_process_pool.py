"""Fits in processes beside a window: the same bytes, a stop that is felt, and nothing lost where they fail."""

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
def elsewhere() -> Iterator[SasaProcessPool]:
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


def _only(there: bool) -> Callable[..., Any]:
    """Return a fit that fails in other processes, or in this one alone."""
    here = os.getpid()

    def fit(*arguments: Any, **options: Any) -> Any:
        from napari_srast.models.sasa.fitting import fit_sasa

        if (os.getpid() == here) is there:
            raise LookupError("not in this process")
        return fit_sasa(*arguments, **options)

    return fit


def test_a_fit_is_done_there_with_the_same_bytes(
    elsewhere: SasaProcessPool, slide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with single_threaded():
        expected = fit_sasa(*slide, config=QUICK, seed=3)
    monkeypatch.setattr(module, "_fit", _only(there=True))
    pool = elsewhere.fit(*slide, config=QUICK, seed=3)
    for name in ("latent", "raw_latent", "components", "totals"):
        np.testing.assert_array_equal(getattr(pool, name), getattr(expected, name))
    assert (pool.context != expected.context).nnz == 0


def test_a_run_has_the_same_bytes(elsewhere: SasaProcessPool, make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(12, 12)
    there = upsample(slide, executor=ThreadExecutor(fit=elsewhere.fit), seed=5)
    here = upsample(slide, seed=6)  # so that nothing is kept
    assert (here.counts != there.counts).nnz > 0
    from napari_srast.inference import fitted_slide

    fitted_slide._cache.clear()
    here = upsample(slide, seed=5)
    assert (here.counts != there.counts).nnz == 0


def test_what_fails_there_is_done_here(elsewhere: SasaProcessPool, slide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_fit", _only(there=False))
    assert elsewhere.fit(*slide, config=QUICK).latent.shape == (81, QUICK.latent)
    assert elsewhere.is_ready


def test_large_slides_and_those_of_a_gpu_are_fitted_here(
    elsewhere: SasaProcessPool, slide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_fit", lambda *_, **options: options["device"])
    assert elsewhere.fit(*slide, device="cuda") == "cuda"
    monkeypatch.setattr(module, "_LARGEST", 100)
    assert elsewhere.fit(*slide) == "cpu"


def test_a_stop_ends_a_fit_at_once_and_a_killed_process_is_replaced(elsewhere: SasaProcessPool, slide: Any) -> None:
    start = time.monotonic()
    with pytest.raises(Cancelled):
        elsewhere.fit(*slide, config=LONG, should_stop=lambda: time.monotonic() > start + 1)
    assert time.monotonic() < start + 10
    assert not elsewhere.is_ready  # it is being made ready again
    start = time.monotonic()
    elsewhere.fit(*slide, config=QUICK)  # after a moment of patience, there or here
    _wait_until_ready(elsewhere)
    processes = elsewhere._processes
    assert processes is not None
    for process in list(processes._processes.values()):
        os.kill(process.pid, signal.SIGKILL)
    assert elsewhere.fit(*slide, config=QUICK).latent.shape == (81, QUICK.latent)
    _wait_until_ready(elsewhere)


def test_without_loky_a_fit_is_done_here(slide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "loky", None)
    processes = SasaProcessPool()
    processes.prepare()
    assert not processes.is_ready
    assert processes.fit(*slide, config=QUICK).latent.shape == (81, QUICK.latent)
    processes.close()
