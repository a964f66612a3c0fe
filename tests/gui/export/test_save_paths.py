from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_srast.core.slide import Slide, SlideSource
from napari_srast.gui.export.save_paths import complete_suffix, suggested_path

pytestmark = pytest.mark.gui


def test_files_are_suggested_next_to_the_store_of_the_slide(make_slide: Callable[..., Slide], tmp_path: Path) -> None:
    slide = dataclasses.replace(make_slide(), source=SlideSource(path=str(tmp_path / "breast.zarr")))
    assert suggested_path(slide, "breast", "ERBB2", "KRT19", suffix=".png") == str(tmp_path / "breast_ERBB2_KRT19.png")
    assert suggested_path(slide, "breast, spots/8", "HLA-A*02:01", suffix=".pdf") == str(
        tmp_path / "breast_spots_8_HLA-A_02_01.pdf"
    )
    name = Path(suggested_path(slide, "breast", *["G" * 50] * 6, suffix=".svg")).name
    assert len(name) < 100
    assert name.endswith(".svg")


def test_files_of_other_slides_are_suggested_in_the_home_folder(
    make_slide: Callable[..., Slide], tmp_path: Path
) -> None:
    for source in (SlideSource(), SlideSource(path=str(tmp_path / "a.zarr"), synthetic=True)):
        slide = dataclasses.replace(make_slide(), source=source)
        assert suggested_path(slide, "a", "regions", suffix=".geojson") == str(Path.home() / "a_regions.geojson")
    missing = dataclasses.replace(make_slide(), source=SlideSource(path=str(tmp_path / "gone" / "a.zarr")))
    assert Path(suggested_path(missing, "a", suffix=".png")).parent == Path.home()


@pytest.mark.parametrize(
    ("given", "chosen", "completed"),
    [
        ("a.pdf", "PNG (*.png)", "a.pdf"),
        ("a.PDF", "PNG (*.png)", "a.PDF"),
        ("a", "SVG (*.svg)", "a.svg"),
        ("a", "", "a.png"),
        ("section 4.2", "PDF (*.pdf)", "section 4.2.pdf"),
    ],
)
def test_names_without_a_known_ending_get_that_of_the_chosen_kind(given: str, chosen: str, completed: str) -> None:
    assert complete_suffix(f"/data/{given}", chosen, (".png", ".pdf", ".svg")) == Path(f"/data/{completed}")
