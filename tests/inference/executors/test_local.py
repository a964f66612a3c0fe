"""The number of workers changes nothing; a device without memory costs time alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from napari_srast._utils.devices import available_devices
from napari_srast.api import upsample
from napari_srast.core.progress import Progress
from napari_srast.core.result import UpsampleResult
from napari_srast.core.sinks import InMemorySink
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled
from napari_srast.inference import tiles
from napari_srast.inference.executors.fallback import OutOfMemoryFallback
from napari_srast.inference.executors.local import ThreadExecutor
from napari_srast.inference.methods import srast as srast_module

MakeSlide = Callable[..., Slide]


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_MAX_PIXELS", 60)
    monkeypatch.setattr(tiles, "_MIN_SPOTS", 1)


def same_bytes(a: UpsampleResult, b: UpsampleResult) -> bool:
    parts = ("data", "indices", "indptr")
    return all(getattr(a.counts, part).tobytes() == getattr(b.counts, part).tobytes() for part in parts)


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize(
    ("method", "mode", "full_genes"),
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
    make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, method: str, mode: str, full_genes: int, device: str
) -> None:
    monkeypatch.setattr(srast_module, "PER_GENE_LIMIT", full_genes)
    monkeypatch.setattr(srast_module, "FLOW_PAIR_BUDGET", 0)
    slide = make_slide(9, 9, lattice="hex")
    options = {"method": method, "mode": mode, "factor": 2, "draws": 2, "steps": 2, "device": device}
    results = [upsample(slide, executor=ThreadExecutor(n), **options) for n in (1, 3)]
    assert same_bytes(*results)
    assert results[0].counts.sum() == pytest.approx(slide.counts.sum(), rel=1e-6)
    if mode == "sample":
        assert results[0].std.data.tobytes() == results[1].std.data.tobytes()


def test_stopping_ends_all_workers(make_slide: MakeSlide) -> None:
    told = []

    def should_stop() -> bool:
        return len(told) > 4

    with pytest.raises(Cancelled):
        upsample(
            make_slide(9, 9), method="gp", executor=ThreadExecutor(2), should_stop=should_stop, progress=told.append
        )


def test_nothing_computes_on_where_who_watches_fails(make_slide: MakeSlide) -> None:
    def fail(step: Progress) -> None:
        if step.stage == "split":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:  # which holds the frames of the run
        upsample(make_slide(20, 20), method="pycnophylactic", executor=ThreadExecutor(2), progress=fail)
    assert caught.traceback
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("napari-srast")]


def test_an_error_in_a_unit_is_raised(make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("napari_srast.inference.methods.interpolation.Interpolator", fail)
    with pytest.raises(ZeroDivisionError):
        upsample(make_slide(9, 9), method="gp")


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize(("largest", "notice"), [(8, "smaller parts"), (0, "on the CPU")])
def test_out_of_memory_halves_the_unit_then_leaves_the_device(
    make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, device: str, largest: int, notice: str
) -> None:
    """The device holds units of so many spots; a splitter that was moved to the CPU holds any."""
    from napari_srast.inference.methods.srast import PerGenePredictor

    slide = make_slide(9, 9)
    expected = upsample(slide, device=device)
    opened, moved = PerGenePredictor.open, []

    def open_or_fail(self: PerGenePredictor, packed: object, should_stop: object) -> object:
        if len(packed.unit.own) > largest and self not in moved:  # type: ignore[attr-defined]
            raise torch.cuda.OutOfMemoryError("out of memory")
        return opened(self, packed, should_stop)  # type: ignore[arg-type]

    on = PerGenePredictor.on

    def move(self: PerGenePredictor, device: str) -> object:
        moved.append(on(self, device))
        return moved[-1]

    monkeypatch.setattr(PerGenePredictor, "open", open_or_fail)
    monkeypatch.setattr(PerGenePredictor, "on", move)
    result = upsample(slide, device=device, executor=ThreadExecutor(1))
    assert any(notice in told for told in result.provenance["notices"])
    assert bool(moved) == (largest == 0)
    np.testing.assert_allclose(result.counts.toarray(), expected.counts.toarray(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_units_do_not_pile_up_before_a_slow_collector(
    make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, n_workers: int
) -> None:
    begun, ahead, added = [], [], []
    predict, add = OutOfMemoryFallback.predict, InMemorySink.add
    monkeypatch.setattr(OutOfMemoryFallback, "predict", lambda self, *args: begun.append(1) or predict(self, *args))

    def slowly(self: InMemorySink, *unit: Any) -> None:
        time.sleep(0.02)
        ahead.append(len(begun) - len(added))
        add(self, *unit)
        added.append(1)

    monkeypatch.setattr(InMemorySink, "add", slowly)
    upsample(make_slide(16, 16), method="uniform", executor=ThreadExecutor(n_workers))
    assert len(added) > 8
    assert n_workers < max(ahead) <= 2 * n_workers
