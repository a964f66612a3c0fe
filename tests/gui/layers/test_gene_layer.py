from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.core.result import UpsampleResult
from napari_srast.gui.layers.gene_colors import GeneStyle
from napari_srast.gui.layers.gene_layer import default_genes

pytestmark = pytest.mark.gui


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ((0.0, 1.811), "0 to 1.81"),
        ((0.056, 22.44), "0.1 to 22.4"),
        ((0.25, 2.0), "0.25 to 2"),
        ((54.2, 1234.5), "54 to 1,234"),
        ((0.0, 0.00123), "0 to 0.0012"),
        ((0.0011, 0.0653), "0.001 to 0.065"),  # fits into the legend
        ((0.027, 0.66), "0.027 to 0.66"),
        ((0.0, 100.0), "0 to 100"),
        ((0.0, 0.0), "0 to 0"),
    ],
)
def test_contrast_limits_are_rounded_for_reading(limits: tuple[float, float], text: str) -> None:
    assert GeneStyle("ERBB2", "#56b4e9", limits).scale == text


def test_gene_that_is_better_than_interpolation_is_shown_first(make_result: Callable[..., UpsampleResult]) -> None:
    result = make_result()
    result = dataclasses.replace(
        result,
        settings=dataclasses.replace(result.settings, method="srast"),
        skill=np.array([0.5, 0.1, np.nan, 0.01]),
        method=np.array(["srast"] * 4, dtype=object),
        provenance={"calibration": {"held_out_gain": {"Gene0": [0.1, 0.2], "Gene1": [0.3, 0.1], "Gene3": [0.3, 0.1]}}},
    )
    totals = np.full(4, 100.0)
    assert default_genes(result, totals) == ["Gene1"]
    assert default_genes(dataclasses.replace(result, provenance={}), totals) == ["Gene0"]
