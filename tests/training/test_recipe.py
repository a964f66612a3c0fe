"""Recipes: invalid files and entries are reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from napari_srast.errors import InputError, SettingsError
from napari_srast.training.pipeline import train_from_recipe
from napari_srast.training.recipe import read_recipe


def test_invalid_recipes_are_reported(tmp_path: Path, write_recipe: Callable[[Path], Path]) -> None:
    with pytest.raises(InputError, match=r"missing\.toml"):
        read_recipe(tmp_path / "missing.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("name = ")
    with pytest.raises(InputError, match="not valid TOML"):
        read_recipe(bad)
    bad.write_text('name = "x"\n')
    with pytest.raises(InputError, match="data"):
        read_recipe(bad)
    recipe = write_recipe(tmp_path)
    recipe.write_text(recipe.read_text().replace("epochs = 5", "epoch = 5"))
    with pytest.raises(SettingsError, match="epoch"):
        train_from_recipe(recipe)
    recipe = write_recipe(tmp_path)
    recipe.write_text(recipe.read_text().replace("a.h5ad", "gone.h5ad"))
    with pytest.raises(InputError, match="gone"):
        train_from_recipe(recipe)
    recipe.write_text(recipe.read_text().replace("gone.h5ad", "b.h5ad"))
    with pytest.raises(InputError, match="same file name"):
        read_recipe(recipe)
