"""A device, or memory, that gives out is told in one sentence with what to do next."""

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

NEXT = "choose device 'cpu'"
FEWER = "choose fewer genes, a smaller region or a lower factor"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "ran out of memory; " + NEXT),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "ran out of memory; " + NEXT),
        (RuntimeError("CUDA error: out of memory"), "ran out of memory; " + NEXT),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "ran out of memory; " + NEXT),
        (RuntimeError("CUDA error: device-side assert triggered\nCompile with"), "(CUDA error: device-side assert"),
        (RuntimeError("No CUDA GPUs are available"), NEXT),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), NEXT),
        (RuntimeError("Found no NVIDIA driver on your system."), NEXT),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), FEWER),
        (MemoryError("Unable to allocate 3.2 GiB"), FEWER),
    ],
    ids=lambda value: str(value)[:20],
)
def test_every_kind_of_giving_out_is_one_sentence(error: Exception, says: str) -> None:
    with pytest.raises(DeviceError) as told, translate_device_errors("cuda"):
        raise error
    assert says in str(told.value)
    assert "\n" not in str(told.value)
    assert told.value.__cause__ is error


def test_other_faults_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), translate_device_errors("auto"):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.contract(
    section="Requests",
    case="a device, or memory, that gives out during a run",
    response="what failed; choose device 'cpu', or a smaller region",
)
def test_a_run_tells_its_device_in_python_and_on_the_command_line(
    make_slide: Callable[..., Slide],
    make_store: Callable[..., object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from napari_srast.io.store import write_store

    def vanish(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no CUDA-capable device is detected")

    monkeypatch.setattr("napari_srast.interpolation.Interpolator.ratios", vanish)
    slide = make_slide(4, 4)
    with pytest.raises(DeviceError, match="no CUDA-capable"):
        upsample(slide, method="bilinear")
    write_store(make_store(slide), tmp_path / "slide.zarr")
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)
    assert main(["upsample", str(tmp_path / "slide.zarr"), "-o", str(tmp_path / "o.csv"), "--method", "bilinear"]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("napari-srast: ")]
    assert len(told) == 1
    assert NEXT in told[0]
    assert [path.name for path in tmp_path.iterdir()] == ["slide.zarr"]
