"""Test the expression of genes that a run estimates, and of all others by its factors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_srast import expression, new_count_std
from napari_srast.api import upsample, upsample_to_store
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError, SettingsError
from napari_srast.io.result_reader import read_result
from napari_srast.io.result_writer import write_result

SETTINGS = {"factor": 4, "method": "gp"}


@pytest.fixture(scope="module")
def slide(make_slide: Callable[..., Slide]) -> Slide:
    return make_slide(10, 10, 8, lattice="hex", depth=10.0)


@pytest.fixture(scope="module")
def result(slide: Slide) -> UpsampleResult:
    return upsample(slide, genes=["Gene0", "Gene5"], **SETTINGS)


def test_estimated_genes_are_those_of_the_layer(result: UpsampleResult) -> None:
    assert result.expression is not None
    np.testing.assert_array_equal(expression(result, ["Gene5", "Gene0"]), result.expression[:, [1, 0]].toarray())


def test_other_genes_follow_their_own_estimate(slide: Slide, result: UpsampleResult) -> None:
    whole = upsample(slide, **SETTINGS)
    assert whole.expression is not None
    for gene in ("Gene1", "Gene4", "Gene6"):
        by_factors = expression(result, [gene])[:, 0]
        own = expression(whole, [gene])[:, 0]
        assert np.corrcoef(by_factors, own)[0, 1] > 0.7
        assert by_factors.sum() == pytest.approx(own.sum(), rel=0.3)


def test_result_with_expression_of_all_genes_has_no_factors(slide: Slide) -> None:
    assert upsample(slide, **SETTINGS).expression_factors is None


@pytest.mark.parametrize("name", ["result.zarr", "result.h5ad"])
def test_factors_are_stored(result: UpsampleResult, tmp_path: Path, name: str) -> None:
    read = read_result(write_result(result, tmp_path / name))
    np.testing.assert_array_equal(expression(read, ["Gene3", "Gene0"]), expression(result, ["Gene3", "Gene0"]))


def test_streamed_result_has_the_same_factors(slide: Slide, result: UpsampleResult, tmp_path: Path) -> None:
    upsample_to_store(slide, tmp_path / "streamed.zarr", genes=["Gene0", "Gene5"], **SETTINGS)
    read = read_result(tmp_path / "streamed.zarr")
    np.testing.assert_array_equal(expression(read, ["Gene3"]), expression(result, ["Gene3"]))


def test_unknown_gene_is_one_sentence(result: UpsampleResult) -> None:
    with pytest.raises(InputError, match="no expression of gene 'Nope'"):
        expression(result, ["Nope"])


def test_text_in_place_of_a_list_is_one_sentence(result: UpsampleResult) -> None:
    with pytest.raises(SettingsError, match=r"write \['Gene0'\]"):
        expression(result, "Gene0")


def test_result_without_expression_is_one_sentence(slide: Slide) -> None:
    with pytest.raises(InputError, match="run again with expression 'auto'"):
        expression(upsample(slide, expression="none", **SETTINGS), ["Gene0"])


def test_new_counts_scatter_as_poisson_counts_around_uncertain_rates(slide: Slide, tmp_path: Path) -> None:
    sampled = upsample(slide, mode="sample", **SETTINGS)
    assert sampled.expression is not None
    assert sampled.expression_std is not None
    mean, rate_std = (matrix[:, [5, 0]].toarray() for matrix in (sampled.expression, sampled.expression_std))
    found = new_count_std(sampled, ["Gene5", "Gene0"])
    np.testing.assert_allclose(found, np.sqrt(mean + rate_std**2), rtol=1e-6)
    assert (found[mean > 0] > rate_std[mean > 0]).all()
    for name in ("result.zarr", "result.h5ad"):
        read = read_result(write_result(sampled, tmp_path / name))
        np.testing.assert_array_equal(new_count_std(read, ["Gene5", "Gene0"]), found)


def test_missing_standard_deviations_are_reported(slide: Slide, result: UpsampleResult) -> None:
    with pytest.raises(InputError, match="mode 'sample'"):
        new_count_std(result, ["Gene0"])
    with pytest.raises(SettingsError, match="list of names"):
        new_count_std(result, "Gene0")
    some = upsample(slide, mode="sample", expression=["Gene1"], **SETTINGS)
    with pytest.raises(InputError, match="no expression of gene 'Gene0'"):
        new_count_std(some, ["Gene1", "Gene0"])
