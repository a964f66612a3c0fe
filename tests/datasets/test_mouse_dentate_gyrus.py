from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from napari_srast.datasets.mouse_dentate_gyrus import mouse_dentate_gyrus, mouse_dentate_gyrus_path
from napari_srast.geometry.lattice import detect_lattice

_FILES = resources.files("napari_srast") / "datasets"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platformdirs.user_cache_path", lambda *_args, **_kwargs: folder)
        yield folder


def test_measured_slide_is_visium_and_complete() -> None:
    slide = mouse_dentate_gyrus()
    assert not slide.source.synthetic
    assert slide.counts.shape == (624, 634)
    lattice = detect_lattice(slide.centers)
    assert (lattice.kind, round(lattice.pitch)) == ("hex", 100)
    assert (slide.spot_diameter, slide.unit, slide.image) == (55, "um", None)
    assert slide.notices == ()
    assert np.median(np.asarray(slide.counts.sum(axis=1))) == 954


def test_measured_slide_shows_the_hippocampus() -> None:
    """Hpca, of neurons of the hippocampus, and Mobp, of white matter, are in different spots."""
    slide = mouse_dentate_gyrus()
    share = slide.counts.toarray() / np.asarray(slide.counts.sum(axis=1)).reshape(-1, 1)
    hpca, mobp = share[:, slide.gene_indices(["Hpca", "Mobp"])].T
    assert np.corrcoef(hpca, mobp)[0, 1] < -0.3


def test_measured_slide_comes_with_source_and_license() -> None:
    text = (_FILES / "mouse_dentate_gyrus.LICENSE").read_text(encoding="utf-8")
    assert "github.com/drieslab/GiottoData" in text
    assert "Permission is hereby granted, free of charge" in text
    assert len((_FILES / "mouse_dentate_gyrus.h5ad").read_bytes()) < 3_000_000


def test_damaged_cache_is_written_again() -> None:
    path = mouse_dentate_gyrus_path()
    shutil.rmtree(path / "tables")
    assert mouse_dentate_gyrus().n_spots == 624
