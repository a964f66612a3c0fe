from __future__ import annotations

import numpy as np
import pytest
from helpers.results import with_expression
from scipy import sparse

from napari_srast.errors import InputError
from napari_srast.io import result_images
from napari_srast.io.result_elements import result_names, to_anndata, to_spatialdata
from napari_srast.io.result_images import expression_columns, image_genes


def test_image_shows_the_most_abundant_genes(make_slide, make_result):
    rng = np.random.default_rng(0)
    result = make_result(make_slide(3, 3, counts=rng.poisson(np.linspace(1, 50, 80), size=(9, 80))))
    columns = image_genes(result)["counts"]
    assert len(columns) == result_images.MAX_IMAGE_GENES
    assert (np.diff(columns) > 0).all()
    totals = result.counts.toarray().sum(axis=0)
    assert totals[columns].min() >= np.delete(totals, columns).max()
    table = to_anndata(result)
    assert table.n_vars == 80
    assert list(table.uns["napari_srast"]["image_genes"]) == list(result.genes[columns])
    image = to_spatialdata(result).images[result_names(result).image]
    assert list(image.coords["c"].values) == list(result.genes[columns])


def test_image_is_computed_one_gene_at_a_time(make_result, monkeypatch):
    result = make_result()
    image = to_spatialdata(result).images[result_names(result).image]
    calls = []
    original = result_images.to_dense_image
    monkeypatch.setattr(result_images, "to_dense_image", lambda *args: calls.append(1) or original(*args))
    np.testing.assert_array_equal(image[1].values, np.nan_to_num(result.gene_image(str(result.genes[1]))))
    assert len(calls) == 1


def test_group_size_of_genes_does_not_change_the_image(make_slide, make_result, monkeypatch):
    result = make_result(make_slide(6, 6, n_genes=7))
    expected = to_spatialdata(result).images[f"srast_{result.run}"].values
    for group_size in (1, 3):
        monkeypatch.setattr(result_images, "_COLUMN_VALUES", group_size * result.n_pixels)
        image = to_spatialdata(result).images[f"srast_{result.run}"].values
        np.testing.assert_array_equal(image, expected)
    for channel, gene in zip(expected, result.genes, strict=True):
        np.testing.assert_array_equal(channel, np.nan_to_num(result.gene_image(gene)))


def test_expression_image_shows_image_genes_with_expression(make_slide, make_result):
    counts = np.random.default_rng(0).poisson(np.linspace(1, 50, 80), size=(9, 80))
    result = make_result(make_slide(3, 3, counts=counts))
    shown = image_genes(result)["counts"]
    hidden = np.setdiff1d(np.arange(80), shown)
    with_both = with_expression(result, np.sort([hidden[0], shown[0], shown[9]]))
    np.testing.assert_array_equal(image_genes(with_both)["expression"], shown[[0, 9]])
    assert "expression" not in image_genes(with_expression(result, hidden[:2]))


def test_expression_is_for_all_genes_unless_there_are_many(make_slide, make_result, monkeypatch):
    result = make_result(make_slide(5, 6, n_genes=7))
    run = (result.slide, result.raster, np.array([1, 3, 4, 6]))
    assert expression_columns(*run, "none").size == 0
    np.testing.assert_array_equal(expression_columns(*run, "auto"), np.arange(4))
    monkeypatch.setattr(result_images, "MAX_IMAGE_GENES", 2)
    with monkeypatch.context() as few:
        few.setattr(result_images, "MAX_EXPRESSION_GENES", 3)
        np.testing.assert_array_equal(expression_columns(*run, "auto"), result_images.image_columns(*run))
    monkeypatch.setattr(result_images, "MAX_EXPRESSION_ENTRIES", 4 * result.n_pixels)
    assert len(expression_columns(*run, "auto")) == 2


def test_genes_of_expression_are_found_by_name(make_slide, make_result):
    result = make_result(make_slide(5, 6, n_genes=7))
    names = [str(gene) for gene in result.slide.genes]
    run = (result.slide, result.raster, np.array([6, 3, 1]))
    np.testing.assert_array_equal(expression_columns(*run, (names[1], names[6])), [0, 2])
    with pytest.raises(InputError, match=f"expression of gene '{names[0]}' was asked for, but the run"):
        expression_columns(*run, (names[1], names[0]))
    with pytest.raises(InputError, match="no gene 'absent'"):
        expression_columns(*run, ("absent",))


@pytest.mark.parametrize("max_bytes_in_memory", [1 << 26, 0])
def test_genes_of_an_image_are_the_same_in_memory_and_in_a_file(monkeypatch, max_bytes_in_memory):
    monkeypatch.setattr(result_images, "_MAX_BYTES_IN_MEMORY", max_bytes_in_memory)
    values = sparse.random(600, 5, 0.5, format="csr", dtype=np.float32, random_state=0)
    buffer = result_images.ImageBuffer(np.array([3, 0]), 600)
    for rows in (np.arange(0, 600, 2), np.arange(1, 600, 2)):
        buffer.add(rows, values[rows])
    np.testing.assert_array_equal(buffer.read(0), values[:, [3]].toarray()[:, 0])
    np.testing.assert_array_equal(buffer.read(1), values[:, [0]].toarray()[:, 0])
