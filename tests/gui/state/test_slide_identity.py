"""Slides that are open already."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from napari_srast.core.slide import Slide, SlideSource
from napari_srast.gui.state.slide_identity import is_same_slide, path_of

pytestmark = pytest.mark.gui


def test_path_of_a_source_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ("a.zarr", Path("a.zarr"), SimpleNamespace(path="a.zarr"), "sub/../a.zarr"):
        assert path_of(source) == tmp_path.resolve() / "a.zarr"
    assert path_of(SimpleNamespace()) is None


def test_same_elements_of_a_store_are_the_same_slide(make_slide: Callable[..., Slide]) -> None:
    source = SlideSource(path="a.zarr", spots="spots", table="table")
    one, again = (dataclasses.replace(make_slide(4, 4), source=source) for _ in range(2))
    other = dataclasses.replace(one, source=dataclasses.replace(source, table="other"))
    assert is_same_slide(one, again)
    assert not is_same_slide(one, other)


def test_slides_in_memory_are_distinct(make_slide: Callable[..., Slide]) -> None:
    one, other = make_slide(4, 4), make_slide(4, 4)
    assert is_same_slide(one, one)
    assert not is_same_slide(one, other)
