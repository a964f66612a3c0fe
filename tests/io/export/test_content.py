"""Which genes and which matrix an export contains."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.results import make_result, with_expression

from napari_srast.core.result import UpsampleResult
from napari_srast.errors import InputError, SettingsError
from napari_srast.io import result_images
from napari_srast.io.export.content import select_content


@pytest.fixture(scope="module")
def result() -> UpsampleResult:
    """A result of four genes, two of which have expression."""
    return with_expression(make_result(), [0, 3])


def test_all_genes_are_selected_and_read_in_order(result: UpsampleResult) -> None:
    content = select_content(result, None, "counts")
    assert content.genes == ("Gene0", "Gene1", "Gene2", "Gene3")
    np.testing.assert_array_equal(content.read(1), result.counts.toarray()[:, 1])


def test_genes_with_an_image_are_selected_in_large_panels(
    result: UpsampleResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_images, "MAX_IMAGE_GENES", 2)
    most = np.argsort(-np.asarray(result.slide.counts.sum(axis=0)).ravel(), kind="stable")[:2]
    assert select_content(result, None, "counts").genes == tuple(f"Gene{i}" for i in sorted(most))


def test_named_genes_are_in_the_order_of_the_result_and_once(result: UpsampleResult) -> None:
    assert select_content(result, ["Gene3", "Gene0", "Gene3"], "counts").genes == ("Gene0", "Gene3")


def test_only_genes_with_expression_are_selected_for_it(result: UpsampleResult) -> None:
    content = select_content(result, None, "expression")
    assert content.genes == ("Gene0", "Gene3")
    np.testing.assert_array_equal(content.read(1), result.expression.toarray()[:, 3])


def test_what_the_result_lacks_is_named(result: UpsampleResult) -> None:
    with pytest.raises(InputError, match="Gene1"):
        select_content(result, ["Gene0", "Gene1"], "expression")
    with pytest.raises(InputError, match="no standard deviation"):
        select_content(result, None, "std")
    with pytest.raises(InputError, match="no gene 'X'"):
        select_content(result, ["X"], "counts")
    plain = dataclasses.replace(result, expression=None, expression_columns=np.empty(0, dtype=np.int64))
    with pytest.raises(InputError, match="no expression"):
        select_content(plain, None, "expression")
    with pytest.raises(SettingsError, match="list of genes is empty"):
        select_content(result, [], "counts")
    with pytest.raises(SettingsError, match="counts, expression"):
        select_content(result, None, "rates")
