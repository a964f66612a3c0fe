from __future__ import annotations

from pathlib import Path

import pytest

from napari_srast.gui.state.preferences import UserPreferences

pytestmark = pytest.mark.gui


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "preferences" / "window.json"


def test_recent_slides_are_stored_newest_first(file: Path) -> None:
    preferences = UserPreferences.load(file)
    for i in range(12):
        preferences.add_slide(f"/slides/{i}.zarr")
    preferences.add_slide("/slides/5.zarr")
    stored = UserPreferences.load(file)
    assert stored.slides[:2] == ["/slides/5.zarr", "/slides/11.zarr"]
    assert len(stored.slides) == 10
    stored.forget_slides()
    assert UserPreferences.load(file).slides == []


def test_favorites_are_toggled_and_stored(file: Path) -> None:
    preferences, changes = UserPreferences.load(file), []
    preferences.favorites_changed.connect(lambda: changes.append(list(preferences.genes)))
    preferences.toggle_favorite("ERBB2")
    assert UserPreferences.load(file).genes == ["ERBB2"]
    preferences.toggle_favorite("ERBB2")
    assert UserPreferences.load(file).genes == []
    assert changes == [["ERBB2"], []]


@pytest.mark.parametrize("content", ["", "[]", '{"slides": 3}', "\x00"])
def test_damaged_file_gives_empty_preferences(file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_text(content)
    assert UserPreferences.load(file).slides == []
