"""TODO docstring."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_srast.errors import InputError, SrastError
from napari_srast.training.cross_validation import score_folds, write_scores

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Score the folds of a recipe; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m napari_srast.training.scoring", description=__doc__)
    parser.add_argument("source", type=Path, help="the recipe, a .toml file, or the scores.json of its work folder")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for scores.json, tables and plots")
    options = parser.parse_args(arguments)
    try:
        rows = _kept_rows(options.source) if options.source.suffix == ".json" else _scored(options.source)
        written = write_scores(rows, options.out)
    except SrastError as error:
        sys.stderr.write(f"\n{error}\n")
        return 2
    sys.stderr.write("\n")
    sys.stdout.write("\n".join(str(path) for path in written) + "\n")
    return 0


def _scored(recipe: Path) -> list[dict[str, Any]]:
    from napari_srast._utils.devices import one_thread
    from napari_srast.training.pipeline import train_folds
    from napari_srast.training.recipe import read_recipe

    def tell(stage: str, done: int, total: int, word: str) -> None:
        sys.stderr.write(f"\r{stage} {done}/{total} {word}".ljust(90))

    folds = train_folds(read_recipe(recipe), tell)
    with one_thread():
        return score_folds(folds, lambda done, total, name: tell("score", done, total, name))


def _kept_rows(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found["cases"] if isinstance(found, dict) else found
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"'{path}' holds no scores ({error}); name the scores.json of a training.") from error


if __name__ == "__main__":
    sys.exit(main())
