from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from helpers.results import make_result

from napari_srast.core.slide import Slide
from napari_srast.errors import InputError


def test_result_is_printed_in_a_few_lines(make_slide: Callable[..., Slide]) -> None:
    text = repr(make_result(make_slide(n_genes=9)))
    assert len(text.splitlines()) == 3
    assert "9 genes (Gene0, Gene1, Gene2, Gene3, Gene4, ...)" in text
    assert "method 'uniform'" in text
    assert "whole slide" in text


def test_genes_are_found_by_their_whole_names(make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(n_genes=3)
    slide.genes[:] = np.array(["A", "A\0", "B"], dtype=object)
    result = make_result(slide)
    assert [result.gene_column(gene) for gene in ("A", "A\0", "B")] == [0, 1, 2]
    for gene in ("B\0", "b", ""):
        with pytest.raises(InputError, match="has no gene"):
            result.gene_column(gene)
