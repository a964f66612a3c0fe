from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.gui.state import run_estimate, spatial_structure
from napari_srast.gui.state.run_estimate import quick_runs


@pytest.fixture
def long_slide(make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch) -> Slide:
    """A slide of nine genes that is treated as a large one; runs of two genes are offered."""
    monkeypatch.setattr(spatial_structure, "_SUMMED_AT_ONCE", 0)
    monkeypatch.setattr(run_estimate, "_FEW_GENES", 2)
    return make_slide(6, 6, n_genes=9)


def test_known_totals_choose_the_genes_of_a_quick_run_without_a_sum(
    long_slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("the counts of a large slide were summed")

    monkeypatch.setattr(type(long_slide.counts), "sum", refuse)
    monkeypatch.setattr(spatial_structure, "gene_totals", refuse)
    totals = np.arange(9.0)
    runs = quick_runs(long_slide, None, None, UpsampleSettings(), None, totals)
    few = [run.genes for run in runs if run.genes is not None]
    assert few == [[str(long_slide.genes[8]), str(long_slide.genes[7])]]
    assert all(run.genes is None for run in quick_runs(long_slide, None, None, UpsampleSettings()))


def test_structure_chooses_the_genes_of_a_quick_run_before_totals(long_slide: Slide) -> None:
    structure = np.array([0.1, 0.9, np.nan, 0.8, 0, 0, 0, 0, 0])
    runs = quick_runs(long_slide, None, None, UpsampleSettings(), structure, np.arange(9.0))
    assert [run.genes for run in runs if run.genes is not None] == [[str(long_slide.genes[i]) for i in (1, 3)]]
