"""Tests of checkpoints: round trip, damaged files, hostile headers, and no pickles."""

from __future__ import annotations

import errno
import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_srast.calibration.weight_prior import CalibrationPriors, WeightPrior
from napari_srast.checkpoints import storage as module
from napari_srast.checkpoints.storage import describe_checkpoint, load_checkpoint, save_checkpoint
from napari_srast.errors import ModelError
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.sasa.config import SasaConfig


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    torch.manual_seed(0)
    save_checkpoint(path, DiT(DiTConfig(width=8, heads=2, depth=1)), SasaConfig(epochs=7), _priors(), {"recipe": "x"})
    return path


@pytest.fixture
def change_header(saved: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that rewrites the checkpoint with other header entries and weights."""

    def change(entries: dict[str, Any], weights: dict[str, torch.Tensor] | None = None) -> Path:
        described = describe_checkpoint(saved)
        header = {name: described[name] for name in ("format", "network", "sasa", "fleet", "record")} | entries
        path = tmp_path / "changed.safetensors"
        save_file(weights or load_file(saved), path, metadata={"napari_srast": json.dumps(header)})
        return path

    return change


@pytest.fixture
def largest_allocation(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that gives the bytes of the largest parameter created outside the meta device."""
    sizes = [0]
    true_new = torch.nn.Parameter.__new__

    def new(cls: type, data: Any = None, requires_grad: bool = True) -> Any:
        if data is not None and data.device.type != "meta":
            sizes.append(data.nbytes)
        return true_new(cls, data, requires_grad)

    monkeypatch.setattr(torch.nn.Parameter, "__new__", new)
    return lambda: max(sizes)


def _priors() -> CalibrationPriors:
    weights = np.array([[0.5, 0.1, 0.2, 0.0, 0.0, 0.1], [0.1, 0.0, 0.0, 0.3, 0.0, 0.0]])
    pool = WeightPrior(weights=weights, coarse_weights=weights / 2, covariance=0.3 * np.eye(12))
    return CalibrationPriors(
        pool=pool, interpolations=WeightPrior.around([0.7], 5, 0.2), programs=WeightPrior.around([0.4, 0.5], 2, 0.3)
    )


def test_round_trip(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.sasa.epochs == 7
    assert loaded.network.config.width == 8
    np.testing.assert_allclose(loaded.priors.pool.weights, _priors().pool.weights)
    assert not loaded.network.config.support
    np.testing.assert_allclose(loaded.priors.pool.covariance, _priors().pool.covariance)
    np.testing.assert_allclose(loaded.priors.interpolations.weights, _priors().interpolations.weights)
    assert loaded.record["recipe"] == "x"
    assert describe_checkpoint(saved)["sha256"] == loaded.sha256


def test_checkpoints_with_and_without_the_input_of_the_support_load(
    tmp_path: Path, change_header: Callable[..., Path]
) -> None:
    sizes = {"width": 8, "heads": 2, "depth": 1, "frequencies": 8}
    older = load_checkpoint(change_header({"network": sizes}))  # written before the entry existed
    assert not older.network.config.support
    path = tmp_path / "discs.safetensors"
    save_checkpoint(path, DiT(DiTConfig(**sizes, support=True)), SasaConfig(), _priors(), {})
    assert load_checkpoint(path).network.config.support


def test_shipped_checkpoint_matches_its_checksum() -> None:
    loaded = load_checkpoint("default")
    path = Path(module.__file__).parent / "default.safetensors"
    assert module.SHIPPED["default"] == loaded.sha256
    assert path.stat().st_size < 5e6
    assert path.with_suffix(".md").is_file()
    assert float(loaded.network.head.weight.abs().sum()) > 0, "an untrained network was shipped"


def test_damaged_file_is_named(saved: Path, tmp_path: Path) -> None:
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
    entries = {k: header[k] for k in ("format", "network", "sasa", "fleet", "record")}
    save_file({"a": torch.zeros(1)}, other, metadata={"napari_srast": json.dumps(entries)})
    with pytest.raises(ModelError, match="does not fit"):
        load_checkpoint(other)


def test_non_finite_weights_are_refused(tmp_path: Path) -> None:
    network = DiT(DiTConfig(width=8, heads=2, depth=1))
    with torch.no_grad():
        network.head.bias.fill_(torch.nan)
    save_checkpoint(tmp_path / "nan.safetensors", network, SasaConfig(), _priors(), {})
    with pytest.raises(ModelError, match="does not fit"):
        load_checkpoint(tmp_path / "nan.safetensors")


BOMBS: dict[str, dict[str, Any]] = {
    "wide": {"network": {"width": 10**9, "heads": 2}},
    "deep": {"network": {"width": 8, "heads": 2, "depth": 10**6}},
    "at its limits, without the weights": {"network": {"width": 2048, "depth": 64, "heads": 64, "frequencies": 64}},
    "frequent": {"network": {"width": 8, "heads": 2, "depth": 1, "frequencies": 10**9}},
    "many heads": {"network": {"width": 8, "depth": 1, "heads": 10**400}},
    "uneven": {"network": {"width": 8, "heads": 3, "depth": 1}},
    "negative": {"network": {"width": -8, "heads": 2, "depth": 1}},
    "fractional": {"network": {"width": 8.0, "heads": 2, "depth": 1}},
    "true": {"network": {"width": 8, "heads": 2, "depth": True}},
    "text": {"network": {"width": "8", "heads": 2, "depth": 1}},
    "a list": {"network": [8, 2]},
    "unknown size": {"network": {"height": 8}},
    "hidden": {"sasa": {"hidden": 10**9}},
    "panel": {"sasa": {"n_panel": 10**12}},
    "for ever": {"sasa": {"epochs": 10**9}},
    "half an epoch": {"sasa": {"epochs": 0.5}},
    "infinite rate": {"sasa": {"learning_rate": float("inf")}},
    "no rate": {"sasa": {"learning_rate": float("nan")}},
    "heavy": {"sasa": {"kl_weight": 1e300}},
    "heavier": {"sasa": {"edge_weight": 10**400}},
    "no sasa": {"sasa": None},
    "no fleet": {"fleet": []},
    "no record": {"record": 3},
    "experts without end": {"fleet": {"experts": [], "pool": {}}},
}


@pytest.mark.contract(
    section="Models",
    case=(
        "a model whose header asks for a network of a billion, for a panel without end, or for weights "
        "that its file lacks"
    ),
    response="does not fit; nothing was built",
)
@pytest.mark.parametrize("bomb", BOMBS)
def test_excessive_header_is_refused_before_allocation(
    bomb: str, change_header: Callable[..., Path], largest_allocation: Callable[[], int]
) -> None:
    path = change_header(BOMBS[bomb])
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"'changed.safetensors' does not fit this version"):
        load_checkpoint(path)
    assert largest_allocation() < 2**20
    assert time.monotonic() - start < 20  # seconds; a network of a million blocks takes hours


@pytest.mark.parametrize("value", [float("nan"), 1e300, 10**400, "much"])
@pytest.mark.parametrize("name", ["weights", "check_weights", "covariance"])
def test_invalid_prior_is_refused(name: str, value: Any, change_header: Callable[..., Path]) -> None:
    priors = _priors().to_dict()
    pool: Any = priors["pool"]
    pool[name][0][0] = value
    with pytest.raises(ModelError, match="does not fit"):
        load_checkpoint(change_header({"fleet": priors}))


@pytest.mark.parametrize(
    "fault", ["one more", "one less", "another name", "another shape", "halves", "doubles", "scale 0"]
)
def test_weights_of_another_network_are_refused(fault: str, saved: Path, change_header: Callable[..., Path]) -> None:
    weights = load_file(saved)
    bias = weights.pop("head.bias")
    weights |= {
        "one more": {"head.bias": bias, "more": torch.zeros(1)},
        "one less": {},
        "another name": {"head.bios": bias},
        "another shape": {"head.bias": torch.zeros(1, 1)},
        "halves": {"head.bias": bias.half()},
        "doubles": {"head.bias": bias.double()},
        "scale 0": {"head.bias": bias, "feature_std": torch.zeros_like(weights["feature_std"])},
    }[fault]
    with pytest.raises(ModelError, match="does not fit"):
        load_checkpoint(change_header({}, weights))
    load_checkpoint(change_header({}, load_file(saved)))


def test_weights_equal_the_file_and_outlive_it(saved: Path) -> None:
    loaded, weights = load_checkpoint(saved), {name: w.clone() for name, w in load_file(saved).items()}
    saved.write_bytes(bytes(saved.stat().st_size))
    state = loaded.network.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], weights[name]) for name in weights)
    assert not loaded.network.training
    assert not any(weight.requires_grad for weight in loaded.network.parameters())


