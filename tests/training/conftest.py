"""Synthetic slide to train on, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest


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
