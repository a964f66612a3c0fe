from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest

from napari_srast.core.gene_list import parse_expression
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide, SlideSource
from napari_srast.errors import InputError
from napari_srast.gui.export.command_line import command_line

pytestmark = pytest.mark.gui


@pytest.fixture
def slide(make_slide: Callable[..., Slide]) -> Slide:
    return make_slide(source=SlideSource(path="/data/my slide.zarr", spots="spots", table="table"))


def test_command_has_only_settings_that_differ_from_the_default(
    slide: Slide, make_result: Callable[..., UpsampleResult]
) -> None:
    arguments = shlex.split(command_line(make_result(slide, factor=UpsampleSettings.factor)))
    assert arguments[:3] == ["napari-srast", "upsample", "/data/my slide.zarr"]
    assert "--genes" not in arguments
    assert "--region" not in arguments
    assert arguments[arguments.index("--image") + 1] == "none"
    assert arguments[arguments.index("--method") + 1] == "uniform"
    assert "--factor" not in arguments


def test_command_has_pixel_size_instead_of_factor(slide: Slide, make_result: Callable[..., UpsampleResult]) -> None:
    arguments = shlex.split(command_line(make_result(slide, factor=3.0, pixel_size=30.0, seed=5)))
    assert arguments[arguments.index("--pixel-size") + 1] == "30.0"
    assert arguments[arguments.index("--seed") + 1] == "5"
    assert "--factor" not in arguments


def test_command_needs_a_slide_from_a_store(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    with pytest.raises(InputError, match="not read from a store"):
        command_line(make_result(make_slide()))


def test_command_reads_the_same_section_counts_and_shape(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    source = SlideSource(path="/data/two.zarr", library="B", counts="raw", spot_shape="square")
    arguments = shlex.split(command_line(make_result(make_slide(source=source))))
    for option, value in (("--library", "B"), ("--counts", "raw"), ("--spot-shape", "square")):
        assert arguments[arguments.index(option) + 1] == value


def test_command_lists_the_genes_of_expression(slide: Slide, make_result: Callable[..., UpsampleResult]) -> None:
    genes = [str(gene) for gene in slide.genes[:2]]
    arguments = shlex.split(command_line(make_result(slide, expression=genes)))
    assert parse_expression(arguments[arguments.index("--expression") + 1]) == tuple(genes)
    assert "--expression" not in shlex.split(command_line(make_result(slide)))