def test_long_header_is_refused_unread(saved: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.safetensors"
    save_file(load_file(saved), long, metadata={"napari_srast": "[" * 2**23})
    with pytest.raises(ModelError, match=r"header of model file 'long.safetensors' has 8,\d{3},\d{3} bytes"):
        load_checkpoint(long)
    save_file(load_file(saved), long, metadata={"napari_srast": "[" * 2**20})
    with pytest.raises(ModelError, match=r"header of model file 'long.safetensors' is damaged"):
        load_checkpoint(long)


@pytest.mark.parametrize("broken", ["open", "safe_open"])
def test_unreadable_file_is_named_unless_memory_is_full(
    broken: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, "words")

    monkeypatch.setattr(*((Path, "open", fail) if broken == "open" else (module, "safe_open", fail)))
    number = errno.EACCES
    with pytest.raises(ModelError, match=r"'mine.safetensors'.*read"):
        load_checkpoint(saved)
    number = errno.ENOMEM
    with pytest.raises(OSError, match="words"):
        load_checkpoint(saved)


def test_full_memory_is_not_reported_as_damage(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(module, "_network", fail)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_checkpoint(saved)


def test_overlong_name_is_not_a_model() -> None:
    with pytest.raises(ModelError, match="There is no model"):
        load_checkpoint("x" * 10_000)


def test_unknown_name_lists_the_shipped_models() -> None:
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


def test_damaged_installation_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHIPPED", {"default": "0" * 64})
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint("default")
