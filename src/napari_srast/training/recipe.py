"""Read training recipes: the .toml files of ``napari-srast train RECIPE.toml``.

A recipe lists its slides with study and license, the ranges of the pseudo-slides, and the sizes and schedule of the
training.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_srast.errors import InputError
from napari_srast.training.sources import SourceSlide

__all__ = ["Recipe", "read_recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A parsed recipe.

    Parameters
    ----------
    name
        Name of the checkpoint.
    output
        The .safetensors file to write. Its model card is written next to it.
    work
        Folder for caches, resumable states and scores.
    sources
        Slides and procedural tissues to train on.
    folds
        Number of folds of studies for the scores on held-out studies; 0 skips the scores.
    cases
        Keywords of :class:`napari_srast.training.sources.PseudoSlideSettings`.
    sasa
        Keywords of :class:`napari_srast.models.sasa.config.SasaConfig`.
    network
        Keywords of :class:`napari_srast.models.pcfm.network.DiTConfig`.
    trainer
        Keywords of :class:`napari_srast.training.trainer.TrainerConfig`.
    licenses
        Source and license of each slide, for the model card.
    seed
        Random seed of the pseudo-slides and the training.
    text
        Text of the recipe file; it is stored in the checkpoint.
    """

    name: str
    output: Path
    work: Path
    sources: tuple[SourceSlide, ...]
    folds: int
    cases: dict[str, Any]
    sasa: dict[str, Any]
    network: dict[str, Any]
    trainer: dict[str, Any]
    licenses: dict[str, str]
    seed: int
    text: str


def read_recipe(path: str | Path) -> Recipe:
    """Parse a recipe.

    Parameters
    ----------
    path
        A .toml file. Paths in it are relative to its folder; the environment variable ``NAPARI_SRAST_DATA`` overrides
        its data folder.

    Raises
    ------
    InputError
        The file is missing, is not TOML, or lacks an entry.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"The recipe '{path}' does not exist; give a .toml file, such as 'training/recipes/default.toml'."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"The recipe '{path}' is not UTF-8 text; save it as UTF-8.") from error
    try:
        return _parse(path, text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The recipe '{path}' is not valid TOML ({error}); correct that line.") from error
    except KeyError as error:
        raise InputError(f"The recipe '{path}' lacks the entry {error}; add it as in the shipped recipe.") from error


def _parse(path: Path, text: str) -> Recipe:
    values = tomllib.loads(text)
    sources, licenses = _read_slides(path, values)
    return Recipe(
        name=values["name"],
        output=path.parent / values["output"],
        work=path.parent / values.get("work", f"runs/{values['name']}"),
        sources=(*sources, *_procedural_sources(values.get("tissues", {}))),
        folds=values.get("folds", 3),
        cases=_lists_to_tuples(values.get("cases", {})),
        sasa=values.get("sasa", {}),
        network=values.get("network", {}),
        trainer=values.get("trainer", {}),
        licenses=licenses,
        seed=values.get("seed", 0),
        text=text,
    )


def _read_slides(path: Path, values: dict[str, Any]) -> tuple[list[SourceSlide], dict[str, str]]:
    """Return the slides of a recipe and the license of each."""
    folder = Path(os.environ.get("NAPARI_SRAST_DATA", path.parent / values["data"]))
    sources, licenses = [], {}
    for entry in values["slides"]:
        file = folder / entry["file"]
        sources.append(
            SourceSlide(
                name=file.stem,
                study=entry["study"],
                path=file,
                resolution=entry["resolution"],
                cases=entry.get("cases", 4),
            )
        )
        licenses[file.stem] = entry.get("licence", "not stated")
    if len(licenses) < len(sources):
        raise InputError(f"The recipe '{path}' lists two slides with the same file name; rename one of the files.")
    return sources, licenses


def _procedural_sources(section: dict[str, Any]) -> list[SourceSlide]:
    """Return the procedural tissues of a recipe's section ``[tissues]``."""
    return [
        SourceSlide(
            name=f"procedural_{i}",
            study=f"procedural_{i % section.get('studies', 8)}",
            resolution="procedural",
            cases=section.get("cases", 1),
            tissue_seed=i,
        )
        for i in range(section.get("number", 0))
    ]


def _lists_to_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
