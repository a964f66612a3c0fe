"""Tests of the thread executor: equal bytes, cancellation, and the out-of-memory fallback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.results import same_bytes
from helpers.tiling import use_small_tiles

from napari_srast._utils.devices import available_devices
from napari_srast.api import upsample
from napari_srast.core.progress import Progress
from napari_srast.core.sinks import InMemorySink
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled
from napari_srast.inference.executors.fallback import OutOfMemoryFallback
from napari_srast.inference.executors.local import ThreadExecutor
from napari_srast.inference.methods import srast as srast_module
from napari_srast.models.pcfm import sampler as sampler_module

MakeSlide = Callable[..., Slide]
pytestmark = pytest.mark.usefixtures("short_fits")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_tiles(monkeypatch)


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize(
    ("method", "mode", "per_gene_limit"),
    [
        ("gp", "mean", 512),
        ("pycnophylactic", "integer", 512),
        ("srast", "mean", 512),
        ("srast", "sample", 512),
        ("srast", "mean", 3),
        ("srast", "integer", 3),
    ],
)
def test_number_of_workers_changes_no_byte(
    make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, method: str, mode: str, per_gene_limit: int, device: str
) -> None:
    monkeypatch.setattr(srast_module, "PER_GENE_LIMIT", per_gene_limit)
    monkeypatch.setattr(srast_module, "FLOW_PAIR_BUDGET", 0)
    slide = make_slide(9, 9, lattice="hex")
    options = {"method": method, "mode": mode, "factor": 2, "draws": 2, "steps": 2, "device": device}
    results = [upsample(slide, executor=ThreadExecutor(n), **options) for n in (1, 3)]
    assert same_bytes(results[0].counts, results[1].counts)
    assert results[0].counts.sum() == pytest.approx(slide.counts.sum(), rel=1e-6)
    if mode == "sample":
        assert same_bytes(results[0].std, results[1].std)
        assert same_bytes(results[0].expression_std, results[1].expression_std)


def test_number_of_workers_changes_no_byte_of_a_large_slide(
    make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(srast_module, "PER_GENE_LIMIT", 3)
    monkeypatch.setattr(srast_module, "FLOW_PAIR_BUDGET", 0)
    slide = make_slide(12, 12, lattice="square")
    small = upsample(slide, factor=2, device="cpu")
    monkeypatch.setattr(srast_module, "MAX_WHOLE_ROWS", 100)
    monkeypatch.setattr(srast_module, "LARGE_SLIDE_PAIR_BUDGET", 0)
    monkeypatch.setattr(sampler_module, "MAX_WHOLE_ROWS", 100)
    results = [upsample(slide, factor=2, device="cpu", executor=ThreadExecutor(n)) for n in (1, 3)]
    assert same_bytes(results[0].counts, results[1].counts)
    assert not same_bytes(results[0].counts, small.counts)  # fewer programs go through the network
    sums = results[0].raster.sum_to_spots(results[0].counts.toarray().astype(np.float64))
    np.testing.assert_allclose(sums, slide.counts.toarray(), rtol=1e-6)


def test_canceled_run_ends_all_workers(make_slide: MakeSlide) -> None:
    steps = []

    def should_stop() -> bool:
        return len(steps) > 4

    with pytest.raises(Cancelled):
        upsample(
            make_slide(9, 9), method="gp", executor=ThreadExecutor(2), should_stop=should_stop, progress=steps.append
        )


def test_failing_callback_ends_all_workers(make_slide: MakeSlide) -> None:
    def fail(step: Progress) -> None:
        if step.stage == "split":
            raise ZeroDivisionError

    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError) as caught:  # which holds the frames of the run
        upsample(make_slide(20, 20), method="pycnophylactic", executor=ThreadExecutor(2), progress=fail)
    assert caught.traceback
    started = set(threading.enumerate()) - before
    assert not [thread for thread in started if thread.name.startswith("napari-srast")]


def test_error_in_a_tile_is_raised(make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("napari_srast.inference.methods.interpolation.Interpolator", fail)
    with pytest.raises(ZeroDivisionError):
        upsample(make_slide(9, 9), method="gp")


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize(("largest", "notice"), [(8, "smaller parts"), (0, "on the CPU")])
def test_full_device_halves_the_tile_then_uses_the_cpu(
    make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, device: str, largest: int, notice: str
) -> None:
    """The device has memory for tiles of ``largest`` spots; a predictor on the CPU takes any."""
    from napari_srast.inference.methods.srast import PerGenePredictor

    slide = make_slide(9, 9)
    expected = upsample(slide, device=device, factor=2)
    bind, moved = PerGenePredictor.bind, []

    def bind_or_fail(self: PerGenePredictor, tile_input: Any, monitor: Any) -> object:
        if len(tile_input.tile.core_spots) > largest and self not in moved:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return bind(self, tile_input, monitor)

    to_device = PerGenePredictor.to_device

    def move(self: PerGenePredictor, device: str) -> object:
        moved.append(to_device(self, device))
        return moved[-1]

    monkeypatch.setattr(PerGenePredictor, "bind", bind_or_fail)
    monkeypatch.setattr(PerGenePredictor, "to_device", move)
    result = upsample(slide, device=device, factor=2, executor=ThreadExecutor(1))
    assert any(notice in warning for warning in result.provenance["notices"])
    assert bool(moved) == (largest == 0)
    np.testing.assert_allclose(result.counts.toarray(), expected.counts.toarray(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_tiles_wait_for_a_slow_sink(make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, n_workers: int) -> None:
    started, ahead, added = [], [], []
    predict, add = OutOfMemoryFallback.predict, InMemorySink.add
    monkeypatch.setattr(OutOfMemoryFallback, "predict", lambda self, *args: started.append(1) or predict(self, *args))

    def slowly(self: InMemorySink, *tile: Any) -> None:
        time.sleep(0.02)
        ahead.append(len(started) - len(added))
        add(self, *tile)
        added.append(1)

    monkeypatch.setattr(InMemorySink, "add", slowly)
    upsample(make_slide(16, 16), method="uniform", executor=ThreadExecutor(n_workers))
    assert len(added) > 8
    assert n_workers < max(ahead) <= 2 * n_workers
