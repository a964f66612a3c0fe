"""Checkpoints: what is written is read back; damage is named, nothing is unpickled."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_srast.errors import ModelError
from napari_srast.models import checkpoint as module
from napari_srast.models.checkpoint import describe_checkpoint, load_checkpoint, save_checkpoint
from napari_srast.models.fleet import Fleet, Prior
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.sasa import SasaConfig


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    torch.manual_seed(0)
    save_checkpoint(path, DiT(DiTConfig(width=8, heads=2, depth=1)), SasaConfig(epochs=7), _fleet(), {"recipe": "x"})
    return path


def _fleet() -> Fleet:
    weights = np.array([[0.5, 0.1, 0.2, 0.0, 0.0, 0.1], [0.1, 0.0, 0.0, 0.3, 0.0, 0.0]])
    pool = Prior(weights=weights, check_weights=weights / 2, covariance=0.3 * np.eye(12))
    return Fleet(pool=pool, interpolations=Prior.around([0.7], 5, 0.2), shared=Prior.around([0.4, 0.5], 2, 0.3))


def test_round_trip(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.sasa.epochs == 7
    assert loaded.network.config.width == 8
    np.testing.assert_allclose(loaded.fleet.pool.weights, _fleet().pool.weights)
    np.testing.assert_allclose(loaded.fleet.pool.covariance, _fleet().pool.covariance)
    np.testing.assert_allclose(loaded.fleet.interpolations.weights, _fleet().interpolations.weights)
    assert loaded.record["recipe"] == "x"
    assert describe_checkpoint(saved)["sha256"] == loaded.sha256


def test_shipped_checkpoint_is_whole_small_and_pinned() -> None:
    loaded = load_checkpoint("default")
    path = Path(module.__file__).parent / "checkpoints" / "default.safetensors"
    assert module.SHIPPED["default"] == loaded.sha256
    assert path.stat().st_size < 5e6
    assert path.with_suffix(".md").is_file()
    assert float(loaded.network.head.weight.abs().sum()) > 0, "an untrained network was shipped"


def test_damage_is_named(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    for name, content in (("cut", data[: len(data) // 2]), ("empty", b""), ("text", b"hello" * 100)):
        broken = tmp_path / f"{name}.safetensors"
        broken.write_bytes(content)
        with pytest.raises(ModelError, match=name):
            load_checkpoint(broken)


def test_other_format_version_is_refused(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other, metadata={"napari_srast": json.dumps({"format": 99})})
    with pytest.raises(ModelError, match="format 99"):
        load_checkpoint(other)
    for damaged in ("{", "3"):
        save_file({"a": torch.zeros(1)}, other, metadata={"napari_srast": damaged})
        with pytest.raises(ModelError, match="header"):
            load_checkpoint(other)
    save_file({"a": torch.zeros(1)}, other)
    with pytest.raises(ModelError, match="not a napari-srast model"):
        load_checkpoint(other)
    header = describe_checkpoint(saved)
    kept = {k: header[k] for k in ("format", "network", "sasa", "fleet", "record")}
    save_file({"a": torch.zeros(1)}, other, metadata={"napari_srast": json.dumps(kept)})
    with pytest.raises(ModelError, match="does not fit"):
        load_checkpoint(other)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = DiT(DiTConfig(width=8, heads=2, depth=1))
    with torch.no_grad():
        network.head.bias.fill_(torch.nan)
    save_checkpoint(tmp_path / "nan.safetensors", network, SasaConfig(), _fleet(), {})
    with pytest.raises(ModelError, match="does not fit"):
        load_checkpoint(tmp_path / "nan.safetensors")


def test_unknown_name_offers_the_shipped_ones() -> None:
    with pytest.raises(ModelError, match="default"):
        load_checkpoint("nothing-here")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "ran"),))

    trap = tmp_path / "trap.safetensors"
    trap.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError):
        load_checkpoint(trap)
    assert not (tmp_path / "ran").exists()


def test_damaged_installation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHIPPED", {"default": "0" * 64})
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint("default")
