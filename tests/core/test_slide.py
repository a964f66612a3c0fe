"""Tests of slides: validation and selection of genes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import napari_srast as srast
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError, SettingsError


@pytest.fixture
def slide(make_slide) -> Slide:
    return make_slide(4, 4)


def test_genes_are_selected_by_name(slide: Slide) -> None:
    names = [str(slide.genes[2]), str(slide.genes[0])]
    assert slide.gene_indices([*names, names[0]]).tolist() == [2, 0]
    assert slide.gene_indices(None).tolist() == list(range(slide.n_genes))


def test_unknown_gene_gets_suggestions(slide: Slide) -> None:
    with pytest.raises(InputError, match=f"did you mean {slide.genes[0]}"):
        slide.gene_indices([str(slide.genes[0]).upper() + " "])
    with pytest.raises(InputError, match="'napari-srast info' lists the panel"):
        slide.gene_indices(["?"])


def test_empty_gene_list_and_text_are_refused(slide: Slide) -> None:
    with pytest.raises(SettingsError, match="list of genes is empty"):
        slide.gene_indices([])
    with pytest.raises(SettingsError, match="as a list of names"):
        slide.gene_indices("Gene0")


def test_all_columns_are_not_copied(slide: Slide) -> None:
    assert slide.select_counts(np.arange(slide.n_genes)) is slide.counts
    assert slide.select_counts(np.array([1])).shape == (slide.n_spots, 1)


def test_mismatched_slide_is_refused(slide: Slide) -> None:
    with pytest.raises(InputError, match="spot centers"):
        dataclasses.replace(slide, centers=slide.centers[1:])
    with pytest.raises(InputError, match="choose one of: global"):
        dataclasses.replace(slide, coordinate_system="elsewhere")


def test_genes_are_selected_by_name_or_id(make_slide) -> None:
    slide = make_slide(3, 3, n_genes=3, gene_ids=np.array(["ENSG2", "ENSG0", "ENSG1"], dtype=object))
    assert slide.gene_indices(["ENSG1", "Gene0", "ENSG2"]).tolist() == [2, 0]  # the last one is Gene0 again
    with pytest.raises(InputError, match="no gene 'ENSG9'; did you mean"):
        slide.gene_indices(["ENSG9"])
    versions = np.array(["ENSG00000000000.1", "ENSG00000000001.1", "ENSG00000000002.1"], dtype=object)
    named = make_slide(3, 3, n_genes=3, gene_ids=versions)
    assert named.gene_indices(["ENSG00000000002", "ENSG00000000001.7"]).tolist() == [2, 1]
    with pytest.raises(InputError, match="3 genes and 2 gene ids"):
        make_slide(3, 3, n_genes=3, gene_ids=np.array(["ENSG2", "ENSG0"]))


def test_description_of_a_slide_is_short(make_slide) -> None:
    text = repr(make_slide(20, 20, n_genes=30, notices=("one", "two")))
    assert len(text.splitlines()) <= 5
    assert all(len(line) < 160 for line in text.splitlines())
    for part in ("400 spots", "30 genes", "Gene0", "no image", "'global'", "2 notices"):
        assert part in text


def test_path_in_place_of_a_slide_is_one_sentence() -> None:
    for call in (srast.upsample, srast.estimate):
        with pytest.raises(SettingsError, match=r"not the path 'x.zarr'; read it first: .*read_slide\('x.zarr'\)"):
            call("x.zarr", None, None, settings=srast.UpsampleSettings())


def test_slides_and_results_are_described_in_a_few_lines(make_slide, make_result) -> None:
    slide = make_slide(4, 4, 40)
    text = repr(slide)
    assert text.startswith("Slide: 16 spots (")
    assert "40 genes (Gene0, Gene1, " in text
    assert len(text.splitlines()) <= 5
    assert len(repr(make_result(slide)).splitlines()) <= 8
    assert max(map(len, (text + repr(make_result(slide))).splitlines())) < 250
