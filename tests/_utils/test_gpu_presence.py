"""A computer without the driver of a GPU needs no PyTorch to know that it has none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from napari_srast._utils import gpu_presence
from napari_srast._utils.devices import available_devices


def test_no_gpu_is_missed() -> None:
    assert gpu_presence.may_have_gpu() or available_devices() == ("cpu",)


def test_driver_of_a_gpu_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(gpu_presence, "_DEVICE_FILES", (str(tmp_path / "none"), str(tmp_path / "nvidiactl")))
    assert not gpu_presence.may_have_gpu()
    (tmp_path / "nvidiactl").touch()
    assert gpu_presence.may_have_gpu()
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    assert not gpu_presence.may_have_gpu()
    (tmp_path / "System32").mkdir()
    (tmp_path / "System32" / "nvcuda.dll").touch()
    assert gpu_presence.may_have_gpu()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert gpu_presence.may_have_gpu()
