from __future__ import annotations

from collections.abc import Callable

from helpers.results import make_result

from napari_srast.core.slide import Slide


def test_result_is_printed_in_a_few_lines(make_slide: Callable[..., Slide]) -> None:
    text = repr(make_result(make_slide(n_genes=9)))
    assert len(text.splitlines()) == 3
    assert "9 genes (Gene0, Gene1, Gene2, Gene3, Gene4, ...)" in text
    assert "method 'uniform'" in text
    assert "whole slide" in text
