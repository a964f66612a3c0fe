from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.core.result import UpsampleResult
from napari_srast.gui.state.gene_quality import own_detail
from napari_srast.gui.state.gene_values import GeneValues

pytestmark = pytest.mark.gui


def test_own_detail_is_what_the_other_genes_do_not_explain(make_result: Callable[..., UpsampleResult]) -> None:
    result = make_result()
    rng = np.random.default_rng(0)
    common = rng.random(result.n_pixels)
    own = rng.random(result.n_pixels)
    columns = np.column_stack([common, 2 * common, 0 * common, own, 3 * common])
    result = dataclasses.replace(result, counts=type(result.counts)(columns.astype(np.float32)))
    shares = own_detail(GeneValues.of(result), ["Gene0", "Gene2", "Gene3"])
    assert shares["Gene0"] < 0.1
    assert shares["Gene3"] > 0.9
    assert "Gene2" not in shares  # no counts, so no detail
