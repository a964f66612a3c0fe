"""Names of runs."""

from __future__ import annotations

import pytest

from napari_srast.core.run_name import check_run_name
from napari_srast.errors import SettingsError


@pytest.mark.parametrize("name", [None, "tumor_4x", "4x", "a" * 64, "my_table_2"])
def test_valid_names_are_kept(name: str | None) -> None:
    assert check_run_name(name) == name


@pytest.mark.parametrize("name", ["", "tumor 4x", "_tumor", "a" * 65, "tumor/4x", "größe"])
def test_names_with_other_characters_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="must have 1 to 64 letters, digits and underscores"):
        check_run_name(name)


@pytest.mark.parametrize("name", ["tumor_table", "tumor_Labels", "region_1", "a_pixels", "a_expression"])
def test_names_of_other_elements_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="choose another one"):
        check_run_name(name)
