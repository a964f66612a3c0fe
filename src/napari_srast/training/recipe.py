"""From a recipe to a checkpoint: ``napari-srast train RECIPE.toml``.

A recipe names its slides with study and license, the ranges of the pseudo-slides, the sizes and the schedule. Studies
are split into folds: each fold's network is scored on the studies that it has not seen, and the fleet's calibration is
fitted there; the checkpoint that is kept is trained on all of them. Every stage is written down as it ends, so that a
run that was killed goes on where it was.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_srast.errors import InputError

if TYPE_CHECKING:
    pass

__all__ = [
    "Recipe",
    "read_recipe",
]

Report = Callable[[str, int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A parsed recipe.

    Parameters
    ----------
    name
        Name of the checkpoint.
    output
        The .safetensors file to write; its model card lies beside it.
    work
        Folder for resumable states and scores.
    sources
        Slides and procedural tissues to train on.
    folds
        Number of folds of studies that are scored unseen; 0 skips this.
    cases, sasa, network, trainer
        Sections of the recipe, as keywords of the dataclasses of the same name.
    licenses
        For each slide the source and license, for the model card.
    seed
        Seeds cases and training.
    text
        The recipe itself, kept in the checkpoint.
    """

    name: str
    output: Path
    work: Path
    sources: tuple[Any, ...]
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

    Raises
    ------
    InputError
        The file is missing, is not TOML, or lacks a section.
    """
    from napari_srast.training.pseudo_slides import SourceSlide

    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"There is no recipe '{path}'; name a .toml file, such as the one beside the shipped checkpoint."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"The recipe '{path}' is not UTF-8 text; save it as such.") from error
    try:
        values = tomllib.loads(text)
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
            raise InputError(f"The recipe '{path}' names two slides with the same file name; rename one of the files.")
        tissues = values.get("tissues", {})
        sources += [
            SourceSlide(
                name=f"procedural_{i}",
                study=f"procedural_{i % tissues.get('studies', 8)}",
                resolution="procedural",
                cases=tissues.get("cases", 1),
                tissue_seed=i,
            )
            for i in range(tissues.get("number", 0))
        ]
        return Recipe(
            name=values["name"],
            output=path.parent / values["output"],
            work=path.parent / values.get("work", f"runs/{values['name']}"),
            sources=tuple(sources),
            folds=values.get("folds", 3),
            cases=_tuples(values.get("cases", {})),
            sasa=values.get("sasa", {}),
            network=values.get("network", {}),
            trainer=values.get("trainer", {}),
            licenses=licenses,
            seed=values.get("seed", 0),
            text=text,
        )
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The recipe '{path}' is not valid TOML ({error}); mend that line.") from error
    except KeyError as error:
        raise InputError(f"The recipe '{path}' lacks the entry {error}; add it as in the shipped recipe.") from error


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
