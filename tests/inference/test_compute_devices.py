"""Devices: copies that wait for nothing, turns on a GPU, and the same results on each."""

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
def test_values_arrive(device: str) -> None:
    values = torch.arange(6.0).reshape(2, 3)[:, 1:]
    moved = on_device(values, device)
    assert moved.device.type == device
    assert torch.equal(moved.cpu(), values)


def test_copies_to_cuda_come_from_pinned_memory_and_are_not_waited_for() -> None:
    values = mock.Mock()
    moved = on_device(values, "cuda")
    pinned = values.pin_memory.return_value
    pinned.to.assert_called_once_with("cuda", non_blocking=True)
    assert moved is pinned.to.return_value


def test_one_thread_at_a_time_computes_on_a_gpu_and_any_number_on_the_cpu() -> None:
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


def test_graphs_are_not_taken_to_a_device_without_sparse_matrices() -> None:
    assert [graph_device(name) for name in ("cpu", "cuda", "mps")] == ["cpu", "cuda", "cpu"]


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_for_devices_that_are_made_for_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    made = mock.Mock()
    monkeypatch.setattr(torch, "autocast", made)
    for name in ("cpu", "mps", "cuda"):
        bfloat16_where_native(torch.device(name))
    assert made.call_args_list == ([mock.call("cuda", torch.bfloat16)] if native else [])


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize(("mode", "full_genes"), [("mean", 512), ("mean", 3), ("sample", 512)])
def test_a_device_gives_the_same_bytes_again_and_the_numbers_of_the_cpu(
    make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch, device: str, mode: str, full_genes: int
) -> None:
    monkeypatch.setattr(srast_module, "PER_GENE_LIMIT", full_genes)
    monkeypatch.setattr(srast_module, "FLOW_PAIR_BUDGET", 0)
    slide = make_slide(9, 9, lattice="hex")

    def run(device: str) -> np.ndarray:
        fitted_slide._cache.clear()
        result = upsample(slide, mode=mode, device=device, draws=4, steps=2)
        return np.stack([result.counts.toarray(), (result.counts if result.std is None else result.std).toarray()])

    first, again, expected = run(device), run(device), run("cpu")
    assert first.tobytes() == again.tobytes()
    np.testing.assert_allclose(first.sum(axis=1), expected.sum(axis=1), rtol=0.02)
    # A whole alignment lies between: rounding that differs in its first step has grown by the last.
    assert np.abs(first - expected).mean() < 0.02 * np.abs(expected).mean()
