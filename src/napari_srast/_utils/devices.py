"""Selection and use of the compute device."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext

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
]

_gpu_lock = threading.Lock()


def available_devices() -> tuple[str, ...]:
    """Return the devices of this computer, the fastest first."""
    devices = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return (*devices, "cpu")


def choose_device(name: str) -> str:
    """Resolve "auto" to the fastest device, and check that a named device exists.

    Parameters
    ----------
    name
        "auto", "cpu", "cuda" or "mps".

    Raises
    ------
    SettingsError
        The device does not exist on this computer.
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
    """Return the device for graph networks: the CPU instead of Apple's devices, which lack sparse matrices."""
    return "cpu" if device == "mps" else device


def on_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Copy a CPU tensor to a device; to a CUDA device asynchronously, from pinned memory."""
    if torch.device(device).type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def device_lock(device: torch.device) -> AbstractContextManager:
    """Return a context manager that lets one thread at a time compute on a GPU; on the CPU it does nothing.

    Threads compute several tiles at once. On a GPU their memory would add up, and it would compute no faster.
    """
    return nullcontext() if device.type == "cpu" else _gpu_lock


def bfloat16_where_native(device: torch.device) -> AbstractContextManager:
    """Multiply matrices in bfloat16 on devices that support it natively.

    Sums, softmax and logarithms stay in float32.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()
