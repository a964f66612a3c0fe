"""Tests of devices: copies, locks and equal results."""

from __future__ import annotations

import threading
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import torch

from napari_srast._utils.devices import available_devices, bfloat16_where_native, device_lock, graph_device, on_device
from napari_srast.api import upsample
from napari_srast.core.slide import Slide
from napari_srast.inference import fitted_slide
from napari_srast.inference.methods import srast as srast_module


@pytest.mark.parametrize("device", available_devices())
def test_values_are_copied_to_the_device(device: str) -> None:
    values = torch.arange(6.0).reshape(2, 3)[:, 1:]
    moved = on_device(values, device)
    assert moved.device.type == device
    assert torch.equal(moved.cpu(), values)


def test_copies_to_cuda_are_asynchronous() -> None:
    values = mock.Mock()
    moved = on_device(values, "cuda")
    pinned = values.pin_memory.return_value
    pinned.to.assert_called_once_with("cuda", non_blocking=True)
    assert moved is pinned.to.return_value


def test_device_lock_admits_one_thread_on_a_gpu() -> None:
    held, waited = threading.Event(), threading.Event()

    def compute() -> None:
        held.set()
        with device_lock(torch.device("cuda")):
            waited.set()

    with device_lock(torch.device("mps")), device_lock(torch.device("cpu")), device_lock(torch.device("cpu")):
        other = threading.Thread(target=compute)
        other.start()
        assert held.wait(10)
        assert not waited.wait(0.1)
    other.join(10)
    assert waited.is_set()


def test_graphs_stay_on_the_cpu_for_mps() -> None:
    assert [graph_device(name) for name in ("cpu", "cuda", "mps")] == ["cpu", "cuda", "cpu"]


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_used_only_where_native(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    autocast = mock.Mock()
    monkeypatch.setattr(torch, "autocast", autocast)
    for name in ("cpu", "mps", "cuda"):
        bfloat16_where_native(torch.device(name))
    assert autocast.call_args_list == ([mock.call("cuda", torch.bfloat16)] if native else [])


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize(("mode", "per_gene_limit"), [("mean", 512), ("mean", 3), ("sample", 512)])
def test_device_repeats_its_bytes_and_the_numbers_of_the_cpu(
    make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch, device: str, mode: str, per_gene_limit: int
) -> None:
    monkeypatch.setattr(srast_module, "PER_GENE_LIMIT", per_gene_limit)
    monkeypatch.setattr(srast_module, "FLOW_PAIR_BUDGET", 0)
    slide = make_slide(9, 9, lattice="hex")

    def run(device: str) -> np.ndarray:
        fitted_slide._cache.clear()
        result = upsample(slide, mode=mode, device=device, draws=4, steps=2)
        return np.stack([result.counts.toarray(), (result.counts if result.std is None else result.std).toarray()])

    first, again, expected = run(device), run(device), run("cpu")
    assert first.tobytes() == again.tobytes()
    np.testing.assert_allclose(first.sum(axis=1), expected.sum(axis=1), rtol=0.02)
    # The SASA fit amplifies differences in rounding.
    assert np.abs(first - expected).mean() < 0.02 * np.abs(expected).mean()
