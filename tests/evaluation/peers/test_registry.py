"""Peers are called as their packages expect, and a missing one is reported in one sentence."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers.slides import make_slide

from napari_srast.errors import SettingsError
from napari_srast.evaluation.peers.registry import PEERS, require_peers, run_peer
from napari_srast.geometry.raster import make_raster

SLIDE = make_slide(6, 6, 4, lattice="hex")
RASTER = make_raster(SLIDE.centers, factor=3)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that replaces a package's module by a stand-in."""

    def put(name: str, **content: Any) -> None:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            whole = ".".join(parts[:depth])
            if not isinstance(sys.modules.get(whole), ModuleType) or not hasattr(sys.modules[whole], "stand_in"):
                module = ModuleType(whole)
                module.stand_in = True  # type: ignore[attr-defined]
                monkeypatch.setitem(sys.modules, whole, module)
                if depth > 1:
                    setattr(sys.modules[".".join(parts[: depth - 1])], parts[depth - 1], module)
        vars(sys.modules[name]).update(content)

    return put


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.package is not None])
def test_missing_package_names_the_next_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = str(PEERS[name].package).partition(".")[0]
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type] - makes the import fail
    with pytest.raises(SettingsError, match=rf"'{name}' needs {package}.*napari-srast\[peers\]") as error:
        require_peers([name], has_image=False)
    assert "\n" not in str(error.value)


def test_unknown_peer_and_missing_image_are_reported() -> None:
    with pytest.raises(SettingsError, match="'bayesspace' is unknown"):
        require_peers(["bayesspace"], has_image=True)
    with pytest.raises(SettingsError, match="needs an image"):
        run_peer("istar-like", SLIDE, RASTER)


def test_smoother_gets_log_counts_of_spots_and_places_in_pitches(fake: Callable[..., None]) -> None:
    seen: dict[str, Any] = {}

    class Weights:
        def calc_weights_knn(self, places: np.ndarray, **options: Any) -> None:
            seen["places"] = places

    class Impute:
        def __init__(self, logs: Any, loss: Any, **options: Any) -> None:
            seen["logs"] = logs.numpy()

        def get_results(self) -> Any:
            import torch

            n_all = len(seen["places"])
            return torch.arange(n_all, dtype=torch.float32)[:, None].expand(n_all, 4) / n_all

    fake("smoother", SpatialLoss=lambda *_, **__: None, SpatialWeightMatrix=Weights)
    fake("smoother.models.impute", ImputeTorch=Impute)
    values = run_peer("smoother", SLIDE, RASTER)
    np.testing.assert_allclose(seen["logs"], np.log1p(SLIDE.counts.toarray()), rtol=1e-6)
    n_all = SLIDE.n_spots + RASTER.n_pixels
    assert seen["places"].shape == (n_all, 2)
    apart = np.linalg.norm(seen["places"][:, None] - seen["places"][None, : SLIDE.n_spots], axis=-1)
    assert np.partition(apart[: SLIDE.n_spots], 1, axis=1)[:, 1] == pytest.approx(1)
    np.testing.assert_allclose(values[:, 0], np.expm1(np.arange(SLIDE.n_spots, n_all) / n_all), rtol=1e-5)


def test_smoothie_is_a_kernel_mean_over_spots(fake: Callable[..., None]) -> None:
    def run(table: Any, **options: Any) -> Any:
        places = table.obsm["spatial"]
        distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
        weights = np.exp(-(distance**2) / (2 * options["gaussian_sd"] ** 2))
        table = table.copy()
        table.X = weights / weights.sum(axis=1, keepdims=True) @ table.X.toarray()
        return table[:, table.X.sum(axis=0) > 0].copy()  # it leaves out genes without counts

    fake("smoothie", run_parallelized_smoothing=run)
    values = run_peer("smoothie", SLIDE, RASTER)
    distance = np.linalg.norm(RASTER.centers[:, None] - SLIDE.centers[None], axis=-1) / RASTER.lattice.pitch
    weights = np.exp(-(distance**2) / (2 * 0.5**2))
    expected = weights @ SLIDE.counts.toarray() / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)
    assert np.all(values[:, 2] == 0)


def test_gaston_predicts_components_at_pixels(fake: Callable[..., None]) -> None:
    def rescale(places: np.ndarray, scores: np.ndarray) -> tuple[Any, Any]:
        import torch

        standard = [(a - a.mean(axis=0)) / a.std(axis=0) for a in (places, scores)]
        return tuple(torch.tensor(a, dtype=torch.float32) for a in standard)  # type: ignore[return-value]

    def train(places: Any, features: Any, **options: Any) -> tuple[Any, None]:
        import torch

        np.random.seed(options["seed"])  # noqa: NPY002 - as the package does
        torch.manual_seed(options["seed"])

        def model(points: Any) -> Any:
            nearest = torch.cdist(points, places).argmin(dim=1)
            return features[nearest]

        return model, None

    fake("gaston")
    fake("gaston.neural_net", load_rescale_input_data=rescale, train=train)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    values = run_peer("gaston", SLIDE, RASTER)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    nearest = np.linalg.norm(RASTER.centers[:, None] - SLIDE.centers[None], axis=-1).argmin(axis=1)
    expected = SLIDE.counts.toarray()[nearest]  # four genes have three components, and the third gene is empty
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3)


def test_every_adapter_can_be_imported() -> None:
    for peer in PEERS.values():
        module, _, name = peer.function.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
