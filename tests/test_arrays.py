"""The names of arrays: each states a shape in the letters of the style guide, and the one that the docs state."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing

import pytest

from napari_srast import arrays
from napari_srast.core.result import UpsampleMetadata, UpsampleResult
from napari_srast.core.sinks import ResultPlan
from napari_srast.core.slide import Slide
from napari_srast.geometry.raster import Raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.job import UpsampleJob

CLASSES = [Slide, UpsampleMetadata, UpsampleResult, ResultPlan, Raster, SpotPixelMap, UpsampleJob]
LETTERS = "[NGFQE]|2|3"


def shape_of(annotation: object) -> str | None:
    """Return the shape that an alias states; None for other annotations."""
    found = re.search(r"'(\([^()]*\)) ", str(annotation))
    return found.group(1) if found and "Annotated" in str(annotation) else None


@pytest.mark.parametrize("name", arrays.__all__)
def test_alias_starts_with_a_shape_and_says_what_it_holds(name: str) -> None:
    kind, text = typing.get_args(getattr(arrays, name))
    assert inspect.isclass(kind)
    assert re.fullmatch(rf"\((?:{LETTERS})(?:,|(?:, (?:{LETTERS}))+)\) \w.{{10,}}", text)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_documented_shapes_are_those_of_the_annotations(cls: type) -> None:
    doc = inspect.getdoc(cls) or ""
    aliased = 0
    for field in dataclasses.fields(cls):
        text = str(field.type)
        names = [name for name in arrays.__all__ if re.search(rf"\b{name}\b", text)]
        described = re.search(rf"^{field.name}\n((?:    .*\n?)+)", doc, re.MULTILINE)
        if not names or described is None:
            continue
        stated = re.search(r"shape (\([NGFQE23, ]+\))", described.group(1))
        if stated is not None:
            aliased += 1
            letters = stated.group(1).replace("F", "G")  # chosen genes are genes, too
            assert letters == shape_of(getattr(arrays, names[0])).replace("F", "G"), field.name
    assert aliased > 0
