"""Which device to compute on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from napari_srast.errors import SettingsError

__all__ = [
    "available_devices",
    "bfloat16_where_native",
    "choose_device",
    "device_lock",
    "graph_device",
    "on_device",
    "one_thread",
]

_turn = threading.Lock()


def available_devices() -> tuple[str, ...]:
    """Return the devices of this machine, the fastest first."""
    devices = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return (*devices, "cpu")


def choose_device(name: str) -> str:
    """Resolve "auto", and check that a device is there.

    Raises
    ------
    SettingsError
        The device is not present.
    """
    present = available_devices()
    if name == "auto":
        return present[0]
    if name not in present:
        raise SettingsError(
            f"device '{name}' is not present on this machine; choose auto or one of: {', '.join(present)}."
        )
    return name


def graph_device(device: str) -> str:
    """Return where graphs are computed on: Apple's devices know no sparse matrices, so for them it is the CPU."""
    return "cpu" if device == "mps" else device


def on_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Copy a tensor of the CPU to a device, where it can be without waiting for it (CUDA, from pinned memory)."""
    if torch.device(device).type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def device_lock(device: torch.device) -> AbstractContextManager:
    """Wait for this thread's turn on a GPU.

    Several units are in work at once; what they need of a device's memory must not add up, and it computes no faster
    for several than for one.
    """
    return nullcontext() if device.type == "cpu" else _turn


def bfloat16_where_native(device: torch.device) -> AbstractContextManager:
    """Multiply matrices in bfloat16 where the device is made for it; sums, softmax and logarithms stay float32."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


@contextmanager
def one_thread(use: bool = True) -> Iterator[None]:
    """Compute on one thread of the CPU.

    Many small operations gain nothing from more, and beside a busy window (or any other work) their threads wait for
    each other: fitting SASA to 184 spots then took 70 s instead of 2 s on two cores.
    """
    before = torch.get_num_threads()
    if use:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
