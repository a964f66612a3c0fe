from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from napari.components import ViewerModel

from napari_srast.core.slide import Slide, SlideSource
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.state.slide_session import SlideSession, unique_titles
from napari_srast.gui.state.workspace import Workspace

pytestmark = pytest.mark.gui


@pytest.fixture
def open_session(make_slide: Callable[..., Slide]) -> Callable[..., SlideSession]:
    workspace = Workspace(ViewerModel())

    def make(path: str, image: str | None, table: str = "table") -> SlideSession:
        source = SlideSource(path=path, spots="spots", table=table, image=image)
        slide = dataclasses.replace(make_slide(3, 3), source=source)
        return workspace.new_session(LoadedSlide(slide=slide, source=path))

    return make


def test_slides_with_equal_names_get_distinct_titles(open_session: Callable[..., SlideSession]) -> None:
    first, other_image, no_image = (open_session("/a/one.zarr", image) for image in ("he", "he2", None))
    assert unique_titles([first, open_session("/a/two.zarr", "he")]) == ["one", "two"]
    assert unique_titles([first, other_image, no_image]) == ["one, he", "one, he2", "one, no image"]
    assert unique_titles([first, open_session("/a/one.zarr", "he", "raw")]) == ["one, table", "one, raw"]
    assert unique_titles([first, open_session("/b/one.zarr", "he")]) == ["one (1)", "one (2)"]
