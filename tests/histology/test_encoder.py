"""Test features from the user's own encoder."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_srast.errors import DeviceError, ModelError
from napari_srast.histology import fit_image_expert
from napari_srast.histology.encoder import EncoderFeatures, load_timm_encoder


def test_custom_encoder_replaces_stains(tissue) -> None:
    def embed(patches: torch.Tensor) -> torch.Tensor:
        assert patches.shape[1:] == (3, 16, 16)
        return torch.nn.functional.adaptive_avg_pool2d(patches, 2).flatten(1)

    encoder = EncoderFeatures(embed, name="pooled", side=16, width=0.5, n_features=6)
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image(), extractor=encoder)
    assert expert.features.names[0] == "pooled_0"
    assert expert.features.sample(tissue.centers).shape == (196, 6)
    assert expert.informative


def test_encoder_that_returns_maps_is_rejected(tissue) -> None:
    encoder = EncoderFeatures(lambda patches: patches, name="maps", side=8)
    with pytest.raises(ModelError, match="'maps' must return one embedding"):
        encoder.extract(tissue.image(), tissue.centers, 100.0)


def test_wrong_weights_are_rejected(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is an extra")
    path = tmp_path / "weights.safetensors"
    save_file({"nothing": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="cannot be loaded into 'resnet10t'"):
        load_timm_encoder("resnet10t", path)


def test_missing_timm_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ModelError, match="pip install timm"):
        load_timm_encoder("resnet10t", tmp_path / "weights.safetensors")


OUT_OF_MEMORY = (
    MemoryError("Unable to allocate 3.2 GiB"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["numpy", "system", "torch"])
@pytest.mark.parametrize("where", ["building", "reading"])
def test_out_of_memory_is_not_blamed_on_weights(
    where: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    create_model = fail if where == "building" else lambda *_, **__: torch.nn.Identity()
    monkeypatch.setitem(__import__("sys").modules, "timm", SimpleNamespace(create_model=create_model))
    monkeypatch.setattr("napari_srast.histology.encoder._read_weights", fail)
    with pytest.raises(DeviceError) as caught:
        load_timm_encoder("resnet10t", tmp_path / "weights.safetensors")
    assert str(caught.value) == (
        "This computer ran out of memory while loading the encoder; close other programs, or choose a smaller one."
    )


def test_patches_at_the_edge_repeat_pixels(tissue) -> None:
    batches = []
    encoder = EncoderFeatures(lambda p: batches.append(p) or p.flatten(1)[:, :4], side=8, width=2.0, n_features=2)
    features = encoder.extract(tissue.image("gray"), tissue.centers, 100.0)
    assert np.isfinite(features.sample(tissue.centers)).all()
    assert all(torch.isfinite(batch).all() for batch in batches)
