"""Fixtures of the training tests: a synthetic slide, pseudo-slides of it and a small recipe."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest

from napari_srast.models.sasa.config import SasaConfig
from napari_srast.training.lattice_sampling import make_pseudo_slides
from napari_srast.training.pseudo_slides import PseudoSlide
from napari_srast.training.sources import PseudoSlideSettings, SourceSlide

RECIPE = """
name = "tiny"
data = "."
output = "tiny.safetensors"
folds = 2
[cases]
fields = 10
groups = 2
least_spots = 40
factors = [2.0]
[sasa]
epochs = 5
n_components = 8
[network]
width = 16
depth = 1
heads = 2
[trainer]
steps = 6
patch_spots = 8
patch_fields = 4
"""


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 3,000 cells with smooth waves of expression, finer than the spots of a pseudo-slide."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 1000, (3000, 2))
    waves = [1 + np.sin(xy @ rng.normal(size=2) / 120 + k) for k in range(20)]
    table = anndata.AnnData(X=rng.poisson(3 * np.column_stack(waves)).astype(np.float32))
    table.obsm["spatial"] = xy
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    table.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def sasa() -> SasaConfig:
    """Settings of a fast SASA fit."""
    return SasaConfig(epochs=10, n_components=8)


@pytest.fixture(scope="session")
def settings() -> PseudoSlideSettings:
    """Ranges of small pseudo-slides."""
    return PseudoSlideSettings(fields=12, groups=3, least_spots=40, factors=(2.0,), thinning=(1.0,))


@pytest.fixture(scope="session")
def pseudo_slides(cells: Path, settings: PseudoSlideSettings, sasa: SasaConfig) -> list[PseudoSlide]:
    """Pseudo-slides of two studies."""
    pseudo_slides = []
    for study in ("a", "b"):
        source = SourceSlide(name=f"cells_{study}", study=study, path=cells, resolution="high", cases=2)
        pseudo_slides += list(make_pseudo_slides(source, settings, sasa, seed=0))
    assert len(pseudo_slides) >= 3
    return pseudo_slides


@pytest.fixture
def write_recipe(cells: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Return a function that writes a recipe of two studies to a folder."""
    monkeypatch.delenv("NAPARI_SRAST_DATA", raising=False)

    def write(folder: Path) -> Path:
        for study in "ab":
            shutil.copy(cells, folder / f"{study}.h5ad")
        slides = "".join(
            f'[[slides]]\nfile = "{study}.h5ad"\nstudy = "{study}"\nresolution = "high"\ncases = 1\nlicence = "CC0"\n'
            for study in "ab"
        )
        path = folder / "tiny.toml"
        path.write_text(RECIPE + slides)
        return path

    return write
