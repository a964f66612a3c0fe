from __future__ import annotations

import dataclasses
import json

import pytest
from helpers.slides import image_element

from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_description import describe_slide
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import write_store


def test_description_is_complete_and_json_serializable(make_slide, make_store, tmp_path):
    made = make_slide(6, 6, lattice="hex")
    write_store(make_store(made, images={"he": image_element()}), tmp_path / "slide.zarr")
    description = describe_slide(tmp_path / "slide.zarr")
    plain = json.loads(json.dumps(dataclasses.asdict(description)))
    assert plain["usable"] is True
    assert plain["problems"] == []
    assert plain["n_spots"] == 36
    assert plain["n_genes"] == made.n_genes
    assert plain["lattice"] == "hex"
    assert plain["pitch"] == pytest.approx(100)
    assert plain["spot_diameter"] == pytest.approx(55)
    assert plain["image_size"] == [60, 40]
    assert plain["elements"] == {"images": ["he"], "labels": [], "points": [], "shapes": ["spots"], "tables": ["table"]}


def test_description_of_an_unusable_slide_names_the_problem(make_slide, make_store, tmp_path):
    made = make_slide(3, 3)
    write_store(make_store(made, x=made.counts.log1p()), tmp_path / "slide.zarr")
    description = describe_slide(tmp_path / "slide.zarr")
    assert not description.usable
    assert len(description.problems) == 1
    assert "raw counts" in description.problems[0]
    assert description.elements["tables"] == ["table"]


def test_description_of_a_result_names_its_run_and_slide(make_slide, make_store, make_result, tmp_path):
    made = make_slide(3, 3)
    path = tmp_path / "slide.zarr"
    write_store(make_store(made), path)
    assert describe_slide(path).results == {}
    result = make_result(read_slide(path))
    description = describe_slide(write_result(result, tmp_path / "out.zarr"))
    assert not description.usable
    assert len(description.problems) == 1
    assert str(path) in description.problems[0]
    assert "read_result" in description.problems[0]
    assert description.problems[0].endswith(".")
    entry = description.results[result.run]
    assert (entry["pixels"], entry["genes"], entry["slide"]) == (result.n_pixels, len(result.genes), str(path))
    write_result(result, path, into_slide=True)
    description = describe_slide(path)
    assert description.usable
    assert list(description.results) == [result.run]
    json.dumps(dataclasses.asdict(description))
