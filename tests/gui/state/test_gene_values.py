from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import shapely
from helpers.results import with_expression
from scipy import sparse

from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.state.gene_values import GeneValues, ValueView

pytestmark = pytest.mark.gui
COLUMNS = [1, 4, 7]


@pytest.fixture
def result(make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]) -> UpsampleResult:
    return with_expression(make_result(make_slide(5, 6, n_genes=12)), COLUMNS)


def test_expression_is_the_default_and_counts_replace_it_where_it_is_missing(result: UpsampleResult) -> None:
    values, view = GeneValues.of(result), ValueView()
    assert [values.quantity(gene, view) for gene in ("Gene4", "Gene5")] == ["expression", "counts"]
    np.testing.assert_array_equal(values.of_pixels("Gene4", view), result.expression[:, [4]].toarray()[:, 0])
    np.testing.assert_array_equal(values.of_pixels("Gene5", view), result.counts[:, [5]].toarray()[:, 0])
    counts = ValueView(quantity="counts")
    np.testing.assert_array_equal(values.of_pixels("Gene4", counts), result.counts[:, [4]].toarray()[:, 0])
    assert values.unit(["Gene4"], view) == "expression, counts per pixel"
    assert values.unit(["Gene4", "Gene5"], view) == (
        "expression, counts per pixel; Gene5: counts (no expression computed)"
    )
    assert values.unit(["Gene5"], view) == "counts per pixel (no expression computed)"
    assert values.unit(["Gene4"], counts) == "counts per pixel"
    assert values.unit(["Gene4"], ValueView("counts", "log")) == "counts, log1p per 10,000"


def test_shares_are_of_the_total_over_the_genes_of_the_layer(result: UpsampleResult) -> None:
    values = GeneValues.of(result)
    expression, counts = result.expression.toarray(), result.counts.toarray()
    shares = values.of_pixels("Gene4", ValueView(scale="per_10k"))
    np.testing.assert_allclose(shares, 1e4 * expression[:, 4] / expression.sum(axis=1), rtol=1e-4)
    pixel = int(np.argmax(counts.sum(axis=1)))
    of_counts = values.of_pixels("Gene4", ValueView("counts", "log"))
    assert of_counts[pixel] == pytest.approx(np.log1p(1e4 * counts[pixel, 4] / counts[pixel].sum()), rel=1e-5)
    spot = int(result.raster.parent[pixel])
    measured = result.slide.counts.toarray()[spot]
    of_spots = values.of_spots("Gene4", ValueView(scale="per_10k"))
    assert of_spots[spot] == pytest.approx(1e4 * measured[4] / measured[COLUMNS].sum(), rel=1e-5)
    of_spots = values.of_spots("Gene4", ValueView("counts", "per_10k"))
    assert of_spots[spot] == pytest.approx(1e4 * measured[4] / measured.sum(), rel=1e-5)


def test_small_totals_do_not_make_noise_bright(result: UpsampleResult) -> None:
    expression = result.expression.toarray()
    expression[0] = 0.0
    expression[1] = 0.0
    expression[1, 4] = 1e-6  # the whole of a total of nearly nothing
    values = GeneValues.of(dataclasses.replace(result, expression=sparse.csr_matrix(expression)))
    shares = values.of_pixels("Gene4", ValueView(scale="per_10k"))
    assert shares[0] == 0
    assert 0 < shares[1] < 1
    assert np.isfinite(shares).all()


def test_sparse_expression_gives_the_same_values_as_full_one(result: UpsampleResult) -> None:
    thinned = result.expression.toarray()
    thinned[::3] = 0.0
    values = GeneValues.of(dataclasses.replace(result, expression=sparse.csr_matrix(thinned)))
    for column in COLUMNS:
        np.testing.assert_array_equal(values.of_pixels(f"Gene{column}", ValueView()), thinned[:, column])


def test_runs_of_few_genes_have_no_shares(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    values = GeneValues.of(make_result(make_slide(n_genes=4)))
    assert values.allowed(ValueView("counts", "log", smooth=True)) == ValueView("counts", "as_is", smooth=True)


def test_measured_counts_are_those_of_the_spots_of_the_run(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    slide = make_slide(6, 6)
    result = make_result(slide, Region(shapely.box(-50, -50, 250, 250)), genes=["Gene4", "Gene1"])
    per_spot, counts = result.raster.n_pixels_per_spot, slide.counts.toarray()
    assert (per_spot == 0).any()
    for gene in ("Gene4", "Gene1"):
        expected = np.where(per_spot > 0, counts[:, int(gene[-1])], 0) / np.maximum(per_spot, 1)
        np.testing.assert_allclose(GeneValues.of(result).of_spots(gene, ValueView("counts")), expected)


@pytest.mark.parametrize("scale", ["as_is", "per_10k", "log"])
@pytest.mark.parametrize(("gene", "name"), [(4, "expression"), (5, "counts")])
def test_values_of_areas_are_means_over_their_pixels(result: UpsampleResult, scale: str, gene: int, name: str) -> None:
    rng = np.random.default_rng(0)
    weights = sparse.random(3, result.n_pixels, 0.1, random_state=rng, format="csr")
    matrix = getattr(result, name).toarray().astype(float)
    means = weights @ matrix / np.asarray(weights.sum(axis=1))
    shares = 1e4 * means[:, gene] / means.sum(axis=1)
    expected = {"as_is": means[:, gene], "per_10k": shares, "log": np.log1p(shares)}[scale]
    found = GeneValues.of(result).of_areas(weights, f"Gene{gene}", ValueView(scale=scale))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
