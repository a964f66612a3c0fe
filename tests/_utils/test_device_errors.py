"""Tests of the messages for failed devices and full memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from napari_srast._utils.device_errors import translate_device_errors
from napari_srast.api import upsample
from napari_srast.cli import main
from napari_srast.core.slide import Slide
from napari_srast.errors import DeviceError

USE_CPU = "choose device 'cpu'"
FULL = "ran out of memory; " + USE_CPU
FEWER = "choose fewer genes, a smaller region or a lower factor"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
            FULL,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), FULL),
        (RuntimeError("CUDA error: out of memory"), FULL),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), FULL),
        (RuntimeError("CUDA error: device-side assert triggered\nCompile with"), "(CUDA error: device-side assert"),
        (RuntimeError("No CUDA GPUs are available"), USE_CPU),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), USE_CPU),
        (RuntimeError("Found no NVIDIA driver on your system."), USE_CPU),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), FEWER),
        (MemoryError("Unable to allocate 3.2 GiB"), FEWER),
    ],
    ids=lambda value: str(value)[:20],
)
def test_device_failure_becomes_one_sentence(error: Exception, message: str) -> None:
    with pytest.raises(DeviceError) as caught, translate_device_errors("cuda"):
        raise error
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_other_errors_are_not_translated() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), translate_device_errors("auto"):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.contract(
    section="Requests",
    case="a device fails, or memory runs out, during a run",
    response="what failed; choose device 'cpu', or a smaller region",
)
def test_run_reports_device_failure_in_python_and_cli(
    make_slide: Callable[..., Slide],
    make_store: Callable[..., object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from napari_srast.io.store import write_store

    def disappear(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no CUDA-capable device is detected")

    monkeypatch.setattr("napari_srast.interpolation.Interpolator.ratios", disappear)
    slide = make_slide(4, 4)
    with pytest.raises(DeviceError, match="no CUDA-capable"):
        upsample(slide, method="bilinear")
    write_store(make_store(slide), tmp_path / "slide.zarr")
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)
    assert main(["upsample", str(tmp_path / "slide.zarr"), "-o", str(tmp_path / "o.csv"), "--method", "bilinear"]) == 2
    messages = [line for line in capsys.readouterr().err.splitlines() if line.startswith("napari-srast: ")]
    assert len(messages) == 1
    assert USE_CPU in messages[0]
    assert [path.name for path in tmp_path.iterdir()] == ["slide.zarr"]
